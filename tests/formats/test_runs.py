import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats import (
    RunInfo,
    align_runs,
    natural_key,
    normal_id,
    read_run,
    read_run_info,
    read_runs,
    write_run,
    write_run_info,
)

Write = Callable[[Path, str], Path]

CARS = Classes.of(["car", "bus"])
INFO = RunInfo(model="centernet-1", classes=CARS)


@st.composite
def runs(draw: st.DrawFn) -> BoxTable:
    ids = draw(st.lists(st.text(min_size=1).filter(usable_id), max_size=3, unique_by=normal_id))
    ids = sorted(map(normal_id, ids)) or ["a.jpg"]
    coordinate = st.floats(-1e5, 1e5).map(lambda x: round(x, 9))
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(ids) - 1),
                st.integers(0, 1),
                coordinate,
                coordinate,
                st.floats(1e-3, 1e4).map(lambda x: round(x, 9)),
                st.floats(1e-3, 1e4).map(lambda x: round(x, 9)),
                st.floats(0, 1),
            ),
            max_size=5,
        )
    )
    columns = np.array(rows).reshape(-1, 7)
    return BoxTable.build(
        images=Images.of(ids),
        classes=Classes.of(["car", "bus"], [3, 90]),
        image_index=columns[:, 0].astype(np.int64),
        label=columns[:, 1].astype(np.int32),
        xyxy=np.column_stack([columns[:, 2:4], columns[:, 2:4] + columns[:, 4:6]]),
        score=columns[:, 6],
    )


def usable_id(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(normal_id(text)) and normal_id(normal_id(text)) == normal_id(text)


@settings(max_examples=60, deadline=None)
@given(table=runs())
def test_what_is_written_is_read_again(table: BoxTable) -> None:
    info = RunInfo(model="m", classes=table.classes, views=("plain", "hflip"), cap=300, seconds=1.5)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.json"
        write_run(path, table, info)
        run = read_run(path)
        first = path.read_bytes()
        write_run(path, run.table, run.info or info)
        if list(table.images.ids) == sorted(table.images.ids, key=natural_key):
            assert path.read_bytes() == first  # nine decimals come back exactly
    order = [run.table.images.ids.index(i) for i in table.images.ids]
    again = run.table.take_images(order)
    assert run.info == info
    assert again.images == table.images
    assert np.array_equal(again.offsets, table.offsets)
    assert np.array_equal(again.label, table.label)
    assert np.array_equal(again.score, table.score)  # scores to the last digit
    assert np.allclose(again.xyxy, table.xyxy, rtol=0, atol=1e-8)


@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.json"
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_run(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    content=st.dictionaries(st.text(max_size=3), st.lists(st.lists(JSON, max_size=7), max_size=2))
)
def test_any_json_is_read_whole_or_refused_in_one_line(
    content: dict[str, list[list[object]]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.json"
        path.write_text(json.dumps(content))
        try:
            table = read_run(path).table
        except InputError as error:
            table, message = None, str(error)
    if table is None:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    else:
        assert len(table.images) == len(content)
        assert np.isfinite(table.xyxy).all()


def test_a_run_keeps_what_stands_beside_it(tmp_path: Path) -> None:
    info = RunInfo(
        model="a", classes=CARS, views=("scale=2",), fold="0", image_set="val", cap=9, seconds=0.5
    )
    write_run_info(tmp_path / "a.run.toml", info)
    assert read_run_info(tmp_path / "a.run.toml") == info
    write_run_info(tmp_path / "plain.run.toml", INFO)
    assert read_run_info(tmp_path / "plain.run.toml") == INFO


def test_nothing_but_runs_ends_in_json(tmp_path: Path, table_of: Callable[..., BoxTable]) -> None:
    table = table_of({"a.jpg": [(0, 1, 1, 9, 9, 0.5)], "b.jpg": []})
    write_run(tmp_path / "a.json", table, INFO)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.run.toml"]
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "a.jpg": [[0, 1.0, 1.0, 8.0, 8.0, 0.5]],
        "b.jpg": [],
    }


def test_only_scored_tables_of_the_same_classes_are_runs(
    tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"a.jpg": [(0, 1, 1, 9, 9)]})
    with pytest.raises(ValueError, match="scores"):
        write_run(tmp_path / "a.json", table, INFO)
    assert not list(tmp_path.iterdir())


def test_a_foreign_run_calls_classes_by_their_ids(tmp_path: Path, text_file: Write) -> None:
    run = read_run(text_file(tmp_path / "x.json", '\ufeff{"b.jpg": [[2.0, 1, 2, 3, 4, 1]]}'))
    assert (run.name, run.info) == ("x", None)
    assert run.table.classes.names == ("0", "1", "2")
    assert run.table.xyxy.tolist() == [[1, 2, 4, 6]]


def test_a_name_of_json_signs_is_written_as_it_is(
    tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({']],":[],{}.jpg': [(0, 1, 1, 9, 9, 0.5)], "b": []})
    write_run(tmp_path / "a.json", table, INFO)
    assert read_run(tmp_path / "a.json").table.images.ids == (']],":[],{}.jpg', "b")


def run_file(folder: Path, name: str, boxes: dict[str, list[list[float]]], toml: str = "") -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(boxes))
    if toml:
        (folder / f"{name}.run.toml").write_text(toml)
    return path


def toml(names: list[str], ids: list[int]) -> str:
    return f'model = "m"\nclasses = {{names = {json.dumps(names)}, ids = {ids}}}\n'


def test_runs_are_brought_to_the_union_of_their_images(tmp_path: Path) -> None:
    a = run_file(tmp_path, "a", {"10.jpg": [[0, 1, 1, 2, 2, 0.5]], "2.jpg": []})
    b = run_file(tmp_path, "b", {"2.jpg": [[1, 3, 3, 2, 2, 0.5]], "3.jpg": []})
    aligned = align_runs(read_runs([a, b]))
    assert aligned.images.ids == ("2.jpg", "10.jpg", "3.jpg")
    assert [t.offsets.tolist() for t in aligned.tables] == [[0, 0, 1, 1], [0, 1, 1, 1]]
    assert all(t.images == aligned.images for t in aligned.tables)
    assert all(t.classes == aligned.classes for t in aligned.tables)
    assert aligned.notes == [
        f"{a} lacks 1 of 3 images; counted as nothing found",
        f"{b} lacks 1 of 3 images; counted as nothing found",
    ]


def test_runs_are_brought_to_the_images_of_the_labels(tmp_path: Path) -> None:
    a = run_file(tmp_path, "a", {"1.jpg": [[0, 1, 1, 2, 2, 0.5]], "9.jpg": []})
    images = Images.of(["val/1.jpg", "val/2.jpg"], [(64, 48), (32, 16)])
    aligned = align_runs(read_runs([a]), images=images, classes=CARS)
    assert aligned.images == images
    assert aligned.tables[0].offsets.tolist() == [0, 1, 1]
    assert aligned.notes == [
        f"{a} calls classes by number, taken as: 0 car",
        f"{a} lacks 1 of 2 images; counted as nothing found",
        "--common scores only the 1 image that every run holds",
        f"{a} has 1 image that the labels lack; left out",
    ]


def test_common_images_are_those_that_every_run_holds(tmp_path: Path) -> None:
    row = [0, 1, 1, 2, 2, 0.5]
    a = run_file(tmp_path, "a", {"1.jpg": [], "3.jpg": [row], "9.jpg": [row]})
    b = run_file(tmp_path, "b", {"2.jpg": [row], "3.jpg": [row, row]})
    images = Images.of(["val/1.jpg", "val/2.jpg", "val/3.jpg"], [(64, 48), (32, 16), (9, 8)])
    aligned = align_runs(read_runs([a, b]), images=images, classes=CARS, common=True)
    assert aligned.images == Images.of(["val/3.jpg"], [(9, 8)])
    assert aligned.positions.tolist() == [2]
    assert [t.offsets.tolist() for t in aligned.tables] == [[0, 1], [0, 2]]
    numbers = [f"{run} calls classes by number, taken as: 0 car" for run in (a, b)]
    assert aligned.notes == [
        *numbers,
        "only the images that every run holds count: 1 of 3",
        f"{a} has 1 image that the labels lack; left out",
    ]
    every = align_runs(read_runs([a, b]), images=images, classes=CARS)
    assert every.positions.tolist() == [0, 1, 2]
    assert every.notes[4] == "--common scores only the 1 image that every run holds"


def test_no_common_image_is_an_error(tmp_path: Path) -> None:
    a, b = run_file(tmp_path, "a", {"1.jpg": []}), run_file(tmp_path, "b", {"2.jpg": []})
    images = Images.of(["1.jpg", "2.jpg"])
    with pytest.raises(InputError, match="no image of the labels is in every run"):
        align_runs(read_runs([a, b]), images=images, common=True)
    assert len(align_runs(read_runs([a, b]), images=images).notes) == 2


def test_runs_of_another_data_set_are_refused(tmp_path: Path) -> None:
    a = run_file(tmp_path, "a", {"1.jpg": []})
    b = run_file(tmp_path, "b", {"2.jpg": []})
    with pytest.raises(
        InputError, match=r"b.json: item 2.jpg: has no image in common with .*a.json"
    ):
        align_runs(read_runs([a, b]))
    with pytest.raises(InputError, match=r"a.json: item 1.jpg: .*labels of another data set"):
        align_runs(read_runs([a]), images=Images.of(["3.jpg"]))


def test_classes_are_matched_by_name_where_runs_name_them(tmp_path: Path) -> None:
    row = [1, 1, 2, 2, 0.5]
    a = run_file(tmp_path, "a", {"1.jpg": [[0, *row]]}, toml(["car", "bus"], [0, 1]))
    b = run_file(tmp_path, "b", {"1.jpg": [[0, *row]]}, toml(["bus", "car"], [0, 1]))
    c = run_file(tmp_path, "c", {"1.jpg": [[1, *row]]}, toml(["van", "bus"], [0, 1]))
    d = run_file(tmp_path, "d", {"1.jpg": [[1, *row]]})
    aligned = align_runs(read_runs([a, b, c, d]))
    assert aligned.classes == Classes.of(["car", "bus", "van"], [0, 1, 2])
    assert [t.label.tolist() for t in aligned.tables] == [[0], [1], [1], [1]]
    assert aligned.notes == [
        f"{c}: class van is written as 2, 0 is taken",
        f"{d} calls classes by number, taken as: 1 bus",
    ]


def test_a_class_outside_the_labels_is_refused(tmp_path: Path) -> None:
    row = [1, 1, 2, 2, 0.5]
    by_name = run_file(tmp_path, "a", {"1.jpg": [[0, *row]]}, toml(["van"], [0]))
    by_id = run_file(tmp_path, "b", {"1.jpg": [[0, *row], [7, *row]]})
    unused = run_file(tmp_path, "c", {"1.jpg": []}, toml(["van"], [0]))
    for path, value in ((by_name, "van"), (by_id, "7")):
        message = rf"{path}: item 1.jpg: field class: .*known ones \(car, bus\).*, got {value}"
        with pytest.raises(InputError, match=message):
            align_runs(read_runs([path]), classes=CARS)
    assert align_runs(read_runs([unused]), classes=CARS).classes == CARS


def test_names_that_are_ids_count_as_none(tmp_path: Path) -> None:
    row = [1, 1, 2, 2, 0.5]
    foreign = run_file(tmp_path, "a", {"1.jpg": [[7, *row]]})
    fused = run_file(tmp_path, "b", {"1.jpg": [[7, *row]]}, toml(["3", "7"], [3, 7]))
    labels = Classes.of(["car", "bus"], [3, 7])
    aligned = align_runs(read_runs([foreign, fused]), classes=labels)
    assert [t.label.tolist() for t in aligned.tables] == [[1], [1]]
    aligned = align_runs(read_runs([fused, foreign]))
    assert aligned.classes == Classes.of([str(i) for i in range(8)])


@given(order=st.permutations(["1.jpg", "2.jpg", "10.jpg", "a/1.png"]), cut=st.integers(1, 4))
def test_aligning_loses_no_box(order: list[str], cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        a = run_file(Path(name), "a", {i: [[0, 1, 1, 2, 2, 0.5]] for i in order})
        b = run_file(Path(name), "b", {i: [[0, 1, 1, 2, 2, 0.5]] for i in order[:cut]})
        aligned = align_runs(read_runs([b, a]))
    assert [len(t) for t in aligned.tables] == [cut, 4]
    assert len(aligned.images) == 4
