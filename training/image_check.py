"""Every image is looked at once before the first step, so that none ends a run in the middle."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from smallobj.boxes import InputError, write_bytes
from smallobj.boxes.compiled import cpu_count
from smallobj.datasets import ImageCache, compute_alone, own_threads, read_image
from smallobj.prediction import Skipped, escaped, printable, write_skipped
from smallobj.training.config import TrainConfig
from smallobj.training.folder import RunFolder
from smallobj.training.part import Part
from smallobj.training.reporting import Reporter

_MOST_THREADS = 8
_PIXELS_AT_ONCE = 300e6  # decoded in all threads together, at 3 bytes; one image is always let in
_MOST_NAMED = 3


class Looked(msgspec.Struct, array_like=True):
    """What a look at an image's file came to, and the file's size and time then."""

    size: int  # bytes
    time_ns: int  # of the last change
    fault: str | None = None  # why it cannot be read


class ImageCheck:
    """Decodes every image of a run's parts, and says which of them cannot be read.

    Training images stay in the cache as far as it has room. A run that goes on looks again only
    at those whose files changed since, and leaves out those that it left out before.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: TrainConfig,
        cache: ImageCache,
        reporter: Reporter,
        *,
        resumed: bool,
    ) -> None:
        """folder: of the run; nothing is written there but by `keep`, or where it is refused."""
        self._folder, self._config, self._cache = folder, config, cache
        self._reporter = reporter
        self._before = read_looked(folder) if resumed else {}
        self._looked: dict[str, Looked] = {}
        self._skipped: list[Skipped] = []

    def __call__(self, parts: Sequence[Part]) -> Collection[Path]:
        """The images that cannot be read, of the part trained on and the one validated on.

        Raises InputError where they are more than `max_bad`, or one changed since the run began.
        """
        fresh: dict[Path, bool] = {}  # and whether it is trained on
        for number, part in enumerate(parts):
            for path in part.paths:
                key, now = printable(path), _stamp(path)
                before = self._before.get(key)
                self._looked[key] = now
                if before is not None and before.fault is not None:
                    self._looked[key] = before
                elif before is None or before != now:
                    fresh.setdefault(path, number == 0)
        sizes = [p.table.images.width * p.table.images.height for p in parts]
        largest = max(int(pixels.max(initial=1)) for pixels in sizes)
        for path, fault in zip(fresh, self._faults(fresh, largest), strict=True):
            if fault is not None:
                self._note(path, fault)
        ids = {path: i for p in parts for path, i in zip(p.paths, p.table.images.ids, strict=True)}
        return self._left_out(ids)

    def keep(self) -> None:
        """Write which images were left out, and what a run that goes on need not look at again."""
        write_skipped(self._folder.skipped, self._skipped)
        write_bytes(self._folder.images, msgspec.json.encode(self._looked))

    def _note(self, path: Path, fault: str) -> None:
        key = printable(path)
        if key in self._before:
            raise InputError(f"was changed since the run began and {fault}", file=path)
        self._looked[key].fault = fault

    def _left_out(self, ids: Mapping[Path, str]) -> Collection[Path]:
        bad = {path: self._looked[printable(path)].fault for path in ids}
        self._skipped = [Skipped(ids[path], fault) for path, fault in bad.items() if fault]
        if not self._skipped:
            return ()
        count, most = len(self._skipped), self._config.max_bad
        named = [f"{escaped(s.id)} ({s.reason})" for s in self._skipped[:_MOST_NAMED]]
        more = f" and {count - _MOST_NAMED} more" if count > _MOST_NAMED else ""
        told = f"{count} of {len(ids)} images cannot be read: {', '.join(named)}{more}"
        if count > most:
            write_skipped(self._folder.skipped, self._skipped)
            raise InputError(f"{told}; --max-bad {most} allows no more", file=self._folder.skipped)
        self._reporter.note(f"{told}; left out, listed in {printable(self._folder.skipped)}")
        return {path for path, fault in bad.items() if fault}

    def _faults(self, fresh: Mapping[Path, bool], largest_pixels: int) -> Iterator[str | None]:
        """Why each image cannot be read, None where it can; Ctrl-C ends it at once."""
        threads = min(_MOST_THREADS, cpu_count(), max(1, int(_PIXELS_AT_ONCE // largest_pixels)))
        pool = ThreadPoolExecutor(threads, "look", initializer=compute_alone)
        started = time.monotonic()
        with own_threads():
            try:
                found = pool.map(self._fault, fresh, fresh.values())
                for done, fault in enumerate(found, 1):
                    left_s = (time.monotonic() - started) / done * (len(fresh) - done)
                    self._reporter.checking(done, len(fresh), left_s)
                    yield fault
            finally:
                pool.shutdown(cancel_futures=True)

    def _fault(self, path: Path, kept: bool) -> str | None:
        try:
            if kept:
                self._cache.read(path)
            else:
                read_image(path, max_megapixels=self._config.max_megapixels)
        except InputError as error:
            return error.reason + ("" if error.value is None else f", got {error.value}")
        return None


def read_looked(folder: RunFolder) -> dict[str, Looked]:
    """What a run wrote down of its images, by printable path; nothing where it is not there."""
    try:
        content = folder.images.read_bytes()
    except OSError:
        return {}
    try:
        return msgspec.json.decode(content, type=dict[str, Looked])
    except msgspec.DecodeError as error:
        raise InputError(f"cannot be read ({error})", file=folder.images) from error


def _stamp(path: Path) -> Looked:
    try:
        status = path.stat()
    except OSError:  # reading it says why
        return Looked(0, 0)
    return Looked(status.st_size, status.st_mtime_ns)
