"""Batches of crops, cut by threads ahead of the training step that takes them."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import Tensor

from smallobj.datasets.config import CropConfig
from smallobj.datasets.samples import Samples
from smallobj.datasets.threads import compute_alone, own_threads


class Batch(NamedTuple):
    """Crops of one training step."""

    images: Tensor  # uint8 [B, 3, S, S]
    xyxy: tuple[Tensor, ...]  # one an image: float32 [M, 4], pixels of the crop
    label: tuple[Tensor, ...]  # one an image: int64 [M]


class CropLoader:
    """Batch after batch without end, from any step; the same on any number of threads.

    Threads, not processes: decoding and array work release Python's lock, and all share one
    cache of images. With 0 workers a batch is cut when it is asked for.
    """

    def __init__(
        self,
        crops: Samples,
        batch: int,
        *,
        workers: int,
        first_step: int = 0,
        config_at: Callable[[int], CropConfig | None] = lambda step: None,
    ) -> None:
        """config_at: the config that holds at a step, None: the one that the crops were made with.

        What it says when a step is taken counts: a batch that was cut ahead by another config, as
        the length of the run was not known then, is cut again.
        """
        self._crops, self._batch, self._config_at = crops, batch, config_at
        self._next = first_step
        self._pool = (
            ThreadPoolExecutor(workers, "crops", initializer=compute_alone) if workers else None
        )
        self._open = ExitStack()
        self._ahead = 2 * workers
        self._waiting: deque[_Ahead] = deque()
        self.waited_s = 0.0  # seconds that the asker waited for batches

    def __enter__(self) -> Self:
        self._open.enter_context(own_threads())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._open.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch; raises InputError where an image cannot be read."""
        started = time.perf_counter()
        try:
            return self._take()
        finally:
            self.waited_s += time.perf_counter() - started

    def _take(self) -> Batch:
        if self._pool is None:
            self._next += 1
            return self._cut(self._next - 1, self._config_at(self._next - 1))
        while len(self._waiting) < self._ahead:
            config = self._config_at(self._next)
            job = self._pool.submit(self._cut, self._next, config)
            self._waiting.append(_Ahead(self._next, config, job))
            self._next += 1
        ahead = self._waiting.popleft()
        config = self._config_at(ahead.step)
        if config != ahead.config:
            ahead.job.cancel()
            return self._cut(ahead.step, config)
        return ahead.job.result()

    def _cut(self, step: int, config: CropConfig | None) -> Batch:
        return make_batch(self._crops, self._batch, step, config)


class _Ahead(NamedTuple):
    """A batch that is cut before its step is taken."""

    step: int
    config: CropConfig | None
    job: Future[Batch]


def make_batch(crops: Samples, batch: int, step: int, config: CropConfig | None = None) -> Batch:
    """The batch of a training step: crops step * batch and on, counted through the epochs.

    config: that holds at the step, None: the one that the crops were made with.
    """
    places = (divmod(i, len(crops)) for i in range(step * batch, (step + 1) * batch))
    images, xyxy, label = zip(*(crops.crop(*place, config) for place in places), strict=True)
    return Batch(torch.stack(images), xyxy, label)
