"""Batches of crops, cut by threads ahead of the training step that takes them."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import Tensor

from smallobj.datasets.samples import Samples


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

    def __init__(self, crops: Samples, batch: int, *, workers: int, first_step: int = 0) -> None:
        self._crops, self._batch = crops, batch
        self._next = first_step
        self._pool = ThreadPoolExecutor(workers, "crops") if workers else None
        self._ahead = 2 * workers
        self._waiting: deque[Future[Batch]] = deque()
        self.waited_s = 0.0  # seconds that the asker waited for batches

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

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
            return make_batch(self._crops, self._batch, self._next - 1)
        while len(self._waiting) < self._ahead:
            job = self._pool.submit(make_batch, self._crops, self._batch, self._next)
            self._waiting.append(job)
            self._next += 1
        return self._waiting.popleft().result()


def make_batch(crops: Samples, batch: int, step: int) -> Batch:
    """The batch of a training step: crops step * batch and on, counted through the epochs."""
    places = (divmod(i, len(crops)) for i in range(step * batch, (step + 1) * batch))
    images, xyxy, label = zip(*(crops.crop(epoch, index) for epoch, index in places), strict=True)
    return Batch(torch.stack(images), xyxy, label)
