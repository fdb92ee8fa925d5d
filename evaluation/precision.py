from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.evaluation.kernels import precision_by_class
from smallobj.evaluation.matching import Matches, match, prepare_truth

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
    max_rank: int | None = None,
) -> Precision:
    """Average precision of every class and threshold, in one of the matches' area ranges.

    ap: "area" under the monotone envelope of the precision-recall curve (all points), or the mean
    of the envelope at COCO's 101 or VOC's 11 recalls. weight [N] counts every image that often: 0
    and 1 choose a subset, a draw with replacement is a bootstrap sample. max_rank: only the best
    so many of an image and class may be hits (COCO's recall at 1 and 10).
    Raises ValueError where weight is no column of whole numbers.
    """
    if ap not in _RECALL_POINTS:
        raise ValueError(f"unknown interpolation {ap!r}; known: {', '.join(_RECALL_POINTS)}")
    truth, hit = matches.truth, matches.hit[area]
    if max_rank is not None:
        hit = np.where(matches.rank < max_rank, hit, np.int32(0))
    return Precision(
        *precision_by_class(
            matches.class_offsets,
            matches.image,
            hit,
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


def mean_precision(matches: Matches, *, weight: NDArray[np.int64] | None = None) -> float:
    """Mean of the average precision over thresholds and the classes that have true boxes.

    NaN where no class has one. weight: see `average_precision`.
    """
    return float(class_mean(average_precision(matches, weight=weight).average).mean())


def class_mean(by_class: Array) -> Array:
    """Mean over the classes that have true boxes; [C, T] to [T], NaN where there is none."""
    known = ~np.isnan(by_class[:, 0])
    return by_class[known].mean(axis=0) if known.any() else np.full(by_class.shape[1], np.nan)


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
    if weight.shape != (images,) or weight.dtype.kind not in "iub":
        raise ValueError(f"weight is not {images} whole numbers: {weight.dtype} {weight.shape}")
    return np.array(weight, np.int64)
