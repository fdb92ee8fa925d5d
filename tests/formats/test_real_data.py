"""Real data sets with their traps, through every format and back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import BoxTable
from smallobj.formats import FORMATS, Labels, check_labels, read_labels, write_labels

KINDS = sorted(FORMATS)
# Pixels are written with nine decimals, YOLO's fractions with all digits.
TOLERANCE_PX = 1e-6


@pytest.fixture(scope="module")
def aerial(real_data: Callable[[str], Path]) -> Labels:
    return read_labels(real_data("aerial_cars"))


@pytest.fixture(scope="module")
def bccd(real_data: Callable[[str], Path]) -> Labels:
    return read_labels(real_data("bccd"))


def assert_round_trip(
    table: BoxTable, paths: tuple[Path | None, ...], kind: str, folder: Path
) -> None:
    files = {"challenge": "labels.json", "coco": "labels.json", "openimages": "labels.csv"}
    out = folder / files.get(kind, "set")
    notes = write_labels(table, out, kind, image_paths=paths)
    common = Path(str(paths[0])[: -len(table.images.ids[0])])
    images = common if kind in files else None
    read = read_labels(out, images=images)
    order = [read.table.images.ids.index(image_id) for image_id in table.images.ids]
    again = read.table.take_images(order)
    assert read.kind == kind
    assert again.images == table.images
    assert again.classes.names == table.classes.names
    assert np.array_equal(again.offsets, table.offsets)
    assert np.array_equal(again.label, table.label)
    assert np.abs(again.xyxy - table.xyxy).max() <= TOLERANCE_PX
    assert read.repairs.swapped == read.repairs.zero_area == read.repairs.outside == 0
    if kind in {"yolo", "voc"}:
        assert notes == [
            f"{len(paths)} images linked into {'images' if kind == 'yolo' else 'JPEGImages'}/"
        ]
        assert [read.paths[i].resolve() for i in order] == list(paths)


@pytest.mark.parametrize("kind", KINDS)
def test_aerial_cars_come_back(kind: str, aerial: Labels, tmp_path: Path) -> None:
    assert_round_trip(aerial.table, aerial.found, kind, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_bccd_comes_back(kind: str, bccd: Labels, tmp_path: Path) -> None:
    assert_round_trip(bccd.table, bccd.found, kind, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_deeppcb_comes_back(
    kind: str, deeppcb: tuple[BoxTable, tuple[Path, ...]], tmp_path: Path
) -> None:
    assert_round_trip(*deeppcb, kind, tmp_path)


def test_aerial_cars_are_read_with_their_traps(aerial: Labels) -> None:
    names = ("car", "truck", "bus", "minibus", "cyclist")
    assert aerial.table.classes.names == names
    assert np.bincount(aerial.table.label, minlength=5).tolist() == [2098, 5, 81, 87, 0]
    assert len(aerial.paths) == len(aerial.table.images) == 89
    assert aerial.repairs.clipped == 4  # MOS74.png and three later frames of it
    size = dict(zip(aerial.table.images.ids, aerial.table.images.width.tolist(), strict=True))
    assert size["DJI_0020.JPG"] == 4000  # MPO, whose second picture is smaller


def test_bccd_is_read_with_its_traps(bccd: Labels) -> None:
    assert bccd.table.classes.names == ("Platelets", "RBC", "WBC")
    assert np.bincount(bccd.table.label).tolist() == [361, 4153, 372]
    assert bccd.repairs.zero_area == 2
    assert bccd.table.xyxy[:, :2].min() == 0  # xmin 1 is the first pixel


@pytest.mark.parametrize(("split", "images"), [("train", 205), ("val", 87), ("test", 72)])
def test_bccd_has_its_own_splits_with_equal_classes(
    split: str, images: int, bccd: Labels, real_data: Callable[[str], Path]
) -> None:
    part = read_labels(real_data("bccd") / "BCCD", split=split)
    assert len(part.table.images) == images
    assert part.table.classes == bccd.table.classes


def test_a_text_file_of_names_selects_images(
    aerial: Labels, tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    (tmp_path / "val.txt").write_text("MOS74.png\nsomewhere/DJI_0020.JPG\n")
    part = read_labels(real_data("aerial_cars"), split=str(tmp_path / "val.txt"))
    assert part.table.images.ids == ("DJI_0020.JPG", "MOS74.png")
    whole = aerial.table
    index = [whole.images.ids.index(i) for i in part.table.images.ids]
    assert part.table == whole.take_images(index)


def test_checks_find_the_known_traps(real_data: Callable[[str], Path]) -> None:
    aerial = check_labels(real_data("aerial_cars"), pixels=False)
    places = {(f.kind, f.item) for f in aerial.faults if f.severity == "error"}
    assert ("outside the image", "MOS74.png") in places
    assert len(places) == 4
    assert [f.value for f in aerial.faults if f.kind == "class without boxes"] == ["cyclist"]
    bccd = check_labels(real_data("bccd"))
    assert [(f.kind, f.item, f.field) for f in bccd.faults] == [
        ("zero area", "BloodImage_00338.jpg", "object 12"),
        ("zero area", "BloodImage_00343.jpg", "object 3"),
    ]


def test_coco_golden_keeps_area_crowds_and_ids(real_data: Callable[[str], Path]) -> None:
    labels = read_labels(real_data("coco_golden"))
    table = labels.table
    assert (len(table.images), len(table), len(table.classes)) == (100, 839, 80)
    assert table.ignore is not None
    assert table.area is not None
    assert int(table.ignore.sum()) == 9
    assert table.classes.source_ids[-1] == 90
    assert labels.source_image_ids is not None
    assert labels.source_image_ids[0] == 42
    assert labels.root is None
    assert labels.found == (None,) * 100
