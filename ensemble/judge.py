"""How what the fits chose does out of fold, and how sure a gain is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.ensemble.folds import Fits
from smallobj.evaluation import (
    EVERY_AREA,
    AreaRange,
    Difference,
    bootstrap_scores,
    difference_of,
    match,
    mean_precision,
    prepare_truth,
    thresholds_of,
)
from smallobj.formats import split_folds

# what a fit chooses, something hashable
Choice = TypeVar("Choice", contravariant=True)  # noqa: PLC0105 - as in every signature here

SMALL_PX = 32
_SMALL = AreaRange(f"<{SMALL_PX} px", 0.0, float(SMALL_PX**2))
_SURE = 0.75  # of the draws have to say so


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Scores on each of F held-out folds, and of D bootstrap draws of its images."""

    scores: Array  # [F], NaN where a fold has no true box
    draws: Array  # [F, D]

    @property
    def mean(self) -> float:
        """Mean over the folds that have a true box; NaN where none has."""
        return mean_known(self.scores)

    def above(self, other: "Held") -> Difference:
        """The gain over another choice on the same draws of the same folds.

        Folds are tuned differently, so the means of folds are drawn, and no pooled curve.
        """
        if np.isnan(self.mean):
            return Difference(np.nan, np.nan, np.nan)
        return difference_of(self._mean_draws(), other._mean_draws(), self.mean - other.mean)

    def share_above(self, other: "Held") -> float:
        """The share of draws in which this is better, the draws moved to where the gain is."""
        gap = self._mean_draws() - other._mean_draws()
        gap = gap[~np.isnan(gap)]
        return float((gap - gap.mean() + self.mean - other.mean > 0).mean()) if len(gap) else 0.0

    def _mean_draws(self) -> Array:
        known = ~np.isnan(self.draws)
        total = np.where(known, self.draws, 0.0).sum(axis=0)
        count = known.sum(axis=0)
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What the choices of all fits do on the folds they did not see."""

    every: Held  # objects
    small: Held  # those under SMALL_PX

    def pays(self, before: "Judged", single: "Judged") -> str:
        """Why a step to this does not pay; empty where it does.

        It pays where the mean out of fold rises, in three of four draws, and objects under 32 px
        do not pay for it: where they surely lose, they must still be found as by the best run.
        """
        if not self.every.mean > before.every.mean:
            return "no gain out of fold"
        if self.every.share_above(before.every) < _SURE:
            return "the gain is too small to be told from chance"
        loses = before.small.share_above(self.small) >= _SURE
        if loses and self.small.mean < single.small.mean:
            return f"loses objects under {SMALL_PX} px"
        return ""


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedStep:
    """What every fit chose at a step of a search, on its own images and on the held-out folds."""

    name: str
    own: Array  # [1 + F], the score of each choice on the images it was chosen on
    judged: Judged  # on the held-out folds
    gain: Difference  # out of fold
    gain_small: Difference  # the same of objects under SMALL_PX
    reason: str  # why it does not pay; empty where it does

    @property
    def accepted(self) -> bool:
        """Whether it pays over the last step accepted before it."""
        return not self.reason

    @property
    def out_of_fold(self) -> float:
        """Mean over folds of what was chosen on the others."""
        return self.judged.every.mean

    @property
    def in_fold(self) -> float:
        """Mean over fits of the same choices on the images they were chosen on."""
        return mean_known(self.own[1:])

    @property
    def all_images(self) -> float:
        """The score of the choice by all images on all images."""
        return float(self.own[0])


class Fuser(Protocol[Choice]):
    """Makes boxes as a choice says."""

    def fused(
        self, candidate: Choice, fit: int, index: NDArray[np.int64] | None = None, /
    ) -> BoxTable:
        """Images at `index` [K], or all, with what the fit learnt; no more boxes than count."""


class Judge(Generic[Choice]):
    """Fuses held-out folds as their fits chose, and scores them; remembers what it has scored."""

    def __init__(
        self,
        truth: BoxTable,
        fits: Fits,
        learner: Fuser[Choice],
        *,
        metric: str,
        seed: int,
        samples: int = 1000,
    ) -> None:
        self._fits, self._learner = fits, learner
        self._levels, self._seed, self._samples = thresholds_of(metric), seed, samples
        self._index = [np.flatnonzero(fits.held_out(fit)) for fit in range(len(fits))]
        self._truth = [prepare_truth(truth.take_images(index)) for index in self._index]
        self._known: dict[tuple[Choice, int], list[tuple[float, Array]]] = {}

    def judge(self, chosen: Sequence[Choice]) -> Judged:
        """Judge one choice a fit, [1 + F]; that of all images has nothing to be judged on."""
        found = [self._fold(candidate, fit) for fit, candidate in enumerate(chosen) if fit]
        every, small = (
            Held(
                scores=np.array([fold[area][0] for fold in found]),
                draws=np.array([fold[area][1] for fold in found]),
            )
            for area in range(2)
        )
        return Judged(every=every, small=small)

    def _fold(self, candidate: Choice, fit: int) -> list[tuple[float, Array]]:
        key = (candidate, fit)
        if key not in self._known:
            fused = self._learner.fused(candidate, fit, self._index[fit])
            self._known[key] = [
                self._score(fused, fit, area) for area in (EVERY_AREA, _SMALL)
            ]  # the fused boxes are under the cap already
        return self._known[key]

    def _score(self, fused: BoxTable, fit: int, area: AreaRange) -> tuple[float, Array]:
        found = match(self._truth[fit], fused, self._levels, max_detections=None, areas=(area,))
        draws = bootstrap_scores(found, samples=self._samples, seed=self._seed + fit - 1)
        return mean_precision(found), draws.mean(axis=1)


def mean_known(values: Array) -> float:
    """Mean of what is not NaN; NaN where all is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def fold_mean(
    truth: BoxTable,
    table: BoxTable,
    *,
    metric: str = "map50",
    folds: int = 5,
    seed: int = 0,
    max_detections: int | None = 100,
) -> float:
    """The metric of one run as a mean over the folds that `tune` deals: beside an out-of-fold mean.

    A mean over small folds lies above the metric of all images: compare like with like.
    """
    matches = match(
        prepare_truth(truth), table, thresholds_of(metric), max_detections=max_detections
    )
    fold = split_folds(truth, folds, seed=seed)
    means = [mean_precision(matches, weight=fold == number) for number in range(folds)]
    return mean_known(np.array(means))
