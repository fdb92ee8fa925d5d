from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.boxes.compiled import over_image_ranges
from smallobj.evaluation.matching import Matches, match, prepare_truth
from smallobj.evaluation.precision_kernels import (
    areas_by_weight,
    count_hits,
    precision_by_class,
)

Interpolation: TypeAlias = Literal["area", "coco101", "voc11"]

STEPS_50_95: Array = np.linspace(0.5, 0.95, 10)
_STEPS = {"map50": slice(0, 1), "map75": slice(5, 6), "map50_95": slice(0, 10)}
METRICS = tuple(_STEPS)

_RECALL_POINTS = {
    "area": np.empty(0),
    "coco101": np.linspace(0.0, 1.0, 101),
    "voc11": np.linspace(0.0, 1.0, 11),
}
AP_CHOICES = tuple(_RECALL_POINTS)
_COCO_EPSILON = float(np.spacing(1))

_TOGETHER = 64  # weightings in one pass: more no longer pay and take memory
_WORTHWHILE = 4  # fewer are quicker one by one


class Precision(NamedTuple):
    """Average precision by class and IoU threshold; NaN where a class has no true box."""

    average: Array  # [C, T], 0..1
    recall: Array  # [C, T], 0..1, over all detections kept
    positives: NDArray[np.int64]  # [C], true boxes to be found


def steps_of(metric: str) -> slice:
    """Which of STEPS_50_95 a metric is the mean over; ValueError for an unknown name."""
    if metric not in _STEPS:
        raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    return _STEPS[metric]


def thresholds_of(metric: str) -> Array:
    """The IoU thresholds [T] a metric is the mean over; ValueError for an unknown name."""
    return STEPS_50_95[steps_of(metric)]


def average_precision(
    matches: Matches,
    *,
    area: int = 0,
    ap: Interpolation = "area",
    weight: NDArray[np.int64] | None = None,
) -> Precision:
    """Average precision of every class and threshold, in one of the matches' area ranges.

    ap: "area" under the monotone envelope of the precision-recall curve (all points), or the mean
    of the envelope at COCO's 101 or VOC's 11 recalls. weight [N] counts every image that often: 0
    and 1 choose a subset, a draw with replacement is a bootstrap sample.
    Raises ValueError where weight is no column of whole numbers.
    """
    if ap not in _RECALL_POINTS:
        raise ValueError(f"unknown interpolation {ap!r}; known: {', '.join(_RECALL_POINTS)}")
    truth = matches.truth
    return Precision(
        *precision_by_class(
            matches.class_offsets,
            matches.image,
            matches.hit[area],
            matches.skip[area],
            truth.image,
            truth.label,
            matches.counted[area],
            _whole_weight(weight, len(truth.images)),
            len(matches.thresholds),
            _RECALL_POINTS[ap],
            _COCO_EPSILON if ap == "coco101" else 0.0,
        )
    )


def precision_by_area(matches: Matches, *, ap: Interpolation = "area") -> list[Precision]:
    """`average_precision` in each of the matches' area ranges, on all cores."""

    def score_range(start: int, stop: int) -> list[Precision]:
        return [average_precision(matches, area=area, ap=ap) for area in range(start, stop)]

    cost = np.arange(len(matches.areas) + 1) * len(matches)
    return [one for some in over_image_ranges(score_range, cost) for one in some]


def recall_of_best(matches: Matches, best: int) -> Array:
    """Recall of every class and threshold if only the best so many of an image and class count.

    In the matches' first area range (COCO's recall at 1 and 10). Returns [C, T], NaN where a class
    has no true box.
    """
    found = count_hits(
        matches.class_offsets, matches.hit[0], matches.rank, best, len(matches.thresholds)
    )
    label = matches.truth.label[matches.counted[0]]
    positives = np.bincount(label, minlength=len(found))[:, None]
    return np.divide(found, positives, out=np.full(found.shape, np.nan), where=positives > 0)


def mean_precision(matches: Matches, *, weight: NDArray[np.int64] | None = None) -> float:
    """Mean of the average precision over thresholds and the classes that have true boxes.

    NaN where no class has one. weight: see `average_precision`.
    """
    return float(class_mean(average_precision(matches, weight=weight).average).mean())


def mean_precisions(
    matches: Matches, weights: NDArray[np.int64], *, threads: int | None = 1
) -> Array:
    """`mean_precision` for many weightings of the images at once, several times as fast.

    weights [P, N], see `average_precision`. Returns [P], NaN where no class has a true box.
    threads: None for all cores.
    """
    return precisions_at(matches, weights, threads=threads).mean(axis=1)


def precisions_at(
    matches: Matches,
    weights: NDArray[np.int64],
    *,
    ap: Interpolation = "area",
    threads: int | None = 1,
) -> Array:
    """The mean over classes at each IoU threshold, for many weightings [P, N] of images; [P, T].

    NaN where no class has a true box. Raises ValueError where weights are no whole numbers.
    """
    images, parts = len(matches.truth.images), len(weights)
    _check_whole(weights, (parts, images))
    scores = np.empty((parts, len(matches.thresholds)))
    largest = int(weights.max(initial=0)) * max(len(matches), len(matches.truth))
    together = ap == "area" and parts >= _WORTHWHILE and largest < np.iinfo(np.int32).max

    def score_together(start: int, stop: int) -> None:
        for low in range(start, stop, _TOGETHER):
            span = slice(low, min(low + _TOGETHER, stop))
            scores[span] = class_means(_areas(matches, weights[span]))

    def score_each(start: int, stop: int) -> None:
        for part in range(start, stop):
            precision = average_precision(matches, ap=ap, weight=weights[part])
            scores[part] = class_mean(precision.average)

    over_image_ranges(
        score_together if together else score_each,
        np.arange(parts + 1) * len(matches),
        threads=threads,
    )
    return scores


def _areas(matches: Matches, weights: NDArray[np.int64]) -> Array:
    """The area under the envelope for up to _TOGETHER weightings [P, N]; [P, C, T]."""
    truth = matches.truth
    return areas_by_weight(
        matches.class_offsets,
        matches.image,
        matches.hit[0],
        matches.skip[0],
        truth.image,
        truth.label,
        matches.counted[0],
        np.ascontiguousarray(weights.T, np.int32),
        len(matches.thresholds),
    )


def class_mean(by_class: Array) -> Array:
    """Mean over the classes that have true boxes; [C, T] to [T], NaN where there is none."""
    return class_means(by_class[None])[0]


def class_means(by_class: Array) -> Array:
    """`class_mean` of P of them at once; [P, C, T] to [P, T]."""
    unknown = np.isnan(by_class[:, :, 0])
    count = (~unknown).sum(axis=1)[:, None]
    total = np.where(unknown[:, :, None], 0.0, by_class).sum(axis=1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def map_score(
    truth: BoxTable, predictions: BoxTable, metric: str = "map50", max_detections: int | None = 100
) -> float:
    """One number for a set of predictions, 0..1; NaN where there is no true box.

    metric: "map50", "map75" or "map50_95": the area under the precision-recall curve, mean over
    the classes that have true boxes, the best `max_detections` of an image counted. Scoring many
    predictions against one truth, use `prepare_truth`, `match` and `mean_precision`.
    Raises ValueError for an unknown metric, and where images or classes of the tables differ.
    """
    matches = match(
        prepare_truth(truth), predictions, thresholds_of(metric), max_detections=max_detections
    )
    return mean_precision(matches)


def _whole_weight(weight: NDArray[np.int64] | None, images: int) -> NDArray[np.int64]:
    if weight is None:
        return np.ones(images, np.int64)
    _check_whole(weight, (images,))
    return np.array(weight, np.int64)


def _check_whole(weight: NDArray[np.int64], shape: tuple[int, ...]) -> None:
    if weight.shape != shape or weight.dtype.kind not in "iub":
        wanted = " x ".join(map(str, shape))
        raise ValueError(f"weight is not {wanted} whole numbers: {weight.dtype} {weight.shape}")
