"""Batches cut ahead of the step that takes them: by threads of this process, or by processes."""

import multiprocessing
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from smallobj.boxes import InputError
from smallobj.datasets.config import CropConfig
from smallobj.datasets.threads import compute_alone, own_threads

_AHEAD = 2  # batches of each worker
_SHARED_MEMORY = Path("/dev/shm")


class Batch(NamedTuple):
    """Crops of one training step."""

    images: Tensor  # uint8 [B, 3, S, S]
    xyxy: tuple[Tensor, ...]  # one an image: float32 [M, 4], pixels of the crop
    label: tuple[Tensor, ...]  # one an image: int64 [M]


Wanted = tuple[int, CropConfig | None]  # a step, and the config that its batch is cut by
Cut = Callable[[int, CropConfig | None], Batch]


class Ahead(NamedTuple):
    """A batch that is cut, or being cut."""

    step: int
    config: CropConfig | None
    batch: Callable[[], Batch]  # waits for it; raises InputError where an image cannot be read


class CutsAhead(Protocol):
    """Batches in the order they are wanted, without end."""

    def __enter__(self) -> Self:
        """Begin to cut."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut no more."""
        ...

    def __next__(self) -> Ahead:
        """The next one."""
        ...


class ThreadsAhead:
    """Cuts in threads, which share one cache of images; for the few that a CPU's training needs."""

    def __init__(self, cut: Cut, wanted: Iterator[Wanted], workers: int) -> None:
        self._cut, self._wanted, self._workers = cut, wanted, workers
        self._waiting: deque[Ahead] = deque()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(own_threads())
        self._pool = ThreadPoolExecutor(self._workers, "crops", initializer=compute_alone)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._open.close()

    def __next__(self) -> Ahead:
        while len(self._waiting) < _AHEAD * self._workers:
            step, config = next(self._wanted)
            job = self._pool.submit(self._cut, step, config)
            self._waiting.append(Ahead(step, config, job.result))
        return self._waiting.popleft()


class ProcessesAhead:
    """Cuts in processes that begin as copies of this one, its cache of images included.

    Starting the kernels of a GPU's step takes Python's lock two thousand times: beside eight
    threads that cut, a step took three times as long as alone (H100, crops of 640 px).
    """

    def __init__(
        self, cut: Cut, wanted: Iterator[Wanted], workers: int, begin: Callable[[], None]
    ) -> None:
        """begin: called in each process before it cuts."""
        self._loader = DataLoader(
            _Batches(cut),
            sampler=wanted,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=workers,
            prefetch_factor=_AHEAD,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=partial(_begin, begin),
            multiprocessing_context="fork",
        )

    def __enter__(self) -> Self:
        self._batches = iter(self._loader)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._batches

    def __next__(self) -> Ahead:
        step, config, found = next(self._batches)

        def batch() -> Batch:
            if isinstance(found, InputError):
                raise found
            images, xyxy, label = found
            return Batch(images, *(tuple(map(torch.from_numpy, c)) for c in (xyxy, label)))

        return Ahead(step, config, batch)


def processes_that_fit(workers: int, *, batch: int, crop_px: int) -> int:
    """How many processes, of those wanted, can cut here; 0 where none can.

    Batches reach the training by shared memory, of which containers may have little; and processes
    that begin as copies are not to be had on every system.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return 0
    if not _SHARED_MEMORY.is_dir():
        return workers
    of_a_worker = (_AHEAD + 1) * batch * 3 * crop_px**2
    return min(workers, shutil.disk_usage(_SHARED_MEMORY).free // of_a_worker)


class _Batches(Dataset[Any]):
    """What a process is asked for, and answers: boxes as arrays, as each tensor is an open file."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut

    def __getitem__(self, wanted: Wanted) -> tuple[int, CropConfig | None, Any]:
        try:
            batch = self._cut(*wanted)
        except InputError as error:
            return *wanted, error
        boxes = ([tensor.numpy() for tensor in column] for column in (batch.xyxy, batch.label))
        return *wanted, (batch.images, *boxes)


def _as_it_is(found: Any) -> Any:
    return found


def _begin(begin: Callable[[], None], worker: int) -> None:
    # Ctrl-C reaches every process; the training ends the others when it has saved its state.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begin()
