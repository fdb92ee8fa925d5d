"""How long a detector takes for a batch, by a clock that waits for the device."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smallobj.detectors import Detector
from smallobj.prediction.device import autocast


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of a batch, over repeats."""

    repeats: int
    forward_p50_ms: float  # the network alone
    p50_ms: float  # the network, then decoding into candidate boxes
    p95_ms: float
    batch: int

    @property
    def images_a_second(self) -> float:
        """At the median."""
        return self.batch / self.p50_ms * 1000


def measure_latency(
    detector: Detector, images: Tensor, *, precision: str, warm_up: int, repeats: int
) -> Latency:
    """Time a batch already on the detector's device; `warm_up` passes are not counted.

    On a GPU CUDA events are read after the device has finished, elsewhere the clock on the wall.
    """
    device, size = images.device, (images.shape[2], images.shape[3])
    raw: dict[str, Tensor] = {}
    context = autocast(device, precision)

    def forward() -> None:
        with context:
            raw.update(detector(images))

    def decode() -> None:
        detector.decode(raw, size)

    forwards, wholes = [], []
    with torch.inference_mode():
        for number in range(warm_up + repeats):
            first, second = _timed(device, forward), _timed(device, decode)
            if number >= warm_up:
                forwards.append(first)
                wholes.append(first + second)
    middle, slow = np.percentile(wholes, (50, 95))
    return Latency(
        repeats=repeats,
        forward_p50_ms=float(np.median(forwards)),
        p50_ms=float(middle),
        p95_ms=float(slow),
        batch=len(images),
    )


def _timed(device: torch.device, work: Callable[[], None]) -> float:
    """Milliseconds until the device has done the work."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end))
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


@contextmanager
def threads_of(count: int | None) -> Iterator[int]:
    """Compute on `count` CPU threads (None: as many as torch uses) and yield their number."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
