"""Threads that read and cut beside the network, and leave the cores to it.

Torch spreads even a copy over threads, by OpenMP, and each thread that calls it has a team of its
own, whose members then wait by spinning. A reader with such a team took a network on two cores 1.3
times as long as it took alone (`python benchmarks/predict_speed.py`), one without 1.06 times.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def compute_alone() -> None:
    """Let torch have no other thread where this one calls it; for threads inside `own_threads`."""
    torch.set_num_threads(1)


@contextmanager
def own_threads() -> Iterator[None]:
    """Afterwards new threads have as many of torch's as before, whatever others set meanwhile.

    Torch keeps a number for each thread, and one that new threads begin with.
    """
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
