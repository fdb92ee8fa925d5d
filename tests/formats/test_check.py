import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from smallobj.boxes import InputError
from smallobj.formats import check_labels, read_labels

Write = Callable[[Path, str], Path]
Photo = Callable[..., Path]

ROWS = {
    "a.png": [
        [0, 1, 1, 5, 5],
        [0, 60, 40, 20, 20],
        [0, 90, 10, 5, 5],
        [0, 20, 20, -5, 5],
        [0, 20, 20, 0, 5],
        [0, 1, 1, 5],
        [0, 1, 1, 5, 5, 1],
        [0, 1, float("nan"), 5, 5],
        [0, 1, 1, float("inf"), 5],
        [0, None, 1, 5, 5],
        ["car", 1, 1, 5, 5],
        [7, 1, 1, 5, 5],
        [0, 1, 1, 5, 5],
        [1, 1, 1, 5, 5],
    ],
    "missing.png": [],
    "unreadable.png": [],
}

EXPECTED = [
    ("error", "number of values", "a.png", "box 5"),
    ("error", "number of values", "a.png", "box 6"),
    ("error", "not a number", "a.png", "box 7 y"),
    ("error", "not a number", "a.png", "box 8 w"),
    ("error", "not a number", "a.png", "box 9 x"),
    ("error", "not a number", "a.png", "box 10 class"),
    ("error", "unknown class", "a.png", "box 11 class"),
    ("error", "missing image", "missing.png", None),
    ("error", "unreadable image", "unreadable.png", None),
    ("error", "swapped corners", "a.png", "box 3"),
    ("error", "zero area", "a.png", "box 4"),
    ("error", "outside the image", "a.png", "box 2"),
    ("error", "outside the image", "a.png", "box 1"),
    ("warning", "duplicate box", "a.png", "box 12"),
    ("warning", "duplicate box", "a.png", "box 13"),
    ("warning", "class without boxes", None, "class"),
    ("notice", "image without labels", "other.png", None),
]


def test_every_fault_is_listed(tmp_path: Path, text_file: Write, photo: Photo) -> None:
    path = text_file(tmp_path / "labels.json", json.dumps(ROWS))
    text_file(tmp_path / "labels.names", "car\nbus\nvan\n")
    photo(tmp_path / "images" / "a.png")
    photo(tmp_path / "images" / "other.png")
    text_file(tmp_path / "images" / "unreadable.png", "no image")
    checked = check_labels(path)
    assert [(f.severity, f.kind, f.item, f.field) for f in checked.faults] == EXPECTED
    assert all(f.file for f in checked.faults)
    assert (checked.kind, checked.images, checked.boxes) == ("challenge", 3, 7)
    by_field = {f.field: f.value for f in checked.faults}
    assert by_field["box 6"] == "6 values: [0, 1, 1, 5, 5, 1]"
    assert by_field["box 9 x"] == "null"
    assert by_field["box 11 class"] == 7
    assert by_field["box 1"] == [60, 40, 20, 20]
    assert by_field["class"] == "van"


def test_the_first_fault_listed_is_the_one_that_stops_reading(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    path = text_file(tmp_path / "labels.json", json.dumps(ROWS))
    photo(tmp_path / "images" / "a.png")
    first = check_labels(path).faults[0]
    with pytest.raises(InputError) as error:
        read_labels(path)
    stopped = error.value
    assert (first.reason, first.item, first.field) == (stopped.reason, stopped.item, stopped.field)


def test_pixels_are_decoded_on_demand(tmp_path: Path, text_file: Write) -> None:
    text_file(tmp_path / "labels.json", '{"a.jpg": [[0, 1, 1, 5, 5]]}')
    Image.effect_noise((300, 200), 50).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    assert check_labels(tmp_path / "labels.json").faults == ()
    seen: list[tuple[int, int]] = []
    checked = check_labels(
        tmp_path / "labels.json", pixels=True, on_progress=lambda *done: seen.append(done)
    )
    assert [f.kind for f in checked.faults] == ["unreadable image"]
    assert "truncated" in checked.faults[0].reason
    assert seen == [(1, 1)]


def test_a_declared_size_that_the_image_has_not_is_an_error(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 48, "height": 64}],
        "annotations": [{"image_id": 2, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    photo(tmp_path / "a.png")
    path = text_file(tmp_path / "labels.json", json.dumps(content))
    found = [(f.kind, f.item, f.value) for f in check_labels(path).faults]
    assert found[:2] == [("unknown image", "annotations[0]", 2), ("image size", "a.png", None)]


def test_without_images_that_is_a_warning(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "labels.json", '{"a.png": [[0, 1, 1, 5, 5]]}')
    checked = check_labels(path)
    assert [(f.severity, f.kind) for f in checked.faults] == [("warning", "no image folder")]


def test_what_cannot_be_looked_at_is_the_only_fault(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "labels.json", "{")
    for data in (path, tmp_path / "none", tmp_path):
        checked = check_labels(data)
        assert [(f.severity, f.kind) for f in checked.faults] == [("error", "unreadable labels")]


def test_yolo_faults_are_listed(tmp_path: Path, text_file: Write, photo: Photo) -> None:
    for name in ("1", "2", "3"):
        photo(tmp_path / f"{name}.png")
    text_file(tmp_path / "2.png", "no image")
    text_file(
        tmp_path / "1.txt", "0 .5 .5 .1\n0 nan .5 .1 .1\n5 .5 .5 .1 .1\n0 30 20 8 8\n0 1 1 .5 .5\n"
    )
    text_file(tmp_path / "2.txt", "0 .5 .5 .1 .1\n")
    text_file(tmp_path / "4.txt", "0 .5 .5 .1 .1\n")
    text_file(tmp_path / "classes.txt", "car\n")
    checked = check_labels(tmp_path)
    assert [(f.kind, Path(f.file or "").name, f.field) for f in checked.faults] == [
        ("missing image", "4.txt", None),
        ("unreadable image", "2.png", None),
        ("number of values", "1.txt", "line 1"),
        ("not a number", "1.txt", "line 2 cx"),
        ("unknown class", "1.txt", "line 3 class"),
        ("not a fraction", "1.txt", "line 4 cx"),
        ("outside the image", "1.txt", "line 5"),
        ("image without labels", tmp_path.name, None),
    ]


def test_voc_faults_are_listed(tmp_path: Path, text_file: Write) -> None:
    objects = (
        "<object><name>car</name><bndbox><xmin>x</xmin></bndbox></object>"
        "<object><bndbox></bndbox></object>"
        "<object><name>van</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>3</xmax>"
        "<ymax>3</ymax></bndbox></object>"
    )
    text_file(tmp_path / "a.xml", f"<annotation><filename>a.png</filename>{objects}</annotation>")
    text_file(tmp_path / "b.xml", "<annotation><filename>a.png</filename></annotation>")
    text_file(tmp_path / "c.xml", "<annotation>")
    text_file(tmp_path / "d.xml", "<annotation><size><width>w</width></size></annotation>")
    checked = check_labels(tmp_path)
    assert [(f.kind, Path(f.file or "").name) for f in checked.faults[:6]] == [
        ("not a number", "a.xml"),
        ("unknown class", "a.xml"),
        ("unreadable labels", "c.xml"),
        ("not a number", "d.xml"),
        ("duplicate image", "b.xml"),
        ("zero area", "a.xml"),
    ]
