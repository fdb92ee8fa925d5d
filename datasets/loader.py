"""Batches of crops, cut ahead of the training step that takes them."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self

import torch

from smallobj.datasets.ahead import Batch, CutsAhead, ProcessesAhead, ThreadsAhead
from smallobj.datasets.config import CropConfig
from smallobj.datasets.samples import Samples


class CropLoader:
    """Batch after batch without end, from any step; the same whatever cuts them.

    With 0 workers a batch is cut when it is asked for.
    """

    def __init__(
        self,
        crops: Samples,
        batch: int,
        *,
        workers: int,
        processes: bool = False,
        first_step: int = 0,
        config_at: Callable[[int], CropConfig | None] = lambda step: None,
    ) -> None:
        """config_at: the config that holds at a step, None: the one that the crops were made with.

        What it says when a step is taken counts: a batch that was cut ahead by another config, as
        the length of the run was not known then, is cut again. processes: whether workers are
        processes rather than threads.
        """
        self._crops, self._batch, self._config_at = crops, batch, config_at
        self._wanted = ((step, config_at(step)) for step in count(first_step))
        self._ahead: CutsAhead | None = None
        if workers and processes:
            share = partial(crops.share_memory, workers)
            self._ahead = ProcessesAhead(self._cut, self._wanted, workers, share)
        elif workers:
            self._ahead = ThreadsAhead(self._cut, self._wanted, workers)
        self.waited_s = 0.0  # seconds that the asker waited for batches

    def __enter__(self) -> Self:
        if self._ahead is not None:
            self._ahead.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ahead is not None:
            self._ahead.__exit__(kind, error, trace)

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
        if self._ahead is None:
            return self._cut(*next(self._wanted))
        step, config, batch = next(self._ahead)
        now = self._config_at(step)
        return batch() if now == config else self._cut(step, now)

    def _cut(self, step: int, config: CropConfig | None) -> Batch:
        return make_batch(self._crops, self._batch, step, config)


def make_batch(crops: Samples, batch: int, step: int, config: CropConfig | None = None) -> Batch:
    """The batch of a training step: crops step * batch and on, counted through the epochs.

    config: that holds at the step, None: the one that the crops were made with.
    """
    places = (divmod(i, len(crops)) for i in range(step * batch, (step + 1) * batch))
    images, xyxy, label = zip(*(crops.crop(*place, config) for place in places), strict=True)
    return Batch(torch.stack(images), xyxy, label)
