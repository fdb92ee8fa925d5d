"""Optimizer, learning rate, averaged weights."""

import copy
import math

import torch
from torch import Tensor, nn

from smallobj.detectors import Detector
from smallobj.training.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD; weight decay for what multiplies (two or more dimensions) alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    fused = parameters[0].device.type in ("cpu", "cuda")
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.highest_lr, momentum=config.momentum, nesterov=True, fused=fused
        )
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.highest_lr, betas=(config.momentum, 0.999), fused=fused)


def learning_rate(step: int, steps: int | None, config: TrainConfig) -> float:
    """Rising for `warmup_steps`, then half a cosine down to `final_lr` of the highest.

    step from 0; steps is the length of the run, None while it is not known yet (warm-up only).
    """
    warmup = config.warmup_steps if steps is None else min(config.warmup_steps, steps // 4)
    if step < warmup:
        return config.highest_lr * (step + 1) / (warmup + 1)
    if steps is None:
        return config.highest_lr
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    share = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    return config.highest_lr * share


class AveragedModel:
    """A copy of a detector whose weights follow it slowly (exponential moving average).

    The decay rises with the steps, so that a short run does not keep its random start.
    """

    def __init__(self, model: Detector, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        pairs = list(zip(_state(self.model), _state(model), strict=True))
        self._floats = [(mine, new) for mine, new in pairs if mine.is_floating_point()]
        self._counts = [(mine, new) for mine, new in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model as it is after `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        mine, new = zip(*self._floats, strict=True)
        torch._foreach_lerp_(mine, new, 1 - decay)
        if self._counts:
            counts, values = zip(*self._counts, strict=True)
            torch._foreach_copy_(counts, values)


class GoodBuffers:
    """The buffers of a model (running means) as they were before a step that went wrong."""

    def __init__(self, model: nn.Module) -> None:
        self._live = list(model.buffers())
        self._kept = [buffer.clone() for buffer in self._live]

    def keep(self) -> None:
        """Remember them as they are."""
        torch._foreach_copy_(self._kept, self._live)

    def restore(self) -> None:
        """Put back what was remembered."""
        torch._foreach_copy_(self._live, self._kept)


def _state(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict(keep_vars=True).values())
