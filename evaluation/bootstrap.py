"""How far a score would move with other images: resampling by image (Efron & Tibshirani, 1993)."""

from typing import NamedTuple

import numpy as np

from smallobj.boxes import Array, BoxTable
from smallobj.boxes.compiled import over_image_ranges
from smallobj.evaluation.matching import Matches, match, prepare_truth
from smallobj.evaluation.precision import (
    Interpolation,
    average_precision,
    class_mean,
    thresholds_of,
)

_PERCENTILES = (2.5, 97.5)


class Interval(NamedTuple):
    """The middle 95 % of the bootstrap's scores."""

    low: float
    high: float


class Difference(NamedTuple):
    """By how much the first set of predictions is better: mean and middle 95 % of the samples."""

    mean: float
    low: float
    high: float


def bootstrap_scores(
    matches: Matches,
    *,
    samples: int = 1000,
    seed: int = 0,
    ap: Interpolation = "area",
    threads: int | None = None,
) -> Array:
    """Scores of `samples` draws of as many images as there are, with replacement.

    In the matches' first area range; nothing is matched again. Returns [S, T]: the mean over
    classes at each threshold, NaN where a draw has no true box. The draws depend on seed and number
    of images alone, so that two sets of predictions are drawn alike.
    """
    images = len(matches.truth.images)
    scores = np.empty((samples, len(matches.thresholds)))

    def score_range(start: int, stop: int) -> None:
        for sample in range(start, stop):
            drawn = np.random.default_rng((seed, sample)).integers(images, size=images)
            weight = np.bincount(drawn, minlength=images)
            scores[sample] = class_mean(average_precision(matches, ap=ap, weight=weight).average)

    over_image_ranges(score_range, np.arange(samples + 1), threads=threads)
    return scores


def interval_of(scores: Array) -> Interval:
    """The middle 95 % of bootstrap scores [S]; NaN where none is known."""
    return Interval(*_percentiles(scores))


def difference_of(a: Array, b: Array) -> Difference:
    """By how much `a` is better than `b`, bootstrap scores [S] of the same draws."""
    gap = a - b
    known = gap[~np.isnan(gap)]
    return Difference(float(known.mean()) if known.size else np.nan, *_percentiles(gap))


def bootstrap_interval(
    truth: BoxTable,
    predictions: BoxTable,
    metric: str = "map50",
    *,
    samples: int = 1000,
    seed: int = 0,
    max_detections: int | None = 100,
) -> Interval:
    """The interval within which a metric falls in 95 % of draws of images; see `map_score`."""
    return interval_of(
        _scores(truth, predictions, metric, max_detections, samples=samples, seed=seed)
    )


def paired_bootstrap(
    truth: BoxTable,
    a: BoxTable,
    b: BoxTable,
    metric: str = "map50",
    *,
    samples: int = 1000,
    seed: int = 0,
    max_detections: int | None = 100,
) -> Difference:
    """By how much predictions `a` are better than `b` on the same draws of images."""
    return difference_of(
        _scores(truth, a, metric, max_detections, samples=samples, seed=seed),
        _scores(truth, b, metric, max_detections, samples=samples, seed=seed),
    )


def _scores(
    truth: BoxTable,
    predictions: BoxTable,
    metric: str,
    max_detections: int | None,
    *,
    samples: int,
    seed: int,
) -> Array:
    levels = thresholds_of(metric)
    matches = match(prepare_truth(truth), predictions, levels, max_detections=max_detections)
    return bootstrap_scores(matches, samples=samples, seed=seed).mean(axis=1)


def _percentiles(scores: Array) -> tuple[float, float]:
    known = scores[~np.isnan(scores)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.percentile(known, _PERCENTILES)
    return float(low), float(high)
