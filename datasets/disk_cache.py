"""Decoded images on disk, which training reads back as memory maps instead of decoding again.

Whole images, not crops: crops are drawn anew in every epoch, so that one cut ahead is never asked
for again. Of a mapped image the pages that a crop touches are read, and as much around them as the
system reads ahead; it keeps in memory those it has room for. Told not to read ahead (MADV_RANDOM)
it read less and took longer on the disk that was tried, so that is left to the system.
"""

import hashlib
import mmap
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import InputError, whole_file

Pixels = NDArray[np.uint8]
DEFAULT_CACHE_GB = 20.0
FOLDER = "smallobj-decoded"  # inside the user's, so that whatever lies in it is the cache's own

_SUFFIX = ".pixels"
_HEADER = struct.Struct("<8sII")  # what it is, height, width; then the pixels
_MAGIC = b"smallpx1"
_SPARE_BYTES = 1_000_000_000  # left free on the disk, as the run has to write there too
_RECOUNT_S = 10.0  # other runs may be adding to the folder
_STALE_S = 3600.0  # a file is written in seconds: one so old is of a run that was killed


class DiskCache:
    """Raw pixels of images in files, up to a limit; shared by threads and by runs.

    A full cache takes nothing more. Dropping the least recently used would empty it before it is
    used, as an epoch goes through all images and begins again with the one longest unused. Files
    appear whole or not at all; one of wrong length counts as missing, changed bits are not noticed.
    What cannot be written is told once and does no other harm.
    """

    def __init__(
        self, folder: Path, limit_gb: float = DEFAULT_CACHE_GB, *, tell: Callable[[str], None]
    ) -> None:
        """folder: made when the first image is kept. limit_gb: of all that lies there, 1e9 bytes.

        Runs that add at the same time count anew every ten seconds: what they add meanwhile may be
        above the limit. tell: takes a line for the user, from any thread.
        """
        self.folder = folder / FOLDER
        self._limit, self._tell = int(limit_gb * 1e9), tell
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._bytes = self._writing = 0  # counted or reserved, of these being written now
        self._counted_at = -np.inf
        self._stopped = False

    def place(self, path: Path, how: str) -> Path | None:
        """The file for an image as it is now, decoded as `how` says; None where it is not there.

        It is named by path, size and time of the last change: a changed image has another.
        """
        try:
            status = path.stat()
        except OSError:  # reading the image says why
            return None
        name = os.fsencode(path.absolute())
        text = f"\0{status.st_size}\0{status.st_mtime_ns}\0{how}".encode()
        return self.folder / (hashlib.blake2b(name + text, digest_size=20).hexdigest() + _SUFFIX)

    def read(self, place: Path) -> Pixels | None:
        """The image at a place, read-only uint8 [H, W, 3], mapped; None where there is none."""
        try:
            with place.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # an empty file cannot be mapped
            return None
        if len(mapped) < _HEADER.size:
            return None
        magic, height, width = _HEADER.unpack_from(mapped)
        if magic != _MAGIC or len(mapped) != _HEADER.size + height * width * 3:
            return None
        return np.frombuffer(mapped, np.uint8, offset=_HEADER.size).reshape(height, width, 3)

    def keep(self, place: Path, image: Pixels) -> bool:
        """Whether the image, uint8 [H, W, 3], contiguous, is at its place when this returns."""
        if self.read(place) is not None:
            return True  # another thread or run was faster
        size = _HEADER.size + image.nbytes
        if not self._reserved(size):
            return False
        kept = False
        try:
            _write(place, image)
            kept = self.read(place) is not None
            if not kept:  # or it would be written again and again
                raise InputError("what was written there cannot be mapped", file=place)
        except InputError as error:
            self._stopped = True
            self._tell_once(error.reason)
        finally:
            with self._lock:
                self._writing -= size
                self._bytes -= 0 if kept else size
        return kept

    def _reserved(self, size: int) -> bool:
        """Whether there is room for a file, which is then counted."""
        if self._stopped:
            return False
        try:
            lacking = self._lacking(size)
        except OSError as error:
            self._stopped = True
            lacking = f"cannot be written: {error.strerror or error}"
        if lacking is not None:
            self._tell_once(lacking)
        return lacking is None

    def _lacking(self, size: int) -> str | None:
        """Why there is no room for a file; None: it is counted now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free - size < _SPARE_BYTES:
            return f"less than {_SPARE_BYTES / 1e9:g} GB would be left free on the disk"
        with self._lock:
            if time.monotonic() - self._counted_at > _RECOUNT_S:
                self._bytes = self._writing + _bytes_in(self.folder)
                self._counted_at = time.monotonic()
            if self._bytes + size > self._limit:
                return f"{self._limit / 1e9:g} GB are full; --cache-gb sets the limit"
            self._bytes += size
            self._writing += size
        return None

    def _tell_once(self, reason: str) -> None:
        with self._lock:
            told = reason in self._told
            self._told.add(reason)
        if not told:
            self._tell(
                f"{self.folder}: {reason}; images that are not there yet are not kept there, but "
                "decoded when they are needed"
            )


def _write(place: Path, image: Pixels) -> None:
    with whole_file(place) as temporary, temporary.open("wb") as stream:
        stream.write(_HEADER.pack(_MAGIC, *image.shape[:2]))
        stream.write(image.data)


def _bytes_in(folder: Path) -> int:
    """Of all images in the folder; what killed runs left half written is removed."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
                if entry.name.endswith(_SUFFIX):
                    total += status.st_size
                elif entry.name.endswith(".tmp") and time.time() - status.st_mtime > _STALE_S:
                    Path(entry.path).unlink()
            except OSError:  # gone since, or another user's
                continue
    return total
