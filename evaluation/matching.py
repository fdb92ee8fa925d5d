from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, Classes, Images, box_area
from smallobj.boxes.compiled import over_image_ranges
from smallobj.evaluation.kernels import group_by_image, match_images, order_detections

UNLIMITED = np.iinfo(np.int64).max
_MOST_THRESHOLDS = 31  # bits of the outcome


class AreaRange(NamedTuple):
    """Boxes of low <= area < high, in square pixels; others are ignored, not counted as errors."""

    name: str
    low: float
    high: float


EVERY_AREA = AreaRange("all", 0.0, np.inf)


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedTruth:
    """True boxes ordered by image and label once, to be matched with many predictions."""

    images: Images
    classes: Classes
    offsets: NDArray[np.int64]  # [N + 1]
    image: NDArray[np.int32]  # [G]
    label: NDArray[np.int32]  # [G], rising within an image
    xyxy: Array  # [G, 4], pixels
    area: Array  # [G], square pixels, by which area ranges judge a true box
    crowd: NDArray[np.bool_]  # [G], ignored, and matched by any number of detections

    def __len__(self) -> int:
        """Number of true boxes, the ignored ones too."""
        return len(self.xyxy)


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """What became of every detection that was kept, in each of R area ranges.

    The K detections stand by class, within a class by falling score, within a score by image and
    row. Bit t of an outcome belongs to threshold t.
    """

    truth: PreparedTruth
    thresholds: Array  # [T]
    areas: tuple[AreaRange, ...]
    counted: NDArray[np.bool_]  # [R, G], the true boxes that are to be found
    class_offsets: NDArray[np.int64]  # [C + 1], into the detections
    image: NDArray[np.int32]  # [K]
    row: NDArray[np.int32]  # [K], in the table of predictions
    hit: NDArray[np.int32]  # [R, K], bits: found a true box that counts
    skip: NDArray[np.int32]  # [R, K], bits: neither found nor false
    rank: NDArray[np.int32]  # [K], position by score in its image and class
    finder: NDArray[np.int32]  # [R, G], detection that found it at the first threshold; -1: none
    dropped: int  # detections over the cap of their image

    def __len__(self) -> int:
        """Number of detections kept."""
        return len(self.image)


def prepare_truth(truth: BoxTable, *, area: Literal["box", "source"] = "box") -> PreparedTruth:
    """Order true boxes for matching.

    `area` "source" judges a box's size by the table's area column (COCO's, of the mask) where there
    is one. Boxes of the table's ignore column become crowds.
    """
    image = truth.image_index
    order = np.lexsort((truth.label, image))
    xyxy = truth.xyxy[order]
    crowd = np.zeros(len(truth), np.bool_) if truth.ignore is None else truth.ignore[order]
    return PreparedTruth(
        images=truth.images,
        classes=truth.classes,
        offsets=_own(truth.offsets),
        image=image[order].astype(np.int32),
        label=truth.label[order],
        xyxy=xyxy,
        area=box_area(xyxy) if area == "box" else truth.box_area[order],
        crowd=crowd,
    )


def match(
    truth: PreparedTruth,
    predictions: BoxTable,
    thresholds: Sequence[float] | Array,
    *,
    max_detections: int | None = 100,
    max_per_class: int | None = None,
    areas: Sequence[AreaRange] = (EVERY_AREA,),
    threads: int | None = None,
) -> Matches:
    """Match predictions with truth, each image and class by itself, the best score first.

    A detection takes the free true box of highest IoU, where that is `thresholds` [T, at most 31]
    or more; an ignored one only where no other is left. The best `max_detections` of an image are
    kept, equal scores in the order of their rows; of an image and class those beyond the best
    `max_per_class` are skipped. None is no limit. threads: 1 where the caller has its own.

    Raises ValueError where the two tables' images or classes differ or predictions have no score.
    """
    score = _check_pair(truth, predictions)
    levels = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)  # as pycocotools does
    if not 0 < len(levels) <= _MOST_THRESHOLDS:
        raise ValueError(f"1 to {_MOST_THRESHOLDS} thresholds are possible, got {len(levels)}")
    offsets, label = _own(predictions.offsets), _own(predictions.label)
    xyxy = _own(predictions.xyxy)
    cap = UNLIMITED if max_detections is None else max_detections
    row, image, class_offsets = order_detections(
        offsets, label, _own(score), cap, len(truth.classes)
    )
    low, high = (np.array([getattr(area, side) for area in areas]) for side in ("low", "high"))
    inside = (truth.area >= low[:, None]) & (truth.area < high[:, None])
    counted = inside & ~truth.crowd
    hit = np.empty((len(areas), len(image)), np.int32)
    skip, rank = np.empty_like(hit), np.empty(len(image), np.int32)
    finder = np.full(counted.shape, -1, np.int32)
    position, of_image = group_by_image(image, len(truth.images))

    def match_range(start: int, stop: int) -> None:
        match_images(
            start, stop, position, of_image,
            truth.offsets, truth.label, truth.xyxy, truth.crowd, counted,
            row, label, xyxy, UNLIMITED if max_per_class is None else max_per_class,
            levels, low, high, hit, skip, rank, finder,
        )  # fmt: skip

    over_image_ranges(match_range, offsets, threads=threads)
    return Matches(
        truth=truth,
        thresholds=np.asarray(thresholds, np.float64),
        areas=tuple(areas),
        counted=counted,
        class_offsets=class_offsets,
        image=image,
        row=row,
        hit=hit,
        skip=skip,
        rank=rank,
        finder=finder,
        dropped=len(predictions) - len(image),
    )


def _check_pair(truth: PreparedTruth, predictions: BoxTable) -> Array:
    if predictions.score is None:
        raise ValueError("predictions have no score")
    mine, theirs = truth.images.ids, predictions.images.ids
    if mine is not theirs and mine != theirs:
        raise ValueError(f"images differ: {len(mine)} of the truth, {len(theirs)} predicted")
    if len(predictions) > np.iinfo(np.int32).max:
        raise ValueError(f"{len(predictions)} detections: match them in chunks of images")
    if truth.classes != predictions.classes:
        raise ValueError(f"classes differ: {truth.classes.names}, {predictions.classes.names}")
    return predictions.score


def _own(column: NDArray) -> NDArray:
    """The column, copied where it cannot be written to: kernels are compiled for one type each."""
    return column if column.flags.writeable else column.copy()
