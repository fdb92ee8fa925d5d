"""The one decorator of compiled kernels, and the thread pool that runs them over ranges of images.

A kernel's cached code is renewed when its own file changes, or the file of a compiled function that
its file knows, directly or through others: so kernels may share functions across files. Constants
are not followed: one that a kernel uses stands in its own file, or beside a compiled function it
imports. Call a kernel with one set of array types only (C-contiguous, as BoxTable's columns are);
each further set is compiled again, and two processes that compile different sets of one kernel at
the same moment could mix up their files.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Result = TypeVar("Result")

_RANGES_PER_THREAD = 4  # so that a thread which got the crowded images does not keep all waiting


class _ForgivingCache(FunctionCache):
    """numba's cache of machine code, for which a full disk or a damaged file is a miss.

    numba's own renews the code with the kernel's file alone, this one with its helpers' files too.
    """

    def __init__(self, function: Callable[..., Any], helpers: frozenset[str]) -> None:
        super().__init__(function)
        own = self._impl.locator.get_source_stamp()
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=(own, tuple(_stamp(path) for path in sorted(helpers))),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling a damaged file may raise: compile again
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # also where the index that is to be extended is damaged
            self.disable()


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel at its first call, without the GIL, and keep the machine code on disk.

    The code is kept in __pycache__ beside the kernel, else in the user's cache folder; where
    neither can be written it is compiled anew in every process.
    """
    # a division by zero gives inf or nan, as in numpy: a check at each keeps LLVM from much
    kernel: Any = numba.njit(nogil=True, error_model="numpy")(function)
    helpers = _helper_files(function)
    kernel.source_files = helpers | {function.__code__.co_filename}
    try:
        kernel._cache = _ForgivingCache(function, helpers)
    except RuntimeError:  # numba's word for: no folder to write to
        return kernel
    return kernel


def inlined(function: Kernel) -> Kernel:
    """Make a function part of each kernel that calls it, before that is compiled.

    For what is called once a box: numba counts the references to arrays at every call, which takes
    longer than a short call itself. Its file counts among those of the kernels that know it.
    """
    helper: Any = numba.njit(nogil=True, error_model="numpy", inline="always")(function)
    helper.source_files = _helper_files(function) | {function.__code__.co_filename}
    return helper


def _helper_files(function: Kernel) -> frozenset[str]:
    """The files of all compiled functions that a function's module knows, and of those they know.

    Taken at decoration: what stands further down in the same file is renewed with that file.
    """
    files = {__file__}
    for known in function.__globals__.values():
        if isinstance(known, Dispatcher):
            files.update(getattr(known, "source_files", (known.py_func.__code__.co_filename,)))
    return frozenset(files - {function.__code__.co_filename})


def _stamp(path: str) -> tuple[str, str]:
    """What changes with a source file: its name and its text, if it is on disk."""
    try:
        text = Path(path).read_bytes()
    except OSError:
        text = b""
    return Path(path).name, hashlib.sha256(text).hexdigest()


def cpu_count() -> int:
    """Number of CPU cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_image_ranges(
    work: Callable[[int, int], Result], offsets: NDArray[np.int64], *, threads: int | None = None
) -> list[Result]:
    """Run `work(start, stop)` over ranges of images on all cores; results in the ranges' order.

    offsets [N + 1] are a table's (any never falling cost will do): every range gets about as many
    rows, and every image is in exactly one range. `threads` None means all cores, 1 runs in the
    caller's thread. `work` should spend its time in a compiled kernel. Its error is raised here.
    """
    threads = cpu_count() if threads is None else threads
    ranges = image_ranges(offsets, threads * _RANGES_PER_THREAD if threads > 1 else 1)
    if threads <= 1 or len(ranges) <= 1:
        return [work(start, stop) for start, stop in ranges]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda span: work(*span), ranges))


def image_ranges(offsets: NDArray[np.int64], parts: int) -> list[tuple[int, int]]:
    """At most `parts` ranges (start, stop) of images with about equal numbers of rows.

    offsets [N + 1]. An image counts as one row more than it has, so that empty ones are shared out.
    """
    images = len(offsets) - 1
    cost = offsets + np.arange(images + 1)
    wanted = np.linspace(cost[0], cost[-1], parts + 1)[1:-1]
    cuts = [0, *np.searchsorted(cost, wanted).tolist(), images]
    return [(start, stop) for start, stop in pairwise(cuts) if stop > start]
