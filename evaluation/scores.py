from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import numpy as np

from smallobj.boxes import BoxTable
from smallobj.evaluation.matching import EVERY_AREA, AreaRange, Matches, match, prepare_truth
from smallobj.evaluation.precision import (
    STEPS_50_95,
    Interpolation,
    Precision,
    class_mean,
    precision_by_area,
)

_SIDES_PX = (0.0, 16.0, 32.0, 64.0, np.nextafter(100.0, np.inf), np.inf)
_SIZE_NAMES = ("<16 px", "16-32 px", "32-64 px", "64-100 px", ">100 px")
SIZE_BINS = tuple(
    AreaRange(name, low**2, high**2)
    for name, low, high in zip(_SIZE_NAMES, _SIDES_PX[:-1], _SIDES_PX[1:], strict=True)
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Scores of one class, one size bin, or all; NaN where there is no true box."""

    name: str
    boxes: int  # true boxes to be found
    map50: float
    map75: float
    map50_95: float
    recall50: float  # of the true boxes at IoU 0.5, mean over classes
    recall50_95: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a set of predictions scores against truth."""

    overall: Score
    by_class: tuple[Score, ...]  # every class of the table
    by_size: tuple[Score, ...]  # the five bins of sqrt(area)
    images: int
    images_without_detection: int
    ignored_boxes: int  # of the truth
    detections: int  # kept
    dropped: int  # over the cap of their image
    max_detections: int | None
    ap: str

    @property
    def map50(self) -> float:
        """Mean average precision at IoU 0.5."""
        return self.overall.map50

    @property
    def map75(self) -> float:
        """Mean average precision at IoU 0.75."""
        return self.overall.map75

    @property
    def map50_95(self) -> float:
        """Mean average precision over IoU 0.5, 0.55 to 0.95."""
        return self.overall.map50_95

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not known (NaN) becomes None."""
        return without_nan(asdict(self))


def evaluate(
    truth: BoxTable,
    predictions: BoxTable,
    *,
    max_detections: int | None = 100,
    ap: Interpolation = "area",
) -> Evaluation:
    """Score predictions by class and size; see docs/metric.md for what the numbers are.

    Raises ValueError where images or classes of the tables differ.
    """
    return evaluate_matches(
        match_by_size(truth, predictions, max_detections=max_detections),
        max_detections=max_detections,
        ap=ap,
    )


def match_by_size(
    truth: BoxTable, predictions: BoxTable, *, max_detections: int | None = 100
) -> Matches:
    """The matches that `evaluate_matches` takes: all sizes, then the five bins."""
    return match(
        prepare_truth(truth),
        predictions,
        STEPS_50_95,
        max_detections=max_detections,
        areas=(EVERY_AREA, *SIZE_BINS),
    )


def evaluate_matches(
    matches: Matches, *, max_detections: int | None, ap: Interpolation = "area"
) -> Evaluation:
    """The scores of matches made by `match_by_size`; max_detections as it was given there."""
    truth = matches.truth
    by_area = precision_by_area(matches, ap=ap)
    every = by_area[0]
    return Evaluation(
        overall=_mean_score("all", every),
        by_class=tuple(
            _class_score(name, every, label) for label, name in enumerate(truth.classes.names)
        ),
        by_size=tuple(
            _mean_score(area.name, precision)
            for area, precision in zip(matches.areas[1:], by_area[1:], strict=True)
        ),
        images=len(truth.images),
        images_without_detection=len(truth.images) - len(np.unique(matches.image)),
        ignored_boxes=int(truth.crowd.sum()),
        detections=len(matches),
        dropped=matches.dropped,
        max_detections=max_detections,
        ap=ap,
    )


def _mean_score(name: str, precision: Precision) -> Score:
    boxes = int(precision.positives.sum())
    return _score(name, boxes, class_mean(precision.average), class_mean(precision.recall))


def _class_score(name: str, precision: Precision, label: int) -> Score:
    boxes = int(precision.positives[label])
    return _score(name, boxes, precision.average[label], precision.recall[label])


def _score(name: str, boxes: int, average: np.ndarray, recall: np.ndarray) -> Score:
    return Score(
        name=name,
        boxes=boxes,
        map50=float(average[0]),
        map75=float(average[5]),
        map50_95=float(average.mean()),
        recall50=float(recall[0]),
        recall50_95=float(recall.mean()),
    )


def without_nan(value: Any) -> Any:
    """The same plain values with None for every NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value
