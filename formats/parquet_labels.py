"""The column `label` of a Parquet run: class ids as numbers, or names as text."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smallobj.boxes import Classes, InputError
from smallobj.formats.parquet_file import printable
from smallobj.formats.values import LARGEST_CLASS, class_fault, number_fault


class ClassIds:
    """Turns parts of the column into class ids, and remembers which of them occur.

    known: the classes there are; without them numbers are taken as they are, 0 to LARGEST_CLASS,
    and names are numbered in the order they appear, unless they are all numbers.
    """

    def __init__(self, known: Classes | None) -> None:
        self._known = None if known is None else frozenset(known.source_ids)
        names = () if known is None else zip(known.names, known.source_ids, strict=True)
        self._by_name: dict[str, int] = dict(names)
        self._named = known is not None
        self._judged: set[int] = set()
        self.made_up: dict[str, int] = {}  # ids of names that no one numbered

    @property
    def seen(self) -> list[int]:
        """The class ids that occur, rising."""
        return sorted(self._judged)

    def of(self, column: pa.Array, path: Path, first_row: int) -> NDArray[np.int64]:
        """Class id of each row, [M]; first_row is told in messages.

        Raises InputError where a value is missing, no whole number or no known class.
        """
        if column.null_count:
            row = first_row + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise InputError("value is missing", file=path, item=f"row {row}", field="label")
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if _is_number(column.type):
            return self._numbers(column, path, first_row)
        return self._texts(column.dictionary_encode(), path, first_row)

    def _numbers(self, column: pa.Array, path: Path, first_row: int) -> NDArray[np.int64]:
        if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
            ids = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
            values = ids
        else:
            values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            with np.errstate(all="ignore"):
                ids = values.astype(np.int64)
        for value in _distinct(values):
            if value in self._judged:
                continue
            fault = number_fault(value) or class_fault(value, self._known)
            if fault is not None:
                where = np.isnan(values) if value != value else values == value  # noqa: PLR0124
                item = f"row {first_row + int(np.argmax(where))}"
                raise InputError(fault, file=path, item=item, field="label", value=value)
            self._judged.add(int(value))
        return ids

    def _texts(self, column: pa.DictionaryArray, path: Path, first_row: int) -> NDArray[np.int64]:
        codes = column.indices.to_numpy(zero_copy_only=False)
        ids = np.empty(len(column.dictionary), np.int64)
        for code, name in enumerate(column.dictionary.to_pylist()):
            number = self._id_of(name)
            if number is None:
                item = f"row {first_row + int(np.argmax(codes == code))}"
                reason = f"unknown class; known are {printable(', '.join(self._by_name)[:200])}"
                raise InputError(reason, file=path, item=item, field="label", value=name)
            self._judged.add(number)
            ids[code] = number
        return ids[codes]

    def _id_of(self, name: str) -> int | None:
        if name in self._by_name:
            return self._by_name[name]
        if name.isascii() and name.isdecimal() and class_fault(float(name), self._known) is None:
            return int(name)
        if self._named:
            return None
        number = LARGEST_CLASS + 1 + len(self.made_up)  # above every number there may be as well
        self.made_up[name] = self._by_name[name] = number
        return number


def _distinct(values: NDArray) -> list[int] | list[float]:
    whole = values.dtype == np.int64 and len(values) > 0
    if whole and values.min() >= 0 and values.max() <= LARGEST_CLASS:
        return np.flatnonzero(np.bincount(values)).tolist()  # no need to sort
    return np.unique(values).tolist()


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
