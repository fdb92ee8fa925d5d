import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError, concatenate
from smallobj.formats import RunInfo, align_runs, read_runs, write_run
from smallobj.formats.ahead import done_behind, made_ahead
from smallobj.formats.image_spans import image_spans
from smallobj.formats.parquet_stream import RunStream, UnlikeOrders

NAMES = Classes.of(["car", "bus"], [3, 7])


def random_run(rng: np.random.Generator, ids: Sequence[str], *, sized: bool = False) -> BoxTable:
    count = int(rng.integers(0, 40))
    corner = rng.uniform(0, 50, (count, 2))
    return BoxTable.build(
        images=Images.of(ids, [(64, 48)] * len(ids) if sized else None),
        classes=NAMES,
        image_index=rng.integers(0, len(ids), count),
        # some corners swapped, some boxes flat, some outside
        xyxy=np.concatenate([corner, corner + rng.integers(-1, 30, (count, 2))], axis=1),
        label=rng.integers(0, 2, count),
        score=rng.random(count),
    )


def write(folder: Path, tables: Sequence[BoxTable]) -> list[Path]:
    paths = [folder / f"run{number}.parquet" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        write_run(path, table, RunInfo(model=path.stem, classes=table.classes), kind="parquet")
    return paths


def write_rows(path: Path, ids: Sequence[str], **columns: object) -> Path:
    """A foreign file of one box a row."""
    rows = {
        "image": ids,
        "label": [0] * len(ids),
        **{name: [1.0] * len(ids) for name in ("x1", "y1")},
        **{name: [9.0] * len(ids) for name in ("x2", "y2")},
        "score": [0.5] * len(ids),
    }
    pq.write_table(pa.table(rows | columns), path)
    return path


def joined(stream: RunStream, rows: int) -> list[BoxTable]:
    return [concatenate(parts) for parts in zip(*stream.chunks(rows), strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    images=st.integers(1, 12),
    rows=st.sampled_from([1, 7, 50, 10_000]),
    sized=st.booleans(),
)
def test_runs_in_step_are_the_runs_read_whole(
    seed: int, images: int, rows: int, sized: bool
) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"{i}.jpg" for i in range(images)]
    with tempfile.TemporaryDirectory() as name:
        paths = write(Path(name), [random_run(rng, ids, sized=sized) for _ in range(3)])
        stream, whole = RunStream(paths), read_runs(paths)
        aligned = align_runs(whole)
        assert joined(stream, rows) == aligned.tables
        assert stream.repairs == [run.repairs for run in whole]
        assert stream.notes == aligned.notes
        assert [run.info for run in stream.runs] == [run.info for run in whole]
        assert [run.name for run in stream.runs] == [run.name for run in whole]


def test_runs_that_lack_images_are_read_in_step(tmp_path: Path) -> None:
    a = write_rows(tmp_path / "a.parquet", ["1.jpg", "1.jpg", "10.jpg"])
    b = write_rows(tmp_path / "b.parquet", ["1.jpg", "2.jpg", "10.jpg"])
    stream = RunStream([a, b])
    assert stream.images.ids == ("1.jpg", "2.jpg", "10.jpg")
    counts = [np.diff(table.offsets).tolist() for table in joined(stream, 1)]
    assert counts == [[2, 0, 1], [1, 1, 1]]
    assert stream.notes == align_runs(read_runs([a, b])).notes


def test_any_order_that_all_files_share_will_do(tmp_path: Path) -> None:
    ids = ["7.jpg", "10.jpg", "x.jpg", "2.jpg"]
    paths = [write_rows(tmp_path / f"{n}.parquet", ids) for n in range(3)]
    stream = RunStream(paths)
    assert stream.images.ids == tuple(ids)
    assert [len(table) for table in joined(stream, 2)] == [4, 4, 4]


def test_paths_and_names_are_matched_as_in_whole_runs(tmp_path: Path) -> None:
    a = write_rows(tmp_path / "a.parquet", ["val/1.jpg", "val/2.jpg"])
    b = write_rows(tmp_path / "b.parquet", ["1.jpg", "2.jpg"])
    assert joined(RunStream([a, b]), 1) == align_runs(read_runs([a, b])).tables


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    ids = ["1.jpg", "2.jpg"]
    a = write_rows(tmp_path / "a.parquet", ids, label=["bus", "car"])
    b = write_rows(tmp_path / "b.parquet", ids, label=["car", "van"])
    stream = RunStream([a, b])
    assert stream.classes.names == align_runs(read_runs([a, b])).classes.names
    assert joined(stream, 1) == align_runs(read_runs([a, b])).tables
    c = write_rows(tmp_path / "c.parquet", ids, label=[70, 10_000_000])
    far = {c: Classes.of(["car", "van"], [70, 10_000_000])}
    whole = align_runs(read_runs([a, c], classes=far)).tables
    assert joined(RunStream([a, c], classes=far), 1) == whole


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (["1.jpg", "2.jpg", "1.jpg"], ["1.jpg", "2.jpg"], "a.parquet is not sorted by image"),
        (["1.jpg", "2.jpg"], ["2.jpg", "1.jpg"], "in different orders"),
    ],
)
def test_other_orders_are_told(
    tmp_path: Path, first: list[str], second: list[str], said: str
) -> None:
    a = write_rows(tmp_path / "a.parquet", first)
    b = write_rows(tmp_path / "b.parquet", second)
    with pytest.raises(UnlikeOrders, match=said):
        RunStream([a, b])


def test_fractions_are_left_to_whole_runs(tmp_path: Path) -> None:
    fractions = {"x1": [0.1], "y1": [0.1], "x2": [0.5], "y2": [0.5]}
    with pytest.raises(UnlikeOrders, match="fractions"):
        RunStream([write_rows(tmp_path / "a.parquet", ["1.jpg"], **fractions)])


def test_a_value_at_fault_is_told_by_its_row_in_the_file(tmp_path: Path) -> None:
    ids = [f"{i}.jpg" for i in range(100)]
    score = [0.5] * 77 + [2.0] + [0.5] * 22
    path = write_rows(tmp_path / "a.parquet", ids, score=score)
    with pytest.raises(InputError, match=r"item row 77: field score: .* got 2\.0"):
        list(RunStream([path]).chunks(10))


def test_strict_names_the_first_faulty_box(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.parquet", ["1.jpg", "2.jpg"], x2=[9.0, 0.0])
    assert len(joined(RunStream([path]), 1)[0]) == 2
    with pytest.raises(InputError, match=r"item 2\.jpg: field row 1: width or height is negative"):
        list(RunStream([path], strict=True).chunks(1))


def test_few_boxes_are_alive_at_once(tmp_path: Path) -> None:
    ids = [f"{i:04}.jpg" for i in range(2000) for _ in range(10)]
    paths = [write_rows(tmp_path / f"{n}.parquet", ids) for n in range(2)]
    alive: list[tuple[weakref.ref[BoxTable], int]] = []
    most = 0
    with made_ahead(RunStream(paths).chunks(1000), 2) as parts:
        for tables in parts:
            alive += [(weakref.ref(table), len(table)) for table in tables]
            most = max(most, sum(count for table, count in alive if table() is not None))
    assert 0 < most <= 2 * 1000  # of 40,000: this chunk and the one before it


@given(rows=st.lists(st.integers(0, 50), min_size=1, max_size=40), most=st.integers(1, 60))
def test_spans_cover_all_images_and_are_small(rows: list[int], most: int) -> None:
    spans = list(image_spans(np.array(rows), most))
    assert [image for start, stop in spans for image in range(start, stop)] == list(
        range(len(rows))
    )
    for start, stop in spans:
        assert stop - start == 1 or sum(rows[start:stop]) + stop - start <= most


def test_what_goes_wrong_ahead_or_behind_is_raised_and_the_threads_end() -> None:
    def parts() -> Iterator[int]:
        yield from range(3)
        raise InputError("broken")

    before = threading.active_count()
    taken = []
    with pytest.raises(InputError, match="broken"), made_ahead(parts(), 1) as ahead:
        taken += list(ahead)
    done: list[int] = []
    with pytest.raises(ZeroDivisionError), done_behind(lambda n: done.append(1 // n), 1) as hand:
        [hand(number) for number in (1, 1, 0, 1, 1, 1, 1, 1)]
    with pytest.raises(KeyError), made_ahead(iter(range(99)), 1), done_behind(print, 1):
        raise KeyError
    assert threading.active_count() == before
    assert done == [1, 1]


def test_parts_keep_their_order_and_wait_for_room() -> None:
    made = 0

    def parts() -> Iterator[int]:
        nonlocal made
        for number in range(20):
            made += 1
            yield number

    done: list[int] = []
    with made_ahead(parts(), 2) as ahead, done_behind(done.append, 2) as hand_over:
        time.sleep(0.2)
        assert made <= 3  # two wait, one has no room yet
        for part in ahead:
            hand_over(part)
    assert done == list(range(20))


def test_what_was_read_is_given_back(tmp_path: Path) -> None:
    count = 1_000_000
    rng = np.random.default_rng(0)
    ids = np.repeat([f"{i:03}.jpg" for i in range(500)], count // 500)
    corner = rng.uniform(0, 1000, (4, count)) + np.array([[0], [0], [2000], [2000]])
    columns = dict(zip(("x1", "y1", "x2", "y2"), corner, strict=True))
    path = write_rows(
        tmp_path / "a.parquet",
        ids,
        label=rng.integers(0, 9, count),
        score=rng.random(count),
        **columns,
    )
    before, most = pa.total_allocated_bytes(), 0
    for _ in RunStream([path]).chunks(10_000):
        most = max(most, pa.total_allocated_bytes() - before)
    assert path.stat().st_size > 40e6  # in one group of rows
    assert most < 30e6
