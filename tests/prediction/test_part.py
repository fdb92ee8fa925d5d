"""Predictions that grow on disk: torn lines, other settings, damage."""

from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import InputError
from smallobj.prediction import Seen, part_path
from smallobj.prediction.part import PartFile
from smallobj.tta import Boxes

SETTINGS = {"model": "m", "views": ["identity", "hflip"], "nms_iou": 0.5}
BOXES = Boxes(
    np.array([[1.25, 2, 3.5, 4], [0, 0, 9, 9]]), np.array([0.9, 0.001]), np.array([1, 0], np.int32)
)


def seen(boxes: Boxes = BOXES) -> Seen:
    return Seen(0, 64, 48, boxes)


def grown(path: Path) -> bytes:
    with PartFile(path, SETTINGS) as part:
        for i in range(3):
            part.append(f"{i}.jpg", seen(), 0.5)
    return path.read_bytes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with PartFile(tmp_path / "a.part.jsonl", SETTINGS) as part:
        part.append("a", seen(), 0.25)
        part.append("[/red]\n\u00e9", seen(Boxes.empty()), 0.5)
        found, seconds = part.read()
    assert seconds == 0.75
    assert list(found) == ["a", "[/red]\n\u00e9"]
    assert found["a"][1:3] == (64, 48)
    for column, expected in zip(found["a"].boxes, BOXES, strict=True):
        assert np.array_equal(column, expected)
        assert column.dtype == expected.dtype
    assert found["[/red]\n\u00e9"].boxes.xyxy.shape == (0, 4)


def test_cut_anywhere_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    whole = grown(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with PartFile(path, SETTINGS) as part:
            assert len(part.done) == max(0, whole[:length].count(b"\n") - 1)
            for i in range(3):
                if f"{i}.jpg" not in part.done:
                    part.append(f"{i}.jpg", seen(), 0.5)
        assert path.read_bytes() == whole


def test_a_last_line_of_noise_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    whole = grown(path)
    path.write_bytes(whole + b"\0" * 40 + b"\n")
    with PartFile(path, SETTINGS) as part:
        assert len(part.done) == 3
    assert path.read_bytes() == whole


def test_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    grown(path)
    with pytest.raises(InputError, match=r"other settings \(nms_iou 0\.5, now 0\.6\).*delete"):
        PartFile(path, SETTINGS | {"nms_iou": 0.6})
    assert path.exists()


@pytest.mark.parametrize("line", [b"", b"{}", b'{"id":"a"}', b"[1]", b'{"id":"a","size":[1,2]'])
def test_damage_in_the_middle_is_an_error(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.part.jsonl"
    lines = grown(path).splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:], b""]))
    with pytest.raises(InputError, match="line 3 is damaged"):
        PartFile(path, SETTINGS)


def test_a_foreign_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    path.write_bytes(b'{"a.jpg": []}\n')
    with pytest.raises(InputError, match="is no part file"):
        PartFile(path, SETTINGS)


def test_without_an_image_it_leaves_nothing(tmp_path: Path) -> None:
    with PartFile(tmp_path / "a.part.jsonl", SETTINGS):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_does_not_end_in_json() -> None:
    assert part_path(Path("runs/a.b.json")) == Path("runs/a.b.part.jsonl")
