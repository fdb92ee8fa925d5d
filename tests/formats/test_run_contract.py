"""What every registered kind of run must do."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats import (
    RUN_FORMATS,
    RunInfo,
    align_runs,
    is_run,
    natural_key,
    read_run,
    read_runs,
    write_run,
)
from smallobj.formats.raw_run import unit_square

TOLERANCE_PX = 1e-6
KINDS = sorted(RUN_FORMATS)
FRACTIONS = sorted(kind for kind, form in RUN_FORMATS.items() if form.normalised)
PIXELS = sorted(set(KINDS) - set(FRACTIONS))
ENDINGS = {"openimages": ".csv", "parquet": ".parquet", "yolo": ""}


def out_path(folder: Path, kind: str, name: str = "run") -> Path:
    return folder / (name + ENDINGS.get(kind, ".json"))


@st.composite
def tables(draw: st.DrawFn) -> BoxTable:
    """Tables that every kind can keep: sizes known, numbers for COCO as names of images."""
    ids = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=4, unique=True))
    sizes = [(draw(st.integers(20, 9000)), draw(st.integers(20, 9000))) for _ in ids]
    names = draw(
        st.lists(
            st.sampled_from(["car", "a b", "<&>", '"x", y', "버스", "1e5", "500", "nan", "é\n"]),
            min_size=1,
            unique=True,
        )
    )
    numbers = draw(st.permutations([0, 3, 7, 90, 91, 92, 93, 94, 9999]))
    rows = []
    for image, (width, height) in enumerate(sizes):
        for _ in range(draw(st.integers(0, 3))):
            x, y = draw(st.floats(0, width - 3)), draw(st.floats(0, height - 3))
            w, h = draw(st.floats(1.5, width - x)), draw(st.floats(1.5, height - y))
            label = draw(st.integers(0, len(names) - 1))
            x2, y2 = min(x + w, width), min(y + h, height)
            rows.append((image, label, x, y, x2, y2, draw(st.floats(0, 1))))
    columns = np.array(rows, np.float64).reshape(-1, 7)
    return BoxTable.build(
        images=Images.of([str(i) for i in ids], sizes),
        classes=Classes.of(names, numbers[: len(names)]),
        image_index=columns[:, 0].astype(np.int64),
        label=columns[:, 1].astype(np.int32),
        xyxy=columns[:, 2:6],
        score=columns[:, 6],
    )


def in_natural_order(table: BoxTable) -> BoxTable:
    ids = table.images.ids
    return table.take_images(sorted(range(len(ids)), key=lambda i: natural_key(ids[i])))


def with_boxes(table: BoxTable) -> BoxTable:
    return table.take_images(np.flatnonzero(np.diff(table.offsets) > 0))


def same_boxes(a: BoxTable, b: BoxTable) -> bool:
    """Equal images, labels, scores and order; corners within TOLERANCE_PX."""
    return (
        a.images.ids == b.images.ids
        and a.classes == b.classes
        and np.array_equal(a.offsets, b.offsets)
        and np.array_equal(a.label, b.label)
        and np.array_equal(a.score, b.score)  # type: ignore[arg-type]
        and np.allclose(a.xyxy, b.xyxy, rtol=0, atol=TOLERANCE_PX)
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_what_is_written_is_read_again(kind: str, table: BoxTable) -> None:
    info = RunInfo(model="m", classes=table.classes, views=("plain",), cap=300)
    with tempfile.TemporaryDirectory() as name:
        path = out_path(Path(name), kind)
        write_run(path, table, info, kind=kind)
        if not len(table) and not RUN_FORMATS[kind].names_empty and kind != "yolo":
            with pytest.raises(InputError, match="holds no predictions"):
                read_run(path)
            return
        assert is_run(path)
        run = read_run(path)
        assert (run.name, run.kind, run.info) == ("run", kind, info)
        assert run.repairs.lines() == []
        again = align_runs([run], classes=table.classes, sized=table.images)
    kept = RUN_FORMATS[kind].names_empty or kind == "yolo"
    expected = in_natural_order(table if kept else with_boxes(table))
    assert again.unit == "pixel"
    assert again.images == expected.images
    assert same_boxes(again.tables[0], expected)
    assert sorted(run.unit for run in [run]) == ["normalised" if kind in FRACTIONS else "pixel"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(table=tables())
def test_a_run_can_be_told_from_labels_by_its_content_alone(kind: str, table: BoxTable) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = out_path(Path(name), kind)
        write_run(path, table, RunInfo(model="m", classes=table.classes), kind=kind)
        Path(name, "run.run.toml").unlink()
        if len(table):
            assert is_run(path)
            assert read_run(path).kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_where_it_cannot_be_written(
    kind: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"1": [(0, 1, 1, 9, 9, 0.5)]})
    (tmp_path / "file").write_text("in the way")
    info = RunInfo(model="m", classes=table.classes)
    with pytest.raises(InputError, match="cannot be written"):
        write_run(out_path(tmp_path / "file", kind), table, info, kind=kind)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", FRACTIONS)
def test_fractions_need_sizes_to_be_written_and_none_to_be_fused(
    kind: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"1": [(0, 16, 12, 32, 36, 0.5)]})
    info = RunInfo(model="m", classes=table.classes)
    unknown = replace(table, images=Images.of(["1"]))
    with pytest.raises(InputError, match=r"size of the image is unknown.*--images.*--labels"):
        write_run(out_path(tmp_path, kind), unknown, info, kind=kind)
    assert not list(tmp_path.iterdir())
    write_run(out_path(tmp_path, kind), table, info, kind=kind)
    aligned = align_runs(read_runs([out_path(tmp_path, kind)]))
    assert aligned.unit == "normalised"
    assert aligned.images == unit_square(["1"])
    assert np.allclose(aligned.tables[0].xyxy, [[0.25, 0.25, 0.5, 0.75]])
    write_run(out_path(tmp_path, kind, "again"), aligned.tables[0], info, kind=kind)
    again = read_run(out_path(tmp_path, kind, "again"))
    assert np.allclose(again.table.xyxy, aligned.tables[0].xyxy, rtol=0, atol=1e-12)
    for other in PIXELS:
        with pytest.raises(InputError, match=r"fractions of images whose sizes.*--images"):
            write_run(out_path(tmp_path, other, "no"), aligned.tables[0], info, kind=other)
    assert not list(tmp_path.glob("no*"))


@pytest.mark.parametrize("kind", FRACTIONS)
def test_fractions_become_pixels_by_what_knows_the_size(
    kind: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"1": [(0, 16, 12, 32, 36, 0.5)], "2": [(0, 1, 1, 3, 3, 0.5)]})
    info = RunInfo(model="m", classes=table.classes)
    write_run(out_path(tmp_path, kind), table, info, kind=kind)
    write_run(tmp_path / "sizes.parquet", table, info, kind="parquet")
    for image_id in table.images.ids:
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("L", (64, 48)).save(tmp_path / "photos" / f"{image_id}.jpg")
    run = read_run(out_path(tmp_path, kind))
    by_labels = align_runs([run], sized=table.images).tables[0]
    by_truth = align_runs([run], images=table.images, classes=table.classes).tables[0]
    by_run = align_runs([run, read_run(tmp_path / "sizes.parquet")]).tables[0]
    by_header = align_runs([run], image_folder=tmp_path / "photos").tables[0]
    assert by_header.images.ids == ("1.jpg", "2.jpg")
    for one in (by_labels, by_truth, by_run, by_header):
        assert np.allclose(one.xyxy, table.xyxy, rtol=0, atol=TOLERANCE_PX)
        assert one.images.width.tolist() == [64, 64]


@pytest.mark.parametrize("kind", FRACTIONS)
def test_fractions_that_meet_pixels_need_a_size(
    kind: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"1": [(0, 16, 12, 32, 36, 0.5)]})
    info = RunInfo(model="m", classes=table.classes)
    write_run(out_path(tmp_path, kind), table, info, kind=kind)
    write_run(tmp_path / "p.json", table, info)
    runs = read_runs([tmp_path / "p.json", out_path(tmp_path, kind)])
    with pytest.raises(InputError, match=r"item 1: boxes are fractions.*1 image is.*--images"):
        align_runs(runs)
    with pytest.raises(InputError, match=r"item 1: boxes are fractions"):
        align_runs(runs[1:], images=Images.of(["1"]), classes=table.classes)


def test_runs_of_other_sizes_are_refused(tmp_path: Path, table_of: Callable[..., BoxTable]) -> None:
    table = table_of({"1": [(0, 16, 12, 32, 36, 0.5)]})
    info = RunInfo(model="m", classes=table.classes)
    write_run(tmp_path / "a.parquet", table, info, kind="parquet")
    halved = replace(table, images=Images.of(["1"], [(32, 24)]), xyxy=table.xyxy / 2)
    write_run(tmp_path / "b.parquet", halved, info, kind="parquet")
    runs = read_runs([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    with pytest.raises(InputError, match=r"b.*item 1: image is 32 x 24 px here and 64 x 48 in .*a"):
        align_runs(runs)
    with pytest.raises(InputError, match="32 x 24 px here and 64 x 48 in the labels"):
        align_runs(runs[1:], images=table.images)


def test_image_names_with_and_without_ending_are_one(tmp_path: Path) -> None:
    folder = tmp_path / "yolo"
    (folder / "b").mkdir(parents=True)
    for name in ("1", "b/2", "v1.5"):
        (folder / f"{name}.txt").write_text("0 .5 .5 .5 .5 .9\n")
    (tmp_path / "a.json").write_text('{"b/2.png": [[0, 1, 1, 2, 2, 1]], "v1.5.jpg": []}')
    sized = Images.of(["1.jpg", "b/2.png", "v1.5.jpg"], [(100, 50)] * 3)
    runs = read_runs([folder, tmp_path / "a.json"])
    assert align_runs(runs, sized=sized).images == sized
    assert align_runs(runs[::-1], sized=sized).images.ids == ("b/2.png", "v1.5.jpg", "1.jpg")
    assert align_runs(runs, images=sized).tables[0].offsets.tolist() == [0, 1, 2, 3]
