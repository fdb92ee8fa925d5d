"""Scores already computed, on disk, so that tuning goes on where it was interrupted."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from smallobj.boxes import Array, BoxTable, InputError


def part_path(recipe: Path) -> Path:
    """`recipe.toml` to `recipe.tune.part.jsonl`, which is there while tuning is under way."""
    return recipe.with_name(recipe.stem + ".tune.part.jsonl")


class ScoreStore:
    """Scores by key, in memory, and appended line by line to a file where there is one.

    The first line names the inputs; a file of other inputs is begun anew. A torn last line, as a
    killed process leaves it, is cut off.
    """

    def __init__(self, path: Path | None = None, *, inputs: str = "") -> None:
        self.path = path
        self.found = 0  # scores that an earlier process left
        self._known: dict[str, Array] = {}
        self._file: BinaryIO | None = None
        if path is not None:
            self._file = self._open(path, inputs)

    def get(self, key: str) -> Array | None:
        """The scores of a key, None where they are not known."""
        return self._known.get(key)

    def put(self, keys: Sequence[str], scores: Array) -> None:
        """Keep the scores [K, P] of K keys; on disk when this returns."""
        lines = []
        for key, row in zip(keys, scores, strict=True):
            self._known[key] = row
            values = [None if np.isnan(value) else value for value in row.tolist()]
            lines.append(_line({"key": key, "scores": values}))
        if self._file is not None:
            try:
                self._file.write(b"".join(lines))
                self._file.flush()
            except OSError as error:
                raise _unwritable(self.path, error) from error

    def remove(self) -> None:
        """Close and delete the file: the work is done."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, which stays for the next process."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, path: Path, inputs: str) -> BinaryIO:
        head = _line({"inputs": inputs})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
            file.seek(0)
            good = self._read(file) if file.readline() == head else 0
            file.truncate(good)  # what is appended follows what was whole
            if not good:
                file.write(head)
                file.flush()
            file.seek(0, os.SEEK_END)
        except OSError as error:
            raise _unwritable(path, error) from error
        return file

    def _read(self, file: BinaryIO) -> int:
        """Take over whole lines; returns where the first that is not whole begins."""
        good = file.tell()
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                entry: Any = json.loads(line)
                values = [np.nan if value is None else value for value in entry["scores"]]
                self._known[str(entry["key"])] = np.array(values, np.float64)
            except (ValueError, TypeError, KeyError):
                break
            good += len(line)
        self.found = len(self._known)
        return good


def hash_inputs(truth: BoxTable, tables: Sequence[BoxTable], *settings: object) -> str:
    """A name for everything that scores depend on, but for the setting that is scored."""
    found = hashlib.sha256(repr(settings).encode())
    for table in (truth, *tables):
        found.update(repr((table.images.ids, table.classes)).encode())
        for column in (table.images.width, table.images.height):
            found.update(column.tobytes())
        for name in ("offsets", "xyxy", "label", "score", "area", "ignore"):
            column = getattr(table, name)
            found.update(name.encode() + (b"-" if column is None else column.tobytes()))
    return found.hexdigest()


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _unwritable(path: Path | None, error: OSError) -> InputError:
    return InputError(f"cannot be written: {error.strerror}", file=path)
