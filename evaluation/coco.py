"""The COCO tool's twelve numbers (cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py)."""

import numpy as np

from smallobj.boxes import BoxTable
from smallobj.evaluation.matching import AreaRange, match, prepare_truth
from smallobj.evaluation.precision import STEPS_50_95, precision_by_area, recall_of_best

_MAX_PER_CLASS = 100


def _closed(name: str, low: float, high: float) -> AreaRange:
    return AreaRange(name, low, float(np.nextafter(high, np.inf)))


COCO_AREAS = (
    _closed("all", 0, 1e10),
    _closed("small", 0, 32**2),
    _closed("medium", 32**2, 96**2),
    _closed("large", 96**2, 1e10),
)
COCO_NUMBERS = (
    *("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge"),
    *("AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge"),
)


def coco_summary(truth: BoxTable, predictions: BoxTable) -> dict[str, float]:
    """COCO's twelve numbers by name, equal to pycocotools'; -1 where there is nothing to find.

    At most 100 detections of an image and class, 101 recall points, the truth's own area and crowds
    where it has them. Equal scores are ordered by image and row: give the images by rising id.
    Raises ValueError where the tables' images or classes differ.
    """
    matches = match(
        prepare_truth(truth, area="source"),
        predictions,
        STEPS_50_95,
        max_detections=None,
        max_per_class=_MAX_PER_CLASS,
        areas=COCO_AREAS,
    )
    by_area = precision_by_area(matches, ap="coco101")
    every = by_area[0].average
    numbers = (
        *(_mean(every), _mean(every[:, 0]), _mean(every[:, 5])),
        *(_mean(precision.average) for precision in by_area[1:]),
        *(_mean(recall_of_best(matches, best)) for best in (1, 10)),
        *(_mean(precision.recall) for precision in by_area),
    )
    return dict(zip(COCO_NUMBERS, numbers, strict=True))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else -1.0
