"""The list of detectors: names, one line each, and what each size costs."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from smallobj.cli.main import main
from smallobj.detectors import detector_class, list_detectors
from smallobj.detectors.cost import detector_costs


@pytest.mark.parametrize("name", list_detectors())
def test_the_usual_size_is_about_one_gflop_for_a_192_px_crop(name: str) -> None:
    costs = detector_costs(name, image_px=192, num_classes=6)
    usual = detector_class(name).Config.usual_size()
    assert all(0.7 <= cost.gflops <= 1.3 for cost in costs if cost.size == usual)
    assert all(less.gflops < more.gflops for less, more in pairwise(costs))
    assert costs[-2].parameters < costs[-1].parameters


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
        sizes = list(detector_class(entry["name"]).Config.SIZES)
        assert [size["size"] for size in entry["sizes"]] == sizes
        assert all(size["gflops"] > 0 and size["parameters"] > 0 for size in entry["sizes"])
