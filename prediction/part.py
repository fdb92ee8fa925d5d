"""Predictions that grow on disk, an image a line, so that a stopped run can go on."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import InputError
from smallobj.prediction.engine import Seen
from smallobj.prediction.names import printable
from smallobj.tta import Boxes

_COORDINATE_DECIMALS = 3  # thousandths of a pixel
_SCORE_DECIMALS = 7
# candidates are suppressed later: no IoU, no order of scores may change by rounding
_CANDIDATE_DECIMALS = (6, 12)
_SYNC_S = 5.0  # what a power cut may cost


class Stamp(NamedTuple):
    """Two numbers that differ where an image's file was changed."""

    size: int  # bytes
    change: int  # time in nanoseconds, or a checksum


class _Head(msgspec.Struct):
    """First line: what the predictions below were made with."""

    settings: dict[str, Any]


class _Row(msgspec.Struct):
    """One image."""

    id: str
    size: tuple[int, int]  # width, height
    boxes: list[tuple[int, float, float, float, float, float]]  # label, xyxy, score
    seconds: float  # since the row before
    stamp: tuple[int, int] = (0, 0)
    views: list[int] | msgspec.UnsetType = msgspec.UNSET  # of candidates, one a box


class PartFile:
    """NAME.part.jsonl beside NAME.json; a torn last line is tolerated and cut off.

    Of every image among `ids` only the place of its line is kept, so memory does not grow with
    what was found. A line of an image that stands twice replaces the one before. Opening a file
    that was begun with other settings raises InputError naming what differs, unless it is `spent`:
    what it holds is in a run already, so it is begun anew. Use as a context manager: closed
    without a single line it is removed.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        ids: Sequence[str],
        *,
        spent: bool = False,
    ) -> None:
        self.path = path
        self.seconds = 0.0  # that its images took, all starts together
        self.place: NDArray[np.int64] = np.full(len(ids), -1, np.int64)  # of a line; -1: none
        self.stamps: NDArray[np.int64] = np.zeros((len(ids), 2), np.int64)
        self.sizes: NDArray[np.int32] = np.zeros((len(ids), 2), np.int32)  # width, height
        self._ids = ids
        # as JSON gives them back, to be compared
        self._settings = msgspec.json.decode(msgspec.json.encode(dict(settings)))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._empty = True
            self._end = self._resume(spent) if path.exists() else 0
            self._stream: BinaryIO = path.open("r+b" if self._end else "w+b")
            self._stream.truncate(self._end)
            self._stream.seek(self._end)
        except OSError as error:
            raise self._unwritable(error) from error
        self._synced = time.monotonic()
        if not self._end:
            self._write(_Head(self._settings))

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which of the images it holds; [N]."""
        return self.place >= 0

    def forget(self, image: int) -> None:
        """Have an image predicted again, because its file was changed."""
        self.place[image] = -1

    def append(self, image: int, seen: Seen, seconds: float, stamp: Stamp) -> None:
        """Add an image; it is with the operating system when this returns, soon on the disk."""
        decimals = (_COORDINATE_DECIMALS, _SCORE_DECIMALS)
        if seen.view is not None:
            decimals = _CANDIDATE_DECIMALS
        xyxy = seen.boxes.xyxy.round(decimals[0]).tolist()
        score = seen.boxes.score.round(decimals[1]).tolist()
        boxes = [
            (label, x1, y1, x2, y2, s)
            for label, (x1, y1, x2, y2), s in zip(
                seen.boxes.label.tolist(), xyxy, score, strict=True
            )
        ]
        views = msgspec.UNSET if seen.view is None else seen.view.tolist()
        place, seconds, size = self._end, round(seconds, 4), (seen.width, seen.height)
        self._write(_Row(self._ids[image], size, boxes, seconds, stamp, views))
        self.place[image], self.stamps[image], self.sizes[image] = place, stamp, size
        self.seconds += seconds
        self._empty = False

    def read(self, image: int) -> Seen:
        """What was found in one of the images that it holds."""
        with self.path.open("rb") as stream:
            return self._read(stream, image)

    def read_all(self, images: Sequence[int]) -> Iterator[Seen]:
        """What was found in these images, one after the other."""
        with self.path.open("rb") as stream:
            for image in images:
                yield self._read(stream, image)

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
        if self._empty:
            self.path.unlink(missing_ok=True)

    def _read(self, stream: BinaryIO, image: int) -> Seen:
        assert self.place[image] >= 0
        stream.seek(self.place[image])
        return _seen(msgspec.json.decode(stream.readline(), type=_Row))

    def _write(self, row: _Head | _Row) -> None:
        line = msgspec.json.encode(row) + b"\n"
        try:
            self._stream.write(line)
            self._stream.flush()
            if time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._stream.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise self._unwritable(error) from error
        self._end += len(line)

    def _resume(self, spent: bool) -> int:
        """Take note of the images that are there; returns where the last whole line ends."""
        if spent and not self._fits():
            return 0
        index = {image_id: i for i, image_id in enumerate(self._ids)}
        end = 0
        for begin, stop, row in self._rows():
            end = stop
            if row is None:
                continue
            self._empty = False
            image = index.get(row.id, -1)
            if image >= 0:  # images of an earlier start may be gone
                self.place[image], self.stamps[image] = begin, row.stamp
                self.sizes[image] = row.size
                self.seconds += row.seconds
        return end

    def _rows(self) -> Iterator[tuple[int, int, _Row | None]]:
        """Where each whole line begins and ends, and its row; None for the first, the head."""
        decoder = msgspec.json.Decoder(_Row)
        with self.path.open("rb") as stream:
            head = stream.readline()
            if not head.endswith(b"\n"):
                return
            self._check(head)
            end = len(head)
            yield 0, end, None
            for number, line in enumerate(stream, 2):
                try:
                    row = decoder.decode(line)
                except msgspec.DecodeError as error:
                    if stream.read(1):
                        raise self._foreign(f"line {number} is damaged") from error
                    return
                if not line.endswith(b"\n"):
                    return
                yield end, end + len(line), row
                end += len(line)

    def _fits(self) -> bool:
        with self.path.open("rb") as stream:
            try:
                self._check(stream.readline())
            except InputError:
                return False
        return True

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
        return InputError(
            f"cannot be written: {error.strerror or error}", file=printable(self.path)
        )

    def _foreign(self, reason: str) -> InputError:
        return InputError(f"{reason}: delete it to begin anew", file=printable(self.path))


def part_path(out: Path) -> Path:
    """Where the predictions of `out`, NAME.json or .parquet, grow: NAME.part.jsonl."""
    return out.with_name(f"{out.stem}.part.jsonl")


def _seen(row: _Row) -> Seen:
    columns = np.array(row.boxes, np.float64).reshape(-1, 6)
    boxes = Boxes(columns[:, 1:5], columns[:, 5], columns[:, 0].astype(np.int32))
    view = None if row.views is msgspec.UNSET else np.array(row.views, np.int32)
    return Seen(0, *row.size, boxes, view=view)
