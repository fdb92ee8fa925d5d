"""What tuning tried, chose and found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.ensemble.calibration import Calibration
from smallobj.ensemble.candidates import Candidate, is_alone
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.heatmap import HeatMap, heatmap_of
from smallobj.ensemble.judge import Judged, JudgedStep, mean_known
from smallobj.ensemble.learnt_confidence import LearntConfidence
from smallobj.ensemble.pareto import FrontRow
from smallobj.ensemble.recipe import Recipe
from smallobj.ensemble.tuning_extras import RunBrings, RunReliability, WorkingPoint
from smallobj.evaluation import Difference


@dataclass(frozen=True, kw_only=True, eq=False)
class Step(JudgedStep):
    """One step of tuning; the gains are over the step before that was accepted."""

    tried: int  # candidates, all fits together; those that fits share once
    chosen: tuple[Candidate, ...]  # [1 + F], the first by all images: that one is for the recipe
    above_untuned: Difference


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """What every setting scored, and the steps. Setting r < R is run r alone; R the default."""

    models: tuple[str, ...]  # [R]
    metric: str
    seed: int
    fold: NDArray[np.int64]  # [N], the fold of every image
    settings: tuple[FusionConfig, ...]  # [S]
    scores: Array  # [S], on all images
    held_out: Array  # [S, F], on the images of each fold; NaN where it has no true box
    others: Array  # [S, F], on the images of all other folds
    steps: tuple[Step, ...]
    best_single: int  # the run that is best alone, by the mean over folds
    single: Judged  # that run, on the folds
    untuned: Judged
    gain: Difference  # of the tuned fusion over the best run alone, out of fold
    gain_small: Difference  # the same of objects under 32 px
    calibrations: tuple[Calibration | None, ...]  # [R] of what was chosen; empty: none
    confidence: LearntConfidence | None  # of what was chosen
    reliability: tuple[RunReliability, ...]  # of every run that is calibrated
    brings: tuple[RunBrings, ...]  # what each run brings to what was chosen
    front: tuple[FrontRow, ...]  # ensembles by what they cost, scored on all images
    working_point: WorkingPoint | None

    @property
    def final(self) -> Step:
        """The last step that was accepted."""
        return next(step for step in reversed(self.steps) if step.accepted)

    @property
    def chosen(self) -> Candidate:
        """What was chosen on all images, for the recipe."""
        return self.final.chosen[0]

    @property
    def single_is_chosen(self) -> bool:
        """Whether no fusion beat one of the runs alone."""
        return is_alone(self.chosen.config)

    @property
    def out_of_fold(self) -> float:
        """Mean over folds of what was chosen on the others."""
        return self.final.out_of_fold

    @property
    def in_fold(self) -> float:
        """Mean over folds of the same choices on the images they were chosen on."""
        return self.final.in_fold

    def fold_mean(self, setting: int) -> float:
        """Mean over folds of one setting, which owes them nothing."""
        return mean_known(self.held_out[setting])

    def heatmap(self) -> HeatMap:
        """The best score on all images at every IoU and skip of weighted boxes fusion."""
        chosen = next((s.chosen[0].config for s in self.steps[1:2]), None)
        fused = [
            (place, config)
            for place, config in enumerate(self.settings)
            if config.method == "wbf" and not is_alone(config)
        ]
        return heatmap_of(
            [config for _, config in fused],
            self.scores[[place for place, _ in fused]],
            chosen=chosen,
        )

    def recipe(self) -> Recipe:
        """What was chosen on all images, for the models by name."""
        scores = {
            "out_of_fold": self.out_of_fold,
            "in_fold": self.in_fold,
            "all_images": self.final.all_images,
            "untuned": self.untuned.every.mean,
            "best_single": self.single.every.mean,
        }
        return Recipe(
            models=self.models,
            config=self.chosen.config,
            calibrations=self.calibrations,
            confidence=self.confidence,
            operating_point=None if self.working_point is None else self.working_point.thresholds,
            metric=self.metric,
            scores={k: round(v, 6) for k, v in scores.items() if not np.isnan(v)},
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values of all that is told, for TOML and JSON; None where nothing is known."""
        content: dict[str, Any] = {
            "metric": self.metric,
            "folds": self.held_out.shape[1],
            "images": len(self.fold),
            "seed": self.seed,
            "models": list(self.models),
            "settings": len(self.settings),
            "best_single": _judged(self.single) | {"model": self.models[self.best_single]},
            "untuned": _judged(self.untuned),
            "tuned": _judged(self.final.judged)
            | {"in_fold": self.in_fold, "all_images": self.final.all_images}
            | {"chosen": str(self.chosen), "single_is_best": self.single_is_chosen}
            | {"above_best_single": self.gain._asdict()}
            | {"above_best_single_small": self.gain_small._asdict()}
            | {"above_untuned": self.final.above_untuned._asdict()},
            "step": [_step(step) for step in self.steps],
            "reliability": [one._asdict() for one in self.reliability],
            "brings": [
                {"model": one.model, "weight": one.weight, "gain": one.gain} for one in self.brings
            ],
        }
        if self.front:
            content["front"] = [_front(row, self.models) for row in self.front]
        if self.working_point is not None:
            content["operating_point"] = self.working_point.as_dict()
        return plain(content)


def _judged(judged: Judged) -> dict[str, Any]:
    return {
        "out_of_fold": judged.every.mean,
        "out_of_fold_small": judged.small.mean,
        "folds": judged.every.scores.tolist(),
    }


def _front(row: FrontRow, models: Sequence[str]) -> dict[str, Any]:
    return {
        "models": [models[run] for run in row.runs],
        "weights": [row.weights[run] for run in row.runs],
        "all_images": row.score,
        "weight_mb": row.weight_mb,
        "latency_ms": row.latency_ms,
        "dominated": row.dominated,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "tried": step.tried,
        "accepted": step.accepted,
        "reason": step.reason,
        "chosen": str(step.chosen[0]),
        "chosen_by_fold": [str(candidate) for candidate in step.chosen[1:]],
        "all_images": step.all_images,
        "in_fold": step.in_fold,
        **_judged(step.judged),
        "gain": step.gain._asdict(),
        "gain_small": step.gain_small._asdict(),
        "above_untuned": step.above_untuned._asdict(),
    }


def plain(value: Any) -> Any:
    """The same with scores rounded, and None for what is not known."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(float(value), 6)
    return value
