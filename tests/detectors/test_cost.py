"""The list of detectors: names, one line each, and what each size costs."""

import json
from pathlib import Path

import pytest

from smallobj.cli.main import main
from smallobj.detectors import detector_class, list_detectors
from smallobj.detectors.cost import detector_costs


@pytest.mark.parametrize("name", list_detectors())
def test_sizes_grow_from_what_two_cores_train(name: str) -> None:
    costs = detector_costs(name, image_px=192, num_classes=6)
    sizes = [cost.size for cost in costs]
    usual = sizes.index(detector_class(name).Config.usual_size())
    assert (sizes[0], usual) == ("tiny", 1)
    assert 0.5 <= costs[usual].gflops <= 3
    ladder = costs[: 5 if name == "yolo" else 4]
    gflops, parameters = zip(*((c.gflops, c.parameters) for c in ladder), strict=True)
    assert list(gflops) == sorted(set(gflops))
    assert parameters[0] < parameters[1] < parameters[-1]


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
        assert f"{entry['name']}: {entry['summary']} Licence: {entry['licence']}." in shown
        assert not entry["needs"] or f"pip install '{entry['needs']}'" in shown
        assert not entry["error"]
        assert [size["size"] for size in entry["sizes"]] == list(
            detector_class(entry["name"]).Config.SIZES
        )
        assert all(size["gflops"] > 0 and size["parameters"] > 0 for size in entry["sizes"])
