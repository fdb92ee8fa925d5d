import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError, Source
from smallobj.formats import Run, RunInfo, read_run, write_run
from smallobj.formats.run_info import run_info_path

NAMES = Classes.of(["car", "bus", "van"], [3, 7, 1000])
ROWS = {
    "image": ["a.jpg", "a.jpg", "b.jpg"],
    "label": [1, 0, 1],
    "x1": [1.0, 2.0, 3.0],
    "y1": [1.0, 2.0, 3.0],
    "x2": [5.0, 6.0, 7.0],
    "y2": [5.0, 6.0, 7.0],
    "score": [0.5, 0.25, 1.0],
}


@st.composite
def runs(draw: st.DrawFn) -> BoxTable:
    ids = draw(
        st.lists(
            st.text("ab/1é𝄞 [", min_size=1, max_size=6).filter(lambda t: not t.startswith("./")),
            unique=True,
            min_size=1,
            max_size=6,
        )
    )
    count = draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sized = draw(st.booleans())
    corner = rng.uniform(0, 1000, (count, 2))
    source = draw(st.booleans())
    return BoxTable.build(
        images=Images.of(ids, [(3000, 2000)] * len(ids) if sized else None),
        classes=NAMES,
        image_index=rng.integers(0, len(ids), count),
        xyxy=np.concatenate([corner, corner + rng.uniform(1e-3, 900, (count, 2))], axis=1),
        label=rng.integers(0, 3, count),
        score=rng.random(count),
        source=rng.integers(0, 2, count) if source else None,
        sources=(Source("run", "plain"), Source("run", "hflip")) if source else (),
    )


def in_order(table: BoxTable, images: Images) -> BoxTable:
    return table.take_images([table.images.ids.index(image_id) for image_id in images.ids])


def views(table: BoxTable) -> list[str]:
    return [] if table.source is None else [table.sources[i].view for i in table.source]


@settings(max_examples=60, deadline=None)
@given(table=runs(), beside=st.booleans())
def test_a_run_comes_back_to_the_last_digit(table: BoxTable, beside: bool) -> None:
    info = RunInfo(
        model="m", classes=NAMES, views=("plain", "hflip"), fold="1", cap=9, latency_ms=2.5
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.parquet"
        write_run(path, table, info, kind="parquet")
        if not beside:
            run_info_path(path).unlink()  # the file says the same itself
        run = read_run(path)
    again = in_order(run.table, table.images)
    assert run.kind == "parquet"
    assert run.info == info
    assert again.images == table.images  # those without boxes and all sizes
    assert again.classes == table.classes
    assert views(again) == views(table)
    for column in ("offsets", "xyxy", "label", "score"):
        assert np.array_equal(getattr(again, column), getattr(table, column))


def write_columns(path: Path, **columns: object) -> Path:
    """A foreign file: ROWS with other columns; None leaves one out."""
    held = {name: values for name, values in {**ROWS, **columns}.items() if values is not None}
    pq.write_table(pa.table(held), path)
    return path


def read_columns(folder: Path, **columns: object) -> Run:
    return read_run(write_columns(folder / "foreign.parquet", **columns))


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"label": pa.array([1, 0, 1], pa.uint8())},
        {"label": [1.0, 0.0, 1.0]},
        {"label": ["1", "0", "1"]},
        {name: pa.array(ROWS[name], pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")},
        {name: pa.array([int(v) for v in ROWS[name]]) for name in ("x1", "y1", "x2", "y2")},
        {"image": pa.array(ROWS["image"]).dictionary_encode()},
        {"image": pa.array(ROWS["image"], pa.large_string())},
        {"image": ["./a.jpg", "a.jpg", "b.jpg"]},
        {"extra": [[1], [2, 3], []]},
    ],
)
def test_foreign_column_types_mean_the_same(tmp_path: Path, columns: dict[str, object]) -> None:
    run = read_columns(tmp_path, **columns)
    assert run.info is None
    assert run.table.images.ids == ("a.jpg", "b.jpg")
    assert run.table.offsets.tolist() == [0, 2, 3]
    assert run.table.classes.names == ("0", "1")
    assert run.table.label.tolist() == [1, 0, 1]
    assert run.table.xyxy[:, 2].tolist() == ROWS["x2"]
    assert run.table.score is not None
    assert run.table.score.tolist() == ROWS["score"]


def test_names_as_labels_are_classes(tmp_path: Path) -> None:
    run = read_columns(tmp_path, label=["van", "car", "van"])
    assert run.table.classes.names == ("car", "van")
    assert run.table.label.tolist() == [1, 0, 1]
    assert not run.numbered
    named = read_run(tmp_path / "foreign.parquet", classes=NAMES)
    assert named.table.classes == NAMES
    assert named.table.label.tolist() == [2, 0, 2]


def test_whole_numbers_as_images_are_their_ids(tmp_path: Path) -> None:
    assert read_columns(tmp_path, image=[10, 9, 10]).table.images.ids == ("9", "10")


def test_rows_in_any_order_are_sorted_by_image(tmp_path: Path) -> None:
    run = read_columns(tmp_path, image=["b.jpg", "a.jpg", "b.jpg"])
    assert run.table.images.ids == ("a.jpg", "b.jpg")
    assert run.table.xyxy[:, 0].tolist() == [2, 1, 3]


def test_a_view_column_tells_views_apart(tmp_path: Path) -> None:
    run = read_columns(tmp_path, view=["plain", "hflip", "plain"])
    assert views(run.table) == ["plain", "hflip", "plain"]
    assert run.table.sources[0].run == "foreign"


def test_boxes_within_1_are_fractions(tmp_path: Path) -> None:
    small = {name: [0.1, 0.2, 0.3] for name in ("x1", "y1")}
    small |= {name: [0.5, 0.6, 1.0] for name in ("x2", "y2")}
    assert read_columns(tmp_path, **small).unit == "normalised"
    assert read_run(tmp_path / "foreign.parquet", unit="pixel").unit == "pixel"
    assert read_columns(tmp_path).unit == "pixel"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"score": None}, "field score: column is missing; the file has image, label"),
        ({"image": None}, "field image: column is missing"),
        ({"x1": [1.0, np.nan, 2.0]}, "item row 1: field x1: is not a finite number, got nan"),
        ({"y2": [1.0, 9.0, np.inf]}, "item row 2: field y2: is not a finite number, got inf"),
        ({"y2": [1.0, 9.0, 1e12]}, "item row 2: field y2: is beyond 1e+09"),
        ({"x1": [1.0, None, 2.0]}, "item row 1: field x1: value is missing"),
        ({"x1": ["1", "2", "3"]}, "field x1: column has to hold numbers, got string"),
        ({"score": [0.5, 0.5, 1.5]}, "item row 2: field score: score is outside 0 to 1, got 1.5"),
        ({"score": [-0.1, 0.5, 1]}, "item row 0: field score: score is outside 0 to 1, got -0.1"),
        ({"score": [np.nan, 0.5, 1]}, "item row 0: field score: is not a finite number, got nan"),
        ({"label": [1.5, 0, 1]}, "item row 0: field label: class is not a whole number, got 1.5"),
        ({"label": [1, -1, 1]}, "item row 1: field label: class is outside 0 to 9999, got -1"),
        ({"label": [1, None, 1]}, "item row 1: field label: value is missing"),
        ({"label": [1.0, np.nan, 1]}, "item row 1: field label: is not a finite number"),
        ({"label": [True, False, True]}, "field label: column has to hold numbers or text"),
        ({"image": ["a", None, "b"]}, "item row 1: field image: value is missing"),
        ({"image": ["a", "", "b"]}, "item row 1: field image: image name is empty"),
        ({"image": [b"a", b"a", b"b"]}, "field image: column has to hold text or whole numbers"),
        ({"view": [1, 2, 3]}, "field view: column has to hold text, got int64"),
        ({name: [] for name in ROWS}, "column has to hold"),
    ],
)
def test_a_fault_is_told_with_row_field_and_value(
    tmp_path: Path, columns: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=r"foreign\.parquet") as told:
        read_columns(tmp_path, **columns)
    assert said in str(told.value)


def test_classes_beside_the_file_are_held_to(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "foreign.parquet")
    with pytest.raises(InputError, match="row 1: field label: unknown class; known are 3, 7"):
        read_run(path, classes=NAMES)


def test_a_file_without_rows_or_images_is_no_run(tmp_path: Path) -> None:
    empty = pa.table({name: pa.array(values)[:0] for name, values in ROWS.items()})
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="holds no predictions"):
        read_run(tmp_path / "empty.parquet")


def test_a_run_of_images_without_boxes_is_one(tmp_path: Path) -> None:
    nothing = BoxTable.empty(Images.of(["1.jpg", "2.jpg"], [(9, 8), (7, 6)]), NAMES, scored=True)
    path = tmp_path / "run.parquet"
    write_run(path, nothing, RunInfo(model="m", classes=NAMES), kind="parquet")
    assert read_run(path).table == nothing


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, BoxTable]:
    """The bytes of a file of ours, and its table."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1000, (400, 2))
    table = BoxTable.build(
        images=Images.of([f"{i}.jpg" for i in range(20)], [(2000, 2000)] * 20),
        classes=NAMES,
        image_index=rng.integers(0, 20, 400),
        xyxy=np.concatenate([corner, corner + 10], axis=1),
        label=rng.integers(0, 3, 400),
        score=rng.random(400),
    )
    path = tmp_path_factory.mktemp("parquet") / "run.parquet"
    write_run(path, table, RunInfo(model="m", classes=NAMES), kind="parquet")
    return path.read_bytes(), table


def read_bytes(content: bytes) -> BoxTable | None:
    """The table of a damaged file; None where it is refused in one line that names the file."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.parquet"
        path.write_bytes(content)
        try:
            return read_run(path).table
        except InputError as error:
            message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(written: tuple[bytes, BoxTable], share: float) -> None:
    assert read_bytes(written[0][: int(share * len(written[0]))]) is None


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), more=st.integers(0, 3))
def test_a_flipped_bit_never_changes_a_number(
    written: tuple[bytes, BoxTable], place: float, bit: int, more: int
) -> None:
    content, table = bytearray(written[0]), written[1]
    start = int(place * len(content))
    for at in range(start, min(start + 1 + more * 5, len(content)), 5):
        content[at] ^= 1 << bit
    read = read_bytes(bytes(content))
    if read is not None and len(read) == len(table):  # the pages have checksums, the footer none
        assert np.array_equal(np.sort(read.xyxy.ravel()), np.sort(table.xyxy.ravel()))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file without checksums: names in every column that may have them, nothing compressed."""
    held = {
        **{name: values * 20 for name, values in ROWS.items()},
        "label": ["cat", "dog", "kätzchen"] * 20,
        "view": ["plain", "hflip", "plain"] * 20,
    }
    path = tmp_path_factory.mktemp("parquet") / "foreign.parquet"
    pq.write_table(pa.table(held), path, compression="none")
    return path.read_bytes()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_damaged_file_without_checksums_is_read_or_refused(
    foreign: bytes, data: st.DataObject
) -> None:
    content = bytearray(foreign)
    places = data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4))
    for place in places:
        content[place] = data.draw(st.integers(0, 255))
    table = read_bytes(bytes(content))
    if table is not None:
        assert table.score is not None
        assert np.isfinite(table.xyxy).all()
        assert ((table.score >= 0) & (table.score <= 1)).all()


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_behind_the_mark_are_refused(content: bytes) -> None:
    assert read_bytes(b"PAR1" + content) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": ["a", "a"]}, "image stands twice, got a"),
        ({"images": ["./a"]}, "image name is not in its normal form"),
        ({"images": [""]}, "image name is empty"),
        ({"class_ids": [1, 1, 2]}, "a class id appears twice"),
        ({"width": [5], "height": None}, "metadata smallobj: cannot be used"),
        ({"width": [5, 6], "height": [5]}, "metadata smallobj: cannot be used"),
        ({"width": [2**40], "height": [5]}, "metadata smallobj: cannot be used"),
        ({"images": 5}, "metadata smallobj: cannot be used"),
    ],
)
def test_what_a_file_says_of_itself_is_judged(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    import msgspec

    about = {
        "images": ["a.jpg"],
        "class_names": list(NAMES.names),
        "class_ids": list(NAMES.source_ids),
        "model": "m",
    }
    table = pa.table(ROWS).replace_schema_metadata(
        {"smallobj": msgspec.json.encode(about | changes)}
    )
    pq.write_table(table, tmp_path / "run.parquet")
    with pytest.raises(InputError) as told:
        read_run(tmp_path / "run.parquet")
    assert said in str(told.value)


def test_a_hundred_thousand_images_fit_the_metadata(tmp_path: Path) -> None:
    images = Images.of([f"folder/{i:06}.jpg" for i in range(100_000)], [(2800, 2100)] * 100_000)
    table = BoxTable.empty(images, NAMES, scored=True)
    path = tmp_path / "run.parquet"
    write_run(path, table, RunInfo(model="m", classes=NAMES), kind="parquet")
    assert read_run(path).table.images == images
    assert path.stat().st_size < 5_000_000


def test_nothing_is_left_of_a_run_that_fails_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_of: Callable[..., BoxTable]
) -> None:
    from smallobj.formats import parquet_writer

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet_writer.ParquetRunWriter, "finish", fail)
    table = table_of({"a.jpg": [(0, 1, 1, 9, 9, 0.5)]})
    with pytest.raises(InputError, match="No space left"):
        write_run(
            tmp_path / "a.parquet",
            table,
            RunInfo(model="m", classes=table.classes),
            kind="parquet",
        )
    assert not list(tmp_path.iterdir())
