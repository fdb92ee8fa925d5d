"""JSON objects of images with rows of numbers: decoded typed and checked as columns.

Only a file with a fault is walked value by value, to tell which image and field it is.
"""

import gc
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, InputError
from smallobj.formats.faults import Faults
from smallobj.formats.image_ids import id_fault, normal_id
from smallobj.formats.values import LARGEST_NUMBER, Wrong, class_fault, number_fault

LABEL_FIELDS = ("class", "x", "y", "w", "h")
RUN_FIELDS = (*LABEL_FIELDS, "score")
_BOM = b"\xef\xbb\xbf"
_DECODERS: dict[tuple[str, ...], msgspec.json.Decoder[Any]] = {
    fields: msgspec.json.Decoder(dict[str, list[tuple[(float,) * len(fields)]]])  # type: ignore[misc]
    for fields in (LABEL_FIELDS, RUN_FIELDS)
}


class JsonRows(NamedTuple):
    """Rows of all images, in the order of the file."""

    ids: list[str]  # in normal form, each once
    image_index: NDArray[np.int64]  # [M]
    number: NDArray[np.int64]  # [M] position of the row in its image's list
    rows: Array  # [M, len(fields)]


def read_json_bytes(path: Path) -> bytes:
    """The bytes of a file that is to be JSON, without a byte order mark.

    Raises InputError where the file is missing, a folder, unreadable or empty.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("no such file", file=path) from error
    except IsADirectoryError as error:
        raise InputError("is a folder, not a file", file=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    content = content.removeprefix(_BOM)
    if not content.strip():
        raise InputError("is empty", file=path)
    return content


def read_rows(
    path: Path,
    content: bytes,
    fields: tuple[str, ...],
    class_ids: Collection[int] | None,
    faults: Faults,
) -> JsonRows:
    """Rows of `{"a.jpg": [[...], ...], ...}`, whose columns are `fields`.

    class_ids: the classes there are, None where unknown. Faulty rows are reported and left out.
    """
    try:
        with collector_paused():
            ids, counts, rows = _decode(content, fields)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _walk(path, content, fields, class_ids, faults)
    # Rows hold numbers only, so every quotation mark belongs to a key: fewer keys are duplicates.
    unique = content.count(b'"') == 2 * len(ids) == 2 * len(set(ids))
    if not unique or any(map(id_fault, ids)) or not _all_right(rows, fields, class_ids):
        return _walk(path, content, fields, class_ids, faults)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return JsonRows(
        ids, np.repeat(np.arange(len(ids)), counts), np.arange(len(rows)) - starts, rows
    )


def load_json(path: Path, content: bytes) -> Any:
    """The file as plain objects, NaN and infinity let through; repeated keys kept by `Pairs`.

    Raises InputError where it is not JSON.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=Pairs)
    except UnicodeDecodeError as error:
        raise InputError("is not JSON: not UTF-8 text", file=path) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}", file=path
        ) from error
    except RecursionError as error:
        raise InputError("is not JSON that can be read: nested too deeply", file=path) from error


class Pairs(dict[str, Any]):
    """A JSON object that remembers keys that stood in it more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without garbage collection, which triples the time to build a million small tuples."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _decode(content: bytes, fields: tuple[str, ...]) -> tuple[list[str], NDArray[np.int64], Array]:
    """Image ids, their numbers of rows, and the rows; what else was decoded is freed here."""
    images = _DECODERS[fields].decode(content)
    counts = np.fromiter(map(len, images.values()), np.int64, len(images))
    flat = chain.from_iterable(chain.from_iterable(images.values()))
    rows = np.fromiter(flat, np.float64, int(counts.sum()) * len(fields))
    return list(map(normal_id, images)), counts, rows.reshape(-1, len(fields))


def _all_right(rows: Array, fields: tuple[str, ...], class_ids: Collection[int] | None) -> bool:
    if not (np.abs(rows) <= LARGEST_NUMBER).all():  # NaN is neither
        return False
    used = np.unique(rows[:, 0])
    if any(class_fault(value, class_ids) for value in used.tolist()):
        return False
    if "score" in fields:
        score = rows[:, fields.index("score")]
        return bool(((score >= 0) & (score <= 1)).all())
    return True


def _walk(
    path: Path,
    content: bytes,
    fields: tuple[str, ...],
    class_ids: Collection[int] | None,
    faults: Faults,
) -> JsonRows:
    images = load_json(path, content)
    if not isinstance(images, Pairs):
        raise InputError(
            "has to be an object of images with lists of boxes",
            file=path,
            value=images if not isinstance(images, list | str) else _kind_of(images),
        )
    ids: dict[str, None] = {}
    good: list[tuple[int, int, list[float]]] = []
    for key, rows in images.pairs:
        image_id = normal_id(key)
        wrong_id = id_fault(image_id)
        if wrong_id is not None:
            faults.add("image id", wrong_id, file=path, item=key)
            continue
        if image_id in ids:
            faults.add("duplicate image", "image stands twice in the file", file=path, item=key)
            continue
        if not isinstance(rows, list):
            faults.add(
                "not a list", "has to be a list of boxes", file=path, item=key, value=_kind_of(rows)
            )
            continue
        ids[image_id] = None
        for number, row in enumerate(rows):
            wrong = _row_fault(row, fields, class_ids)
            if wrong is None:
                good.append((len(ids) - 1, number, row))
                continue
            field = f"box {number} {wrong.field}".rstrip()
            faults.add(
                wrong.kind, wrong.reason, file=path, item=image_id, field=field, value=wrong.value
            )
    return JsonRows(
        list(ids),
        np.array([image for image, _, _ in good], np.int64),
        np.array([number for _, number, _ in good], np.int64),
        np.array([row for _, _, row in good], np.float64).reshape(-1, len(fields)),
    )


def _row_fault(
    row: object, fields: tuple[str, ...], class_ids: Collection[int] | None
) -> Wrong | None:
    if not isinstance(row, list) or len(row) != len(fields):
        expected = f"a box has {len(fields)} values ({', '.join(fields)})"
        got = f"{len(row)} values: {row}" if isinstance(row, list) else row
        return Wrong("number of values", "", expected, got)
    for name, value in zip(fields, row, strict=True):
        kind, reason = "not a number", number_fault(value)
        if reason is None and name == "class":
            kind, reason = "unknown class", class_fault(value, class_ids)
        if reason is None and name == "score" and not 0 <= value <= 1:
            kind, reason = "score", "score is outside 0 to 1"
        if reason is not None:
            return Wrong(kind, name, reason, "null" if value is None else value)
    return None


def _kind_of(value: object) -> str:
    if isinstance(value, list):
        first = f" of {type(value[0]).__name__} values" if value else ""
        return f"a list{first}"
    return repr(value)
