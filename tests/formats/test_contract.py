"""What every registered format must do."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats import FORMATS, read_labels, write_labels

# Coordinates are written with nine decimals (pixels) or all digits (YOLO's fractions).
TOLERANCE_PX = 1e-6
KINDS = sorted(FORMATS)


def out_path(folder: Path, kind: str) -> Path:
    endings = {"challenge": ".json", "coco": ".json", "openimages": ".csv"}
    return folder / f"labels{endings.get(kind, '')}"


def same_boxes(a: BoxTable, b: BoxTable) -> bool:
    """Equal images, class names, labels and order; corners within TOLERANCE_PX."""
    return (
        a.images.ids == b.images.ids
        and a.classes.names == b.classes.names
        and np.array_equal(a.offsets, b.offsets)
        and np.array_equal(a.label, b.label)
        and np.allclose(a.xyxy, b.xyxy, rtol=0, atol=TOLERANCE_PX)
    )


def write_photos(table: BoxTable, folder: Path) -> list[Path]:
    sizes = zip(table.images.width.tolist(), table.images.height.tolist(), strict=True)
    for image_id, size in zip(table.images.ids, sizes, strict=True):
        (folder / image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(folder / image_id)
    return [folder / image_id for image_id in table.images.ids]


@st.composite
def tables(draw: st.DrawFn) -> BoxTable:
    stems = draw(
        st.lists(
            st.sampled_from(["1", "2", "10", "b/3", "b/c/3", "naïve é", "[x] & <y>", "한글"]),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    ids = [f"{stem}.png" for stem in stems]
    known = ["car", "no", "a b", "<&>", "버스"]
    names = draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
    sizes = [(draw(st.integers(20, 90)), draw(st.integers(20, 90))) for _ in ids]
    rows = []
    for image, (width, height) in enumerate(sizes):
        for _ in range(draw(st.integers(0, 3))):
            x = draw(st.floats(0, width - 3))
            y = draw(st.floats(0, height - 3))
            w, h = draw(st.floats(1.5, width - x)), draw(st.floats(1.5, height - y))
            rows.append((image, draw(st.integers(0, len(names) - 1)), x, y, x + w, y + h))
    columns = np.array(rows, np.float64).reshape(-1, 6)
    limit = np.array(sizes, np.float64)[columns[:, 0].astype(np.int64)][:, [0, 1, 0, 1]]
    return BoxTable.build(
        images=Images.of(ids, sizes),
        classes=Classes.of(names),
        image_index=columns[:, 0].astype(np.int64),
        label=columns[:, 1].astype(np.int32),
        xyxy=np.minimum(columns[:, 2:], limit),  # x + (width - x) may round to above width
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_what_is_written_is_read_again(kind: str, table: BoxTable) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_photos(table, folder / "photos")
        out = out_path(folder, kind)
        write_labels(table, out, kind, image_paths=paths)
        read = read_labels(out, images=folder / "photos")
        position = [read.table.images.ids.index(i) for i in table.images.ids]
        again = read.table.take_images(position)
        assert read.kind == kind
        assert read.repairs.lines() == []
        assert same_boxes(again, table)
        assert again.images == table.images
        assert [p.name for p in read.paths] == [Path(i).name for i in read.table.images.ids]


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_box_the_images_and_classes_stay(
    kind: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"a.png": [], "b.png": []})
    photos = write_photos(table, tmp_path / "p")
    write_labels(table, out_path(tmp_path, kind), kind, image_paths=photos)
    read = read_labels(out_path(tmp_path, kind), images=tmp_path / "p")
    assert same_boxes(read.table, table)
    assert read.table.images == table.images


@pytest.mark.parametrize("kind", KINDS)
def test_output_that_cannot_be_written_leaves_nothing(
    kind: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "labels"
    with pytest.raises(InputError, match="cannot be written"):
        write_labels(table_of({"a.png": [(0, 1, 1, 9, 9)]}), out, kind)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_recognised_says_what_was_looked_for(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels recognised; looked for") as error:
        read_labels(tmp_path)
    assert FORMATS[kind].looked_for in str(error.value)
    with pytest.raises(InputError, match="no labels recognised"):
        read_labels(tmp_path, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_crowds_are_kept_or_their_loss_is_told(
    kind: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"a.png": [(0, 1, 1, 9, 9), (1, 2, 2, 8, 8)]})
    table = dataclasses.replace(table, ignore=np.array([True, False]))
    photos = write_photos(table, tmp_path / "p")
    notes = write_labels(table, out_path(tmp_path, kind), kind, image_paths=photos)
    read = read_labels(out_path(tmp_path, kind), images=tmp_path / "p").table
    if kind == "coco":
        assert read.ignore is not None
        assert read.ignore.tolist() == [True, False]
    else:
        assert notes[0].startswith("1 crowd regions left out")
        assert len(read) == 1
