"""What a step would take, found out without learning anything."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from smallobj.training.optimise import GoodBuffers

_TIMES = 3  # the first ones allocate memory and choose kernels


def dry_step_s(model: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> float:
    """Seconds of forward and backward, the least of three; weights and buffers stay as they are.

    losses: of one batch, by the model. No gradient is left behind.
    """
    buffers, spent = GoodBuffers(model), []
    for _ in range(_TIMES):
        started = time.perf_counter()
        total = torch.stack(list(losses().values())).sum()
        total.backward()
        float(total.detach())  # a GPU has done what it was given before
        spent.append(time.perf_counter() - started)
        model.zero_grad(set_to_none=True)
        buffers.restore()
    return min(spent)
