"""Predictions that grow on disk: torn lines, other settings, damage."""

from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import InputError
from smallobj.prediction import Seen, part_path
from smallobj.prediction.part import PartFile, Stamp
from smallobj.tta import Boxes

SETTINGS = {"model": "m", "views": ["identity", "hflip"], "nms_iou": 0.5}
BOXES = Boxes(
    np.array([[1.25, 2, 3.5, 4], [0, 0, 9, 9]]), np.array([0.9, 0.001]), np.array([1, 0], np.int32)
)


IDS = ("0.jpg", "1.jpg", "2.jpg")
STAMP = Stamp(10, 20)


def seen(boxes: Boxes = BOXES) -> Seen:
    return Seen(0, 64, 48, boxes)


def grown(path: Path) -> bytes:
    with PartFile(path, SETTINGS, IDS) as part:
        for i in range(3):
            part.append(i, seen(), 0.5, STAMP)
    return path.read_bytes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    ids = ("a", "[/red]\n\u00e9", "not seen")
    with PartFile(tmp_path / "a.part.jsonl", SETTINGS, ids) as part:
        part.append(1, seen(Boxes.empty()), 0.5, STAMP)
        part.append(0, seen(), 0.25, STAMP)
        first, second = part.read_all([0, 1])
    assert part.seconds == 0.75
    assert part.done.tolist() == [True, True, False]
    assert first[1:3] == (64, 48)
    for column, expected in zip(first.boxes, BOXES, strict=True):
        assert np.array_equal(column, expected)
        assert column.dtype == expected.dtype
    assert second.boxes.xyxy.shape == (0, 4)


def test_the_last_line_of_an_image_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    grown(path)
    with PartFile(path, SETTINGS, IDS) as part:
        part.forget(1)
        part.append(1, seen(Boxes.empty()), 0.5, Stamp(11, 21))
    with PartFile(path, SETTINGS, ("1.jpg", "0.jpg")) as part:  # fewer images, another order
        assert part.stamps.tolist() == [[11, 21], [10, 20]]
        one, zero = part.read_all([0, 1])
        assert part.seconds == 1.5  # of the images asked for, every start
    assert len(one.boxes.score) == 0
    assert len(zero.boxes.score) == 2


def test_cut_anywhere_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    whole = grown(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with PartFile(path, SETTINGS, IDS) as part:
            assert part.done.sum() == max(0, whole[:length].count(b"\n") - 1)
            for i in np.flatnonzero(~part.done).tolist():
                part.append(i, seen(), 0.5, STAMP)
        assert path.read_bytes() == whole


def test_a_last_line_of_noise_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    whole = grown(path)
    path.write_bytes(whole + b"\0" * 40 + b"\n")
    with PartFile(path, SETTINGS, IDS) as part:
        assert part.done.all()
    assert path.read_bytes() == whole


def test_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    grown(path)
    with pytest.raises(InputError, match=r"other settings \(nms_iou 0\.5, now 0\.6\).*delete"):
        PartFile(path, SETTINGS | {"nms_iou": 0.6}, IDS)
    assert path.exists()


@pytest.mark.parametrize("line", [b"", b"{}", b'{"id":"a"}', b"[1]", b'{"id":"a","size":[1,2]'])
def test_damage_in_the_middle_is_an_error(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.part.jsonl"
    lines = grown(path).splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:], b""]))
    with pytest.raises(InputError, match="line 3 is damaged"):
        PartFile(path, SETTINGS, IDS)


def test_a_foreign_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.part.jsonl"
    path.write_bytes(b'{"a.jpg": []}\n')
    with pytest.raises(InputError, match="is no part file"):
        PartFile(path, SETTINGS, IDS)


def test_without_an_image_it_leaves_nothing(tmp_path: Path) -> None:
    with PartFile(tmp_path / "a.part.jsonl", SETTINGS, IDS):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_does_not_end_in_json() -> None:
    assert part_path(Path("runs/a.b.json")) == Path("runs/a.b.part.jsonl")
