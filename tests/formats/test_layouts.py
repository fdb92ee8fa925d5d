"""The folder layouts that tools and contests hand out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import InputError
from smallobj.formats import read_labels

Write = Callable[[Path, str], Path]
Photo = Callable[..., Path]

LINE = "0 0.5 0.5 0.25 0.5\n"  # in 64 x 48 px: 24, 12, 40, 36
CORNERS = [24.0, 12.0, 40.0, 36.0]
CHALLENGE = json.dumps({"10.png": [[1.0, 24.0, 12.0, 16.0, 24.0]], "2.png": []})


@pytest.mark.parametrize("name", ["train/train_label", "train/train_label.json"])
@pytest.mark.parametrize("images", ["train/train_data", "images", "train", "train/photos"])
def test_the_challenge_layout(
    name: str, images: str, tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    text_file(tmp_path / name, CHALLENGE)
    for image in ("10.png", "2.png"):
        photo(tmp_path / images / image)
    labels = read_labels(tmp_path)
    assert labels.kind == "challenge"
    assert labels.root is not None
    assert labels.root.samefile(tmp_path / images)
    assert labels.table.images.ids == ("2.png", "10.png")
    assert labels.table.images.width.tolist() == [64, 64]
    assert labels.table.xyxy.tolist() == [CORNERS]
    assert labels.table.classes.names == ("0", "1")
    assert read_labels(tmp_path / name).table == labels.table
    assert read_labels(tmp_path / "train").table == labels.table


def test_the_challenge_layout_with_two_splits_and_names(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    for split in ("train", "val"):
        text_file(tmp_path / split / f"{split}_label", CHALLENGE)
        photo(tmp_path / split / f"{split}_data" / "2.png")
    text_file(tmp_path / "classes.txt", "SD card\nwebcam\n")
    labels = read_labels(tmp_path, split="val")
    assert labels.root == tmp_path / "val" / "val_data"
    assert labels.table.classes.names == ("SD card", "webcam")


def test_a_run_beside_labels_is_no_label_file(tmp_path: Path, text_file: Write) -> None:
    text_file(tmp_path / "labels.json", CHALLENGE)
    text_file(tmp_path / "runs" / "a.json", '{"2.png": [], "10.png": [[0, 1, 2, 3, 4, 0.5]]}')
    assert read_labels(tmp_path).table.images.ids == ("2.png", "10.png")


def test_image_files_the_labels_do_not_name_are_told(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    text_file(tmp_path / "labels.json", '{"1.png": []}')
    for image in ("1.png", "2.png"):
        photo(tmp_path / "images" / image)
    labels = read_labels(tmp_path)
    assert labels.repairs.lines() == ["1 image file is not named in the labels and is left out"]


@pytest.mark.parametrize("images", ["images", "val2017", "images/val2017", "annotations"])
def test_the_coco_layout(images: str, tmp_path: Path, text_file: Write, photo: Photo) -> None:
    content = {
        "info": {"year": 2017},
        "images": [
            {"id": 30, "file_name": "b.png", "width": 64, "height": 48},
            {"id": 4, "file_name": "a.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 9, "bbox": [24, 12, 16, 24], "area": 100.5},
            {"id": 2, "image_id": 4, "category_id": 9, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
        "categories": [{"id": 9, "name": "nail"}, {"id": 2, "name": "bolt"}],
    }
    text_file(tmp_path / "annotations" / "instances_val2017.json", json.dumps(content))
    photo(tmp_path / images / "a.png")
    photo(tmp_path / images / "b.png")
    labels = read_labels(tmp_path)
    table = labels.table
    assert labels.kind == "coco"
    assert labels.source_image_ids == (4, 30)
    assert table.images.ids == ("a.png", "b.png")
    assert table.images.width.tolist() == [64, 64]
    assert table.xyxy[0].tolist() == CORNERS
    assert table.classes.source_ids == (9, 2)
    assert table.area is not None
    assert table.area.tolist() == [100.5, 81.0]
    assert table.ignore is not None
    assert table.ignore.tolist() == [False, True]


YOLO_LAYOUTS = {
    "beside": ("", "{}.png", "{}.txt"),
    "images and labels": ("", "images/{}.png", "labels/{}.txt"),
    "nested": ("", "images/val/{}.png", "labels/val/{}.txt"),
    "folder a split": ("", "val/images/{}.png", "val/labels/{}.txt"),
    "one level down": ("", "set/images/{}.png", "set/labels/{}.txt"),
    "data.yaml": ("val: images/val", "images/val/{}.png", "labels/val/{}.txt"),
    "data.yaml of Roboflow": ("val: ../val/images", "val/images/{}.png", "val/labels/{}.txt"),
    "data.yaml with path": ("path: set\ntrain: [a]", "set/a/{}.png", "set/a/{}.txt"),
    "data.yaml with a list": ("train: list.txt", "photos/{}.png", "photos/{}.txt"),
}


@pytest.mark.parametrize(("entries", "image", "label"), YOLO_LAYOUTS.values(), ids=YOLO_LAYOUTS)
def test_the_yolo_layouts(
    *, entries: str, image: str, label: str, tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    for name in ("1", "2", "3"):
        photo(tmp_path / image.format(name))
    text_file(tmp_path / label.format("1"), LINE)
    text_file(tmp_path / label.format("2"), "")
    text_file(tmp_path / "list.txt", "".join(f"./photos/{i}.png\n" for i in (1, 2, 3)))
    text_file(tmp_path / "README.md", "words")
    if entries:
        text_file(tmp_path / "data.yaml", f"{entries}\nnames: [no, on]\n")
    labels = read_labels(tmp_path)
    assert labels.kind == "yolo"
    assert [p.name for p in labels.paths] == ["1.png", "2.png", "3.png"]
    assert labels.table.offsets.tolist() == [0, 1, 1, 1]
    assert labels.table.xyxy.tolist() == [CORNERS]
    assert labels.table.classes.names == (("no", "on") if entries else ("0",))


def test_yolo_splits_share_ids_with_the_whole(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    for split in ("train", "val"):
        photo(tmp_path / "images" / split / "1.png")
        text_file(tmp_path / "labels" / split / "1.txt", LINE)
    text_file(tmp_path / "classes.txt", "car\n")
    assert read_labels(tmp_path).table.images.ids == ("train/1.png", "val/1.png")
    assert read_labels(tmp_path, split="val").table.images.ids == ("val/1.png",)
    yaml = text_file(
        tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: {0: car}"
    )
    assert read_labels(tmp_path, split="val").table.images.ids == ("val/1.png",)
    assert read_labels(yaml).table.images.ids == ("train/1.png", "val/1.png")
    with pytest.raises(InputError, match="no such split; there are train, val"):
        read_labels(yaml, split="test")


def test_yolo_labels_apart_from_their_images(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    photo(tmp_path / "photos" / "a" / "1.png")
    text_file(tmp_path / "txt" / "a" / "1.txt", LINE)
    labels = read_labels(tmp_path / "txt", images=tmp_path / "photos")
    assert labels.table.images.ids == ("a/1.png",)
    assert labels.table.xyxy.tolist() == [CORNERS]


def test_yolo_labels_without_an_image_are_told(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    photo(tmp_path / "1.png")
    text_file(tmp_path / "1.txt", LINE)
    text_file(tmp_path / "train.txt", "1.png\n")
    assert len(read_labels(tmp_path).table) == 1
    text_file(tmp_path / "2.txt", LINE)
    with pytest.raises(InputError, match=r"2.txt: no image for these labels"):
        read_labels(tmp_path)


def test_yolo_images_without_any_labels_are_told(
    tmp_path: Path, text_file: Write, photo: Photo
) -> None:
    photo(tmp_path / "images" / "1.png")
    text_file(tmp_path / "data.yaml", "train: images\nnames: [car]\n")
    with pytest.raises(InputError, match="no label file for any of its 1 images"):
        read_labels(tmp_path)


def voc(name: str, *edges: float) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{t}>{e}</{t}>" for t, e in zip(tags, edges, strict=True))
    box = f"<object><name>car</name><difficult>1</difficult><bndbox>{corners}</bndbox></object>"
    size = "<size><width>0</width><height>0</height></size>"
    return f"<annotation><filename>{name}</filename>{size}{box}</annotation>"


def test_voc_counts_pixels_from_one(tmp_path: Path, text_file: Write, photo: Photo) -> None:
    text_file(tmp_path / "Annotations" / "x.xml", voc("a.png", 1, 1, 64, 48))
    photo(tmp_path / "JPEGImages" / "a.png")
    labels = read_labels(tmp_path)
    assert labels.kind == "voc"
    assert labels.table.images.ids == ("a.png",)  # by <filename>, not by the file's own name
    assert labels.table.images.width.tolist() == [64]  # from the image where the XML says 0
    assert labels.table.xyxy.tolist() == [[0, 0, 64, 48]]
    from_zero = read_labels(tmp_path, voc_origin=0)
    assert from_zero.table.xyxy.tolist() == [[1, 1, 64, 48]]
    with pytest.raises(InputError, match="has to be 0 or 1, got 2"):
        read_labels(tmp_path, voc_origin=2)


def test_voc_difficult_objects_count(tmp_path: Path, text_file: Write) -> None:
    text_file(tmp_path / "a.xml", voc("a.png", 5, 5, 9, 9))
    assert len(read_labels(tmp_path).table) == 1


def test_voc_folders_are_part_of_the_id(tmp_path: Path, text_file: Write, photo: Photo) -> None:
    for folder in ("x", "y"):
        text_file(tmp_path / "Annotations" / folder / "1.xml", voc("1.png", 5, 5, 9, 9))
        photo(tmp_path / "JPEGImages" / folder / "1.png")
    assert read_labels(tmp_path).table.images.ids == ("x/1.png", "y/1.png")


def test_voc_class_wise_split_lists(tmp_path: Path, text_file: Write) -> None:
    for name in ("1", "2", "3"):
        text_file(tmp_path / "Annotations" / f"{name}.xml", voc(f"{name}.png", 5, 5, 9, 9))
    text_file(tmp_path / "ImageSets" / "Main" / "car_val.txt", "2  1\n3 -1\n")
    assert read_labels(tmp_path, split="car_val").table.images.ids == ("2.png", "3.png")
    with pytest.raises(InputError, match="no such split; there are car_val"):
        read_labels(tmp_path, split="val")


def test_geometry_is_repaired_and_counted(tmp_path: Path, text_file: Write, photo: Photo) -> None:
    rows = [
        [0, 1, 1, 5, 5],
        [0, 20, 20, -5, -5],
        [0, 60, 40, 9, 9],
        [0, 80, 10, 5, 5],
        [0, 5, 5, 0, 5],
        [0, 60, 40, 4.005, 8],
    ]
    path = text_file(tmp_path / "labels.json", json.dumps({"a.png": rows}))
    photo(tmp_path / "a.png")
    labels = read_labels(path)
    assert labels.table.xyxy.tolist() == [
        [1, 1, 6, 6],
        [15, 15, 20, 20],
        [60, 40, 64, 48],
        [60, 40, 64, 48],  # a hundredth of a pixel is rounding and not counted
    ]
    assert labels.repairs.lines() == [
        "1 box with swapped corners repaired",
        "1 box cut at the image border",
        "1 box without area dropped",
        "1 box outside its image dropped",
    ]
    with pytest.raises(InputError, match=r"a.png: field box 1: width .* negative, got \[20.0"):
        read_labels(path, strict=True)


def test_class_names_beside_challenge_labels(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "a.json", '{"1.png": [[3, 1, 1, 5, 5]]}')
    text_file(tmp_path / "a.names", "car\n\n\nbus\n")
    text_file(tmp_path / "b.json", '{"1.png": []}')
    text_file(tmp_path / "b.names", "other\n")
    table = read_labels(path).table
    assert table.classes.names == ("car", "bus")
    assert table.classes.source_ids == (0, 3)
    assert np.array_equal(table.label, [1])
    with pytest.raises(InputError, match="unknown class; known is 0, got 3"):
        read_labels(path, names=tmp_path / "b.names")
