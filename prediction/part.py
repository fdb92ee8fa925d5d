"""Predictions that grow on disk, an image a line, so that a stopped run can go on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np

from smallobj.boxes import InputError
from smallobj.prediction.engine import Seen
from smallobj.tta import Boxes

_COORDINATE_DECIMALS = 3  # thousandths of a pixel
_SCORE_DECIMALS = 7


class _Head(msgspec.Struct):
    """First line: what the predictions below were made with."""

    settings: dict[str, Any]


class _Row(msgspec.Struct):
    """One image."""

    id: str
    size: tuple[int, int]  # width, height
    boxes: list[tuple[int, float, float, float, float, float]]  # label, xyxy, score
    seconds: float  # since the row before


class PartFile:
    """NAME.part.jsonl beside NAME.json; a torn last line is tolerated and cut off.

    Opening one that was begun with other settings raises InputError naming what differs. Use as a
    context manager: closed without a single image it is removed.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.done: set[str] = set()  # ids of the images it holds
        # as JSON gives them back, to be compared
        self._settings = msgspec.json.decode(msgspec.json.encode(dict(settings)))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            end = self._resume() if path.exists() else 0
            self._stream: BinaryIO = path.open("r+b" if end else "wb")
            self._stream.truncate(end)
            self._stream.seek(end)
        except OSError as error:
            raise self._unwritable(error) from error
        if not end:
            self._write(_Head(self._settings))

    def append(self, image_id: str, seen: Seen, seconds: float) -> None:
        """Add an image; it is with the operating system when this returns."""
        xyxy = seen.boxes.xyxy.round(_COORDINATE_DECIMALS).tolist()
        score = seen.boxes.score.round(_SCORE_DECIMALS).tolist()
        boxes = [
            (label, x1, y1, x2, y2, s)
            for label, (x1, y1, x2, y2), s in zip(
                seen.boxes.label.tolist(), xyxy, score, strict=True
            )
        ]
        self._write(_Row(image_id, (seen.width, seen.height), boxes, round(seconds, 4)))
        self.done.add(image_id)

    def read(self) -> tuple[dict[str, Seen], float]:
        """Every image by id (`Seen.image` has no meaning here), and the seconds they took."""
        found: dict[str, Seen] = {}
        seconds = 0.0
        for _, row in self._rows():
            found[row.id] = _seen(row)
            seconds += row.seconds
        return found, seconds

    def remove(self) -> None:
        """Delete the file: its predictions are written elsewhere."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        if not self.done:
            self.path.unlink(missing_ok=True)

    def _write(self, row: _Head | _Row) -> None:
        try:
            self._stream.write(msgspec.json.encode(row) + b"\n")
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _resume(self) -> int:
        """Take note of the images that are there; returns where the last whole line ends."""
        end = 0
        for stop, row in self._rows():
            self.done.add(row.id)
            end = stop
        return end

    def _rows(self) -> Iterator[tuple[int, _Row]]:
        """Each whole line after the first, decoded, with its end in bytes from the start."""
        decoder = msgspec.json.Decoder(_Row)
        with self.path.open("rb") as stream:
            head = stream.readline()
            if not head.endswith(b"\n"):
                return
            self._check(head)
            end = len(head)
            for number, line in enumerate(stream, 2):
                try:
                    row = decoder.decode(line)
                except msgspec.DecodeError as error:
                    if stream.read(1):
                        raise self._foreign(f"line {number} is damaged") from error
                    return
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                yield end, row

    def _check(self, line: bytes) -> None:
        try:
            there = msgspec.json.decode(line, type=_Head).settings
        except msgspec.DecodeError as error:
            raise self._foreign("is no part file of predictions") from error
        for name, value in self._settings.items():
            if there.get(name) != value:
                raise self._foreign(
                    f"was begun with other settings ({name} {there.get(name)}, now {value})"
                )

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"cannot be written: {error.strerror or error}", file=self.path)

    def _foreign(self, reason: str) -> InputError:
        return InputError(f"{reason}: delete it to begin anew", file=self.path)


def part_path(out: Path) -> Path:
    """Where the predictions of `out`, NAME.json, grow: NAME.part.jsonl."""
    return out.with_name(f"{out.stem}.part.jsonl")


def _seen(row: _Row) -> Seen:
    columns = np.array(row.boxes, np.float64).reshape(-1, 6)
    boxes = Boxes(columns[:, 1:5], columns[:, 5], columns[:, 0].astype(np.int32))
    return Seen(0, *row.size, boxes)
