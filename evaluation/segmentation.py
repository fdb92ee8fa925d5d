"""Pixel by pixel: how a map of classes agrees with the truth, from one matrix of counts.

Pixel accuracy and mean intersection over union as Long, Shelhamer, Darrell 2015 define them
(https://arxiv.org/abs/1411.4038, section 5), but over the classes that the truth holds. Labels are
0 to C - 1; the background is C, a class like the others.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array

PIXEL_METRICS = ("mean_iou", "pixel_accuracy")
UNJUDGED = -1  # in a map of the truth: whatever was predicted there does not count


def draw_boxes(
    xyxy: Array,
    label: NDArray[np.int32],
    *,
    size: tuple[int, int],
    background: int,
    ignore: NDArray[np.bool_] | None = None,
) -> NDArray[np.int32]:
    """The class of every pixel, [H, W], as boxes draw it: smaller ones over larger ones.

    xyxy [M, 4], pixels; label [M]; size (height, width). A pixel is in a box where its centre is.
    Boxes marked in `ignore` [M] leave their pixels UNJUDGED, where no other box covers them.
    """
    drawn = np.full(size, background, np.int32)
    area = (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1)
    first = np.zeros(len(label), np.bool_) if ignore is None else ignore
    colour = np.where(first, UNJUDGED, label)
    edges = np.ceil(xyxy - 0.5).clip(min=0).astype(np.int64)
    for i in np.lexsort((-area, ~first)):
        left, top, right, bottom = edges[i]
        drawn[top:bottom, left:right] = colour[i]
    return drawn


def count_pixels(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """How many pixels of each true class (row) were taken for each class (column).

    truth and predicted, of one shape, hold 0 to num_classes (the background); truth UNJUDGED too.
    Returns [num_classes + 1, num_classes + 1]; those of several images are added.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"shapes {truth.shape} and {predicted.shape} differ")
    side = num_classes + 1
    judged = truth != UNJUDGED
    row, column = truth[judged].astype(np.int64), predicted[judged].astype(np.int64)
    if any(len(v) and not 0 <= v.min() <= v.max() < side for v in (row, column)):
        raise ValueError(f"a class is outside 0 to {num_classes}")
    return np.bincount(row * side + column, minlength=side * side).reshape(side, side)


def class_ious(counts: NDArray[np.int64]) -> Array:
    """Intersection over union of each class's pixels, [C + 1]; NaN where the truth has none.

    A class that is only predicted has no figure of its own: it costs those whose pixels it took.
    """
    true, predicted, hit = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    union = true + predicted - hit
    return np.where(true > 0, hit / np.maximum(union, 1), np.nan)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean of class_ious over the classes that the truth holds; NaN where it is without pixels."""
    ious = class_ious(counts)
    present = ious[~np.isnan(ious)]
    return float(present.mean()) if len(present) else np.nan


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """Share of the pixels whose class is right; NaN where there are none."""
    total = counts.sum()
    return float(counts.trace() / total) if total else np.nan


def pixel_scores(counts: NDArray[np.int64]) -> dict[str, float]:
    """PIXEL_METRICS by name."""
    values: Sequence[float] = (mean_iou(counts), pixel_accuracy(counts))
    return dict(zip(PIXEL_METRICS, values, strict=True))
