"""Columns of a Parquet run as arrays whose values were judged, a part of the rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smallobj.boxes import Array, InputError
from smallobj.formats.parquet_file import COORDINATES, VIEW, OpenParquet, told_as_input
from smallobj.formats.parquet_labels import ClassIds
from smallobj.formats.values import LARGEST_NUMBER, number_fault

BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Place:
    """Where a part of the rows begins, for messages."""

    path: Path
    first_row: int  # from 0

    def fault(self, row: int, field: str, reason: str, value: object = None) -> InputError:
        """What is told of a value; row counts from the part's first."""
        item = f"row {self.first_row + row}"
        return InputError(reason, file=self.path, item=item, field=field, value=value)


class Rows(NamedTuple):
    """Boxes in the order of the file."""

    xyxy: Array  # [M, 4] finite
    class_id: NDArray[np.int64]  # [M]
    score: Array  # [M] in 0..1
    view: NDArray[np.int32] | None  # [M] index into the file's views


class RowReader:
    """Reads a file's boxes from the first to the last, as many at a time as asked for."""

    def __init__(self, run: OpenParquet, classes: ClassIds, views: tuple[str, ...]) -> None:
        self._run, self._classes = run, classes
        self._views = {name: number for number, name in enumerate(views)}
        columns = ["label", *COORDINATES, "score", *([VIEW] if run.has_views else [])]
        self._batches: Iterator[pa.RecordBatch] = run.batches(columns, BATCH_ROWS)
        self._left: pa.RecordBatch | None = None
        self.row = 0  # of the file, the next one

    def take(self, rows: int) -> Rows:
        """The next boxes; raises InputError where a value is at fault or the file ends early."""
        taken = Rows(
            np.empty((rows, 4)),
            np.empty(rows, np.int64),
            np.empty(rows),
            np.empty(rows, np.int32) if self._run.has_views else None,
        )
        done = 0
        with told_as_input(self._run.path):
            while done < rows:
                batch = self._next(rows - done)
                self._fill(taken, done, batch)
                done += len(batch)
                self.row += len(batch)
        return taken

    def _next(self, most: int) -> pa.RecordBatch:
        batch = self._left
        if batch is None:
            batch = next(self._batches, None)
        if batch is None:
            raise InputError("ends before its last row", file=self._run.path)
        self._left = batch.slice(most) if len(batch) > most else None
        return batch.slice(0, most)

    def _fill(self, taken: Rows, start: int, batch: pa.RecordBatch) -> None:
        place = Place(self._run.path, self.row)
        own = slice(start, start + len(batch))
        with np.errstate(all="ignore"):
            for axis, name in enumerate(COORDINATES):
                taken.xyxy[own, axis] = coordinate(batch.column(name), name, place)
            taken.score[own] = score(batch.column("score"), place)
        taken.class_id[own] = self._classes.of(batch.column("label"), place.path, place.first_row)
        if taken.view is not None:
            taken.view[own] = self._view(batch.column(VIEW))

    def _view(self, column: pa.Array) -> NDArray[np.int32]:
        codes, names = text_codes(column)
        known = np.array([self._views[name or ""] for name in names], np.int32)
        return known[codes]


def coordinate(column: pa.Array, name: str, place: Place) -> Array:
    """Pixels [M]; raises InputError where one is missing, not finite or beyond any image."""
    values = _numbers(column, name, place)
    if len(values) and not (values.min() >= -LARGEST_NUMBER and values.max() <= LARGEST_NUMBER):
        row = int(np.argmin(np.abs(values) <= LARGEST_NUMBER))
        value = float(values[row])
        raise place.fault(row, name, number_fault(value) or "is not a number", value)
    return values


def score(column: pa.Array, place: Place) -> Array:
    """Scores [M]; raises InputError where one is missing or outside 0 to 1."""
    values = _numbers(column, "score", place)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        row = int(np.argmin((values >= 0) & (values <= 1)))
        value = float(values[row])
        raise place.fault(row, "score", number_fault(value) or "score is outside 0 to 1", value)
    return values


def text_codes(column: pa.Array) -> tuple[NDArray[np.int64], list[str | None]]:
    """Which name each row has, [M], and the names; a missing one is None, one may stand twice."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = encoded.indices
    names = encoded.dictionary
    if codes.null_count:
        codes = codes.fill_null(len(names))
    values = codes.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    used, codes_used = np.unique(values, return_inverse=True)
    if len(used) and (used[0] < 0 or used[-1] > len(names)):
        raise pa.ArrowInvalid("a name's number is outside the dictionary")
    own = names.take(pa.array(used[used < len(names)]))
    texts = [None if value is None else str(value) for value in own.to_pylist()]
    return codes_used, [*texts, *([None] if len(texts) < len(used) else [])]


def _numbers(column: pa.Array, name: str, place: Place) -> Array:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise place.fault(row, name, "value is missing")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type != pa.float64():
        column = column.cast(pa.float64(), safe=False)
    return column.to_numpy(zero_copy_only=False)
