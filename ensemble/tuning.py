"""Choosing fusion settings on labelled images, judged on images that had no say in the choice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, InputError
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import fuse
from smallobj.ensemble.grid import Grid
from smallobj.ensemble.recipe import Recipe
from smallobj.ensemble.scoring import score_settings
from smallobj.evaluation import (
    Difference,
    bootstrap_scores,
    difference_of,
    match,
    mean_precision,
    prepare_truth,
    thresholds_of,
)
from smallobj.formats import split_folds


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """What every setting scored, and what was chosen.

    Setting r < R is run r alone, as it is; setting R the untuned default; then comes the grid.
    """

    models: tuple[str, ...]  # [R]
    metric: str
    settings: tuple[FusionConfig, ...]  # [S]
    scores: Array  # [S], on all images
    held_out: Array  # [S, F], on the images of each fold; NaN where it has no true box
    others: Array  # [S, F], on the images of all other folds
    gain: Difference  # of the tuned fusion over the best run alone, out of fold

    @property
    def chosen(self) -> int:
        """The setting that is best on all images; of equal ones the simplest."""
        return int(np.nanargmax(self.scores))

    @property
    def chosen_by_fold(self) -> NDArray[np.int64]:
        """The setting that is best on the images outside each fold, [F]."""
        return chosen_by_fold(self.others)

    @property
    def untuned(self) -> int:
        """The setting of the untuned default."""
        return len(self.models)

    @property
    def best_single(self) -> int:
        """The run that is best alone, by the mean over folds."""
        return best_single(self.held_out, len(self.models))

    @property
    def single_is_chosen(self) -> bool:
        """Whether no fusion beat one of the runs alone."""
        return self.chosen < len(self.models)

    @property
    def out_of_fold(self) -> float:
        """Mean over folds of what was chosen on the others."""
        folds = np.arange(self.held_out.shape[1])
        return float(np.nanmean(self.held_out[self.chosen_by_fold, folds]))

    @property
    def in_fold(self) -> float:
        """Mean over folds of the same choices on the images they were chosen on."""
        folds = np.arange(self.others.shape[1])
        return float(np.nanmean(self.others[self.chosen_by_fold, folds]))

    def fold_mean(self, setting: int) -> float:
        """Mean over folds of one setting, which owes them nothing."""
        return float(np.nanmean(self.held_out[setting]))

    def recipe(self) -> Recipe:
        """What was chosen on all images, for the models by name."""
        scores = {
            "out_of_fold": self.out_of_fold,
            "in_fold": self.in_fold,
            "all_images": float(self.scores[self.chosen]),
            "untuned": self.fold_mean(self.untuned),
            "best_single": self.fold_mean(self.best_single),
        }
        return Recipe(
            models=self.models,
            config=self.settings[self.chosen],
            metric=self.metric,
            scores={name: round(score, 6) for name, score in scores.items()},
        )


def tune(
    truth: BoxTable,
    tables: Sequence[BoxTable],
    models: Sequence[str],
    grid: Grid | None = None,
    *,
    metric: str = "map50",
    folds: int = 5,
    seed: int = 0,
    max_detections: int | None = 100,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Try every setting of a grid, each run alone and the untuned default, in and out of fold.

    The tables, one a model, share images and classes with the truth. The images are dealt into
    `folds` alike in classes and boxes; for each fold the setting that is best on the others is
    scored on it. on_progress: settings done, and of how many; from any thread.

    Raises ValueError for an unknown metric, values or weights a grid cannot have, tables that do
    not fit; InputError where the truth has no boxes or fewer images than folds.
    """
    if not len(truth):
        raise InputError("the labels hold no boxes: there is nothing to tune on")
    thresholds_of(metric)
    runs = len(tables)
    settings = (
        *(alone(run, runs, max_detections) for run in range(runs)),
        FusionConfig(weights=(1.0,) * runs, max_detections=max_detections),
        *(grid or Grid()).settings(runs, max_detections=max_detections),
    )
    fold = split_folds(truth, folds, seed=seed)
    inside = (fold == np.arange(folds)[:, None]).astype(np.int64)
    parts = np.concatenate([np.ones((1, len(fold)), np.int64), inside, 1 - inside])
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if on_progress is not None:
            on_progress(done, len(settings))

    scores = score_settings(truth, tables, settings, metric=metric, parts=parts, on_progress=count)
    held_out, others = scores[:, 1 : folds + 1], scores[:, folds + 1 :]
    chosen, single = chosen_by_fold(others), best_single(held_out, runs)
    difference = np.nanmean(held_out[chosen, np.arange(folds)]) - np.nanmean(held_out[single])
    gain = _gain(
        truth,
        tables,
        fold,
        tuned=[settings[setting] for setting in chosen],
        single=settings[single],
        difference=float(difference),
        metric=metric,
        seed=seed,
    )
    return Tuning(
        models=tuple(models),
        metric=metric,
        settings=settings,
        scores=scores[:, 0],
        held_out=held_out,
        others=others,
        gain=gain,
    )


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
    return float(np.nanmean([mean_precision(matches, weight=fold == f) for f in range(folds)]))


def alone(run: int, runs: int, max_detections: int | None) -> FusionConfig:
    """Settings that leave one run as it is, but for the cap: no box overlaps by more than 1."""
    weights = tuple(float(other == run) for other in range(runs))
    return FusionConfig(iou=1.0, skip=0.0, weights=weights, max_detections=max_detections)


def chosen_by_fold(others: Array) -> NDArray[np.int64]:
    """The setting that is best on the images outside each fold; [S, F] to [F]."""
    return np.argmax(np.nan_to_num(others, nan=-1.0), axis=0)


def best_single(held_out: Array, runs: int) -> int:
    """The best of the first settings, which are the runs alone, by the mean over folds."""
    return int(np.argmax(np.nanmean(held_out[:runs], axis=1)))


def _gain(
    truth: BoxTable,
    tables: Sequence[BoxTable],
    fold: NDArray[np.int64],
    *,
    tuned: Sequence[FusionConfig],
    single: FusionConfig,
    difference: float,
    metric: str,
    seed: int,
) -> Difference:
    """Paired bootstrap of the mean over folds: each fold's images are drawn, both scored on them.

    Folds are tuned differently, so their curves are not pooled.
    """
    samples = []
    for number, config in enumerate(tuned):
        index = np.flatnonzero(fold == number)
        prepared = prepare_truth(truth.take_images(index))
        own = [table.take_images(index) for table in tables]
        gap = [
            bootstrap_scores(
                match(prepared, fuse(own, setting), thresholds_of(metric), max_detections=None),
                seed=seed + number,
            ).mean(axis=1)
            for setting in (config, single)
        ]
        samples.append(gap)
    by_fold = np.array(samples)  # [F, 2, draws], NaN where a draw has no true box
    scored = ~np.isnan(by_fold).all(axis=(0, 1))
    tuned_draws, single_draws = np.nanmean(by_fold[:, :, scored], axis=0)
    return difference_of(tuned_draws, single_draws, difference)
