"""What changes during a run: phases, each from a step on, each with a config of its crops.

A phase is a function of the settings and of the stored length of the run alone, so that a run that
goes on from a snapshot is in the same one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise

from smallobj.boxes import InputError
from smallobj.datasets import CropConfig
from smallobj.training.config import TrainConfig
from smallobj.training.length import Length
from smallobj.training.stages import Stage, parse_stages

_LENGTHS = 2  # kept at hand: not known, and known


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run."""

    first_step: int  # from 0
    crops: CropConfig  # that its samples are cut by
    cost: float  # of a step as a share of a native one: by pixels of a crop, or as was measured
    plain: bool  # without augmentation

    def told(self) -> str:
        """What the detector sees from here on, for people."""
        scale = "" if self.crops.scale == 1 else f" at {self.crops.scale:g} of the native scale"
        kind = "squashed images" if self.crops.input == "squash" else "crops"
        return f"{kind} of {self.crops.crop} px{scale}{', not augmented' if self.plain else ''}"


class Phases:
    """The phases of a run, whatever its length turns out to be."""

    def __init__(
        self, config: TrainConfig, *, stride: int, step_s: Mapping[int, float] | None = None
    ) -> None:
        """stride: of the detector. step_s: seconds of a step by side of the crops, where measured.

        They change costs, not phases. Raises InputError where crops of a stage become too small.
        """
        stages = (*parse_stages(config.stages), Stage(scale=1, share=0))
        self._crops = [_staged(config.crops, stage, stride) for stage in stages]
        self._ends = list(accumulate(stage.share for stage in stages[:-1]))  # shares of the run
        self._plain_end, self._step_s = config.plain_end, step_s
        self.of = lru_cache(_LENGTHS)(self._of)

    def at(self, step: int, length: Length | None) -> Phase:
        """The phase that step (from 0) is in; while the length is not known, the first one."""
        return next(phase for phase in reversed(self.of(length)) if phase.first_step <= step)

    def _of(self, length: Length | None) -> tuple[Phase, ...]:
        """All phases in order.

        One that would begin before the step at which the length was settled begins there: earlier
        steps were done without knowing of it.
        """
        if length is None:
            return (self._phase(0, 0, plain=False),)
        ends = [max(round(end * length.steps), length.settled) for end in self._ends]
        plain = max(length.steps - round(self._plain_end * length.steps), length.settled)
        first = sorted({0, *(step for step in (*ends, plain) if step < length.steps)})
        return tuple(
            self._phase(step, sum(end <= step for end in ends), plain=plain <= step)
            for step in first
        )

    def _phase(self, first_step: int, stage: int, *, plain: bool) -> Phase:
        crops = self._crops[stage]
        return Phase(
            first_step=first_step,
            crops=crops.plain() if plain else crops,
            cost=self._cost(stage),
            plain=plain,
        )

    def _cost(self, stage: int) -> float:
        mine, native = self._crops[stage].crop, self._crops[-1].crop
        if self._step_s is None:
            return (mine / native) ** 2
        return self._step_s[mine] / self._step_s[native]

    @property
    def configs(self) -> tuple[CropConfig, ...]:
        """Of the crops of each stage, augmented, the native one last."""
        return tuple(self._crops)

    @property
    def mean_cost(self) -> float:
        """Of a step, over a whole run; 1: every crop is native."""
        bounds = (0.0, *self._ends, 1.0)
        return sum(
            (end - start) * self._cost(stage) for stage, (start, end) in enumerate(pairwise(bounds))
        )

    def cost_left(self, step: int, length: Length) -> float:
        """Of the steps from `step` on, in native ones."""
        phases = self.of(length)
        ends = [phase.first_step for phase in phases[1:]] + [length.steps]
        return sum(
            max(0, end - max(step, phase.first_step)) * phase.cost
            for phase, end in zip(phases, ends, strict=True)
        )


def _staged(crops: CropConfig, stage: Stage, stride: int) -> CropConfig:
    """The same field of view in a crop of about `stage.scale` of the side, a multiple of stride."""
    if stage.scale == 1:
        return crops
    crop_px = round(crops.crop * stage.scale / stride) * stride
    try:
        return replace(crops, crop=crop_px, scale=crop_px / crops.crop)
    except InputError as error:
        raise InputError(
            f"crops of {crops.crop} px become {crop_px} px at {stage.scale:g} of the scale: "
            f"{error.field} {error.reason}",
            field="stages",
        ) from error
