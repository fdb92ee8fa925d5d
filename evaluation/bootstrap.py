"""How far a score would move with other images: resampling by image (Efron & Tibshirani, 1993).

A draw holds many images several times, which alone lifts average precision: in random data with
many false detections by twice its spread. So the draws are moved until their mean is the score;
docs/metric.md has the measurement.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.boxes.compiled import over_image_ranges
from smallobj.evaluation.matching import Matches, match, prepare_truth
from smallobj.evaluation.precision import (
    Interpolation,
    mean_precision,
    precisions_at,
    thresholds_of,
)

_PERCENTILES = (2.5, 97.5)
_DRAWN_TOGETHER = 64  # as many as are scored in one pass; all at once might not fit in memory


class Interval(NamedTuple):
    """Where the score of other images of the kind is expected, with 95 % probability."""

    low: float
    high: float


class Difference(NamedTuple):
    """By how much the first set of predictions is better, and the 95 % interval of that."""

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
        for low in range(start, stop, _DRAWN_TOGETHER):
            high = min(low + _DRAWN_TOGETHER, stop)
            weights = draw_images(images, range(low, high), seed)
            scores[low:high] = precisions_at(matches, weights, ap=ap)

    over_image_ranges(score_range, np.arange(samples + 1) * len(matches), threads=threads)
    return scores


def draw_images(images: int, samples: Iterable[int], seed: int = 0) -> NDArray[np.int64]:
    """How often each of N images is in each draw of N with replacement; [S, N].

    samples: the numbers of the draws; a draw depends on seed, its number and N alone.
    """
    weights = [
        np.bincount(
            np.random.default_rng((seed, sample)).integers(images, size=images), minlength=images
        )
        for sample in samples
    ]
    return np.array(weights, np.int64).reshape(len(weights), images)


def interval_of(draws: Array, score: float) -> Interval:
    """The 95 % interval of a score in 0..1 from its draws [S]; NaN where none is known."""
    return Interval(*(min(max(end, 0.0), 1.0) for end in _spread(draws, score)))


def difference_of(draws_a: Array, draws_b: Array, difference: float) -> Difference:
    """The 95 % interval of score a - score b from the same draws [S] of both."""
    return Difference(difference, *_spread(draws_a - draws_b, difference))


def bootstrap_interval(
    truth: BoxTable,
    predictions: BoxTable,
    metric: str = "map50",
    *,
    samples: int = 1000,
    seed: int = 0,
    max_detections: int | None = 100,
) -> Interval:
    """The 95 % interval of a metric, by drawing images; see `map_score`."""
    matches = _match(truth, predictions, metric, max_detections)
    return interval_of(_draws(matches, samples, seed), mean_precision(matches))


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
    """By how much predictions `a` are better than `b`, drawing the same images for both."""
    pair = [_match(truth, table, metric, max_detections) for table in (a, b)]
    draws_a, draws_b = (_draws(matches, samples, seed) for matches in pair)
    return difference_of(draws_a, draws_b, mean_precision(pair[0]) - mean_precision(pair[1]))


def _match(
    truth: BoxTable, predictions: BoxTable, metric: str, max_detections: int | None
) -> Matches:
    levels = thresholds_of(metric)
    return match(prepare_truth(truth), predictions, levels, max_detections=max_detections)


def _draws(matches: Matches, samples: int, seed: int) -> Array:
    return bootstrap_scores(matches, samples=samples, seed=seed).mean(axis=1)


def _spread(draws: Array, value: float) -> tuple[float, float]:
    known = draws[~np.isnan(draws)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.percentile(known, _PERCENTILES) - known.mean() + value
    return float(low), float(high)
