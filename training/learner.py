"""A detector that learns: its optimizer, its averaged weights, and one step of both."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.datasets import Batch
from smallobj.detectors import Detector, Target
from smallobj.prediction import autocast, out_of_memory
from smallobj.training.config import TrainConfig
from smallobj.training.dry_step import dry_step_s
from smallobj.training.optimise import AveragedModel, GoodBuffers, make_optimizer
from smallobj.training.recorded import record_network


class TooLargeStepError(InputError):
    """Memory does not suffice for a step."""


class Learner:
    """Takes batches, one a step; weights stay as they are where a step is not finite."""

    def __init__(
        self,
        config: TrainConfig,
        model: Detector,
        precision: str,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """tell: is told where the network's kernels cannot be recorded, see `record_network`."""
        self.model, self.device, self.precision = model, model.mean.device, precision
        self.averaged = AveragedModel(model, config.ema)
        self._config = config
        self._optimizer = make_optimizer(model, config)
        self._buffers = GoodBuffers(model)
        if self.on_gpu and config.record:
            record_network(model, precision, tell)

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on one."""
        return self.device.type == "cuda"

    def state(self) -> dict[str, Mapping[str, Any]]:
        """What `restore` takes."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be as when `state` was asked for."""
        self.model.load_state_dict(state["model"])
        self.averaged.model.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._buffers.keep()

    def step(self, batch: Batch, number: int, rate: float) -> tuple[dict[str, float], list[str]]:
        """Losses by name, `loss` their sum, `gradient` its norm; and which of them are not finite.

        number: of the step, from 0. Raises TooLargeStepError where memory is short.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._buffers.keep()
        with self._in_memory(f"step {number + 1}"):
            values = self._gradients(batch)
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            self._buffers.restore()
        else:
            self._optimizer.step()
            self.averaged.update(number)
        self._optimizer.zero_grad(set_to_none=True)
        return values, wrong

    def seconds_of(self, batch: Batch) -> float:
        """About what a step with such a batch takes; nothing is learnt."""
        with self._in_memory("a step"):
            return dry_step_s(self.model, lambda: self._losses(batch))

    def _gradients(self, batch: Batch) -> dict[str, float]:
        losses = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        limit = self._config.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        found = [*losses.values(), total, norm]
        # Together: each number that is asked for waits for the device.
        values = torch.stack([value.detach() for value in found]).tolist()
        return dict(zip((*losses, "loss", "gradient"), values, strict=True))

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        images = batch.images
        if self.on_gpu:
            pinned = images if images.is_pinned() else images.pin_memory()
            images = pinned.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            return self.model(images.to(self.device), targets_of(batch))

    @contextmanager
    def _in_memory(self, what: str) -> Iterator[None]:
        """Turns what is raised where memory is short into a TooLargeStepError."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise TooLargeStepError(
                f"memory of {self.device} does not suffice for {what}: "
                f"a smaller --batch than {self._config.batch}, or a smaller --crop than "
                f"{self._config.crops.crop}, takes less"
            ) from error


def targets_of(batch: Batch) -> list[Target]:
    """What a detector is to find in each crop."""
    return [Target(*target) for target in zip(batch.xyxy, batch.label, strict=True)]
