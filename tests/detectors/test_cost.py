"""The list of detectors: names, one line each, and what each size costs."""

import json
from pathlib import Path

import pytest

from smallobj.cli.main import main
from smallobj.detectors import list_detectors
from smallobj.detectors.cost import detector_costs


@pytest.mark.parametrize("name", list_detectors())
def test_small_is_about_one_gflop_for_a_192_px_crop(name: str) -> None:
    costs = {cost.size: cost for cost in detector_costs(name, image_px=192, num_classes=6)}
    assert 0.7 <= costs["small"].gflops <= 1.3
    assert costs["tiny"].gflops < costs["small"].gflops < costs["medium"].gflops
    assert costs["medium"].gflops < costs["large"].gflops
    assert costs["medium"].parameters < costs["large"].parameters


def test_the_command_lists_every_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["detectors", "--image-px", "100", "--json", str(tmp_path / "d.json")])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    listed = json.loads((tmp_path / "d.json").read_text())
    assert [entry["name"] for entry in listed] == list_detectors()
    for entry in listed:
        assert f"{entry['name']}: {entry['summary']}" in shown
        sizes = [size["size"] for size in entry["sizes"]]
        assert sizes[:4] == ["tiny", "small", "medium", "large"]
        assert all(size["gflops"] > 0 and size["parameters"] > 0 for size in entry["sizes"])
