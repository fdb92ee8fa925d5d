"""What a search for views tried, found and chose."""

from dataclasses import dataclass
from math import isnan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.ensemble.judge import JudgedStep
from smallobj.prediction.view_recipe import ViewRecipe
from smallobj.tta import View


class ViewChoice(NamedTuple):
    """Views by their positions, rising, and how what they find becomes one answer."""

    views: tuple[int, ...]
    nms_iou: float
    merge: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewStep(JudgedStep):
    """One view more, by the name of what all images add; the gains are over the plain view."""

    chosen: tuple[ViewChoice, ...]  # [1 + F], the first by all images: that one is for the recipe
    seconds: float  # an image, of what all images chose


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewSearch:
    """The steps of a search, the plain view first."""

    views: tuple[View, ...]  # all whose candidates were kept
    metric: str
    seed: int
    fold: NDArray[np.int64]  # [N], the fold of every image
    steps: tuple[ViewStep, ...]
    sets: int  # sets of views that were scored, each with its settings

    @property
    def plain(self) -> ViewStep:
        """The plain view."""
        return self.steps[0]

    @property
    def best(self) -> ViewStep:
        """The last step that pays: what is written."""
        return next(step for step in reversed(self.steps) if step.accepted)

    @property
    def chosen(self) -> tuple[View, ...]:
        """The views that pay, in the order of the pool."""
        return self.named(self.best.chosen[0])

    def named(self, choice: ViewChoice) -> tuple[View, ...]:
        """The views of a choice."""
        return tuple(self.views[view] for view in choice.views)

    def recipe(self, model: str, *, code_revision: str = "") -> ViewRecipe:
        """What is written for `predict --recipe`."""
        best, choice = self.best, self.best.chosen[0]
        return ViewRecipe(
            model=model,
            views=self.chosen,
            nms_iou=choice.nms_iou,
            merge=choice.merge,
            metric=self.metric,
            scores={
                "out_of_fold": best.out_of_fold,
                "in_fold": best.in_fold,
                "all_images": best.all_images,
                "plain_out_of_fold": self.plain.out_of_fold,
                "plain_all_images": self.plain.all_images,
                "gain": best.gain.mean,
                "gain_low": best.gain.low,
                "gain_high": best.gain.high,
            },
            seconds_per_image=round(best.seconds, 6),
            code_revision=code_revision,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not known (NaN) becomes None."""
        return {
            "metric": self.metric,
            "seed": self.seed,
            "folds": int(self.fold.max(initial=0)) + 1,
            "images": len(self.fold),
            "sets_scored": self.sets,
            "chosen": [view.name for view in self.chosen],
            "step": [self._step(step) for step in self.steps],
        }

    def _step(self, step: ViewStep) -> dict[str, Any]:
        numbers = {
            "all_images": step.all_images,
            "in_fold": step.in_fold,
            "out_of_fold": step.out_of_fold,
            "out_of_fold_small": step.judged.small.mean,
            "seconds_per_image": step.seconds,
        }
        return {
            "name": step.name,
            "chosen": [self._choice(choice) for choice in step.chosen],
            **{name: _known(value) for name, value in numbers.items()},
            "gain": {name: _known(value) for name, value in step.gain._asdict().items()},
            "gain_small": {n: _known(value) for n, value in step.gain_small._asdict().items()},
            "taken": step.accepted,
            "reason": step.reason,
        }

    def _choice(self, choice: ViewChoice) -> dict[str, Any]:
        views = [view.name for view in self.named(choice)]
        return {"views": views, "nms_iou": choice.nms_iou, "merge": choice.merge}


def _known(value: float) -> float | None:
    return None if isnan(value) else value
