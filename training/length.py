"""How many steps a run has, and how often it validates: settled once, then kept."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

from smallobj.training.config import DEFAULT_STEPS, TrainConfig

MEASURED_STEPS = 16  # of a run with a time limit, at least, before its length is settled
MOST_MEASURED_STEPS = 100
_MEASURED_SHARE = 0.02  # of the limit: the first batches were cut before there was a step
_VALIDATION_SHARE = 0.15  # of the time
_MOST_VALIDATIONS = 20
_FORWARD_SHARE = 1 / 3  # of a training step
_RESERVE = 0.95  # of the time that is planned: machines slow down, files are written


@dataclass(frozen=True, kw_only=True)
class Length:
    """The plan of a run."""

    steps: int
    validate_every: int  # steps
    settled: int = 0  # step at which it was; those before were done without knowing of it

    def validates_after(self, steps: int) -> bool:
        """Whether the run validates when so many steps are done."""
        return steps > 0 and (steps % self.validate_every == 0 or steps == self.steps)


def planned_length(
    config: TrainConfig, *, crops: int, val_pixels: int, mean_cost: float = 1.0
) -> Length | None:
    """The length where steps or epochs are given; None where time will tell.

    crops: of an epoch. val_pixels: of all validation images. mean_cost: of a step, in native ones.
    It depends on no clock, so that the same settings give the same weights on any machine.
    """
    if config.time_limit is not None:
        return None
    steps = config.steps or DEFAULT_STEPS
    if config.epochs is not None:
        steps = max(1, math.ceil(config.epochs * crops / config.batch))
    trained = mean_cost * steps * config.batch * config.crops.crop**2 / _FORWARD_SHARE
    return _length(config, steps, int(_VALIDATION_SHARE * trained / max(1, val_pixels)))


def is_measured(step_s: Collection[float], time_limit: float) -> bool:
    """Whether so many steps, of so many seconds each, tell how long those to come take."""
    if len(step_s) >= MOST_MEASURED_STEPS:
        return True
    return len(step_s) >= MEASURED_STEPS and sum(step_s) >= _MEASURED_SHARE * time_limit


def measured_length(
    config: TrainConfig,
    *,
    done: int,
    left_s: float,
    step_s: Sequence[float],
    validation_s: float,
    first_cost: float = 1.0,
    mean_cost: float = 1.0,
) -> Length:
    """The length that fits into what is left of the time limit.

    done: steps so far. step_s: seconds of some of them, of which the median counts. validation_s:
    what a whole validation takes. There is at least one step, and one validation at the end.
    first_cost: of the steps that were done, mean_cost: of all that the run will have; in native
    steps, in proportion to which steps are taken to last.
    """
    usable = max(0.0, left_s * _RESERVE)
    validations = max(1, int(_VALIDATION_SHARE * usable / validation_s))
    validations = min(validations, _MOST_VALIDATIONS)
    left = first_cost * (usable - validations * validation_s) / median(step_s)
    # steps * mean_cost = done * first_cost + left, solved so that at equal costs nothing rounds.
    more = (left + done * (first_cost - mean_cost)) / mean_cost
    return _length(config, done + max(1, int(more)), validations, settled=done)


def _length(config: TrainConfig, steps: int, validations: int, *, settled: int = 0) -> Length:
    validations = min(max(validations, 1), _MOST_VALIDATIONS)
    every = config.validate_every or math.ceil(steps / validations)
    return Length(steps=steps, validate_every=min(every, steps), settled=settled)
