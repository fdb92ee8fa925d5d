"""Which boxes of a run are right, which are wrong, and which true boxes it missed."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, Classes, Images, iou_matrix
from smallobj.evaluation import found_boxes, match, prepare_truth, working_point

RIGHT, WRONG, MISSED = "right", "wrong", "missed"
IGNORED = "ignored"  # detections on a region that the labels say to ignore: neither right nor wrong
DETECTED = "detected"  # without labels nobody knows
KINDS = (RIGHT, WRONG, MISSED, IGNORED, DETECTED)
JUDGED_KINDS = (RIGHT, WRONG, MISSED)

_NONE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """K boxes to be shown, ordered by image, in an image by kind and falling score."""

    images: Images
    classes: Classes
    offsets: NDArray[np.int64]  # [N + 1], into the boxes
    kind: NDArray[np.int8]  # [K], index into KINDS
    xyxy: Array  # [K, 4], pixels; of a missed one the true box
    label: NDArray[np.int32]  # [K], index into classes
    score: Array  # [K]; NaN: missed
    iou: (
        Array  # [K]; right: with the true box, else the highest with one of the other side; NaN: no
    )
    other: NDArray[np.int32]  # [K], class of the box that `iou` is with; -1: touches none
    over_cap: int = 0  # detections beyond the best of their image, which are not among the boxes

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.kind)

    def count(self, kind: str) -> int:
        """How many boxes are of one of KINDS."""
        return int((self.kind == KINDS.index(kind)).sum())

    def rows(self, image: int) -> slice:
        """The boxes of one image, by its position."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def take_images(self, index: NDArray[np.int64]) -> "Judged":
        """The images at `index` [K], rising, with their boxes."""
        there = np.zeros(len(self.images), np.bool_)
        there[index] = True
        counts = np.diff(self.offsets)
        kept = self.filter_rows(np.repeat(there, counts))
        offsets = np.concatenate([[0], np.cumsum(counts[index])]).astype(np.int64)
        return replace(kept, images=self.images.take(index), offsets=offsets)

    def filter_rows(self, keep: NDArray[np.bool_]) -> "Judged":
        """The same images with the boxes where `keep` [K] is true."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        return replace(
            self,
            offsets=kept[self.offsets],
            **{name: getattr(self, name)[keep] for name in _COLUMNS},
        )


_COLUMNS = ("kind", "xyxy", "label", "score", "iou", "other")


def detected(table: BoxTable, *, max_detections: int | None = None) -> Judged:
    """The boxes of a run without labels: the best `max_detections` of each image."""
    truth = BoxTable.empty(table.images, table.classes, scored=False)
    shown = judge(truth, table, max_detections=max_detections)
    return replace(shown, kind=np.full(len(shown), KINDS.index(DETECTED), np.int8))


def judge(
    truth: BoxTable, table: BoxTable, *, iou: float = 0.5, max_detections: int | None = 100
) -> Judged:
    """Tell right boxes from wrong ones as `evaluate` does, by its own matcher.

    table: predictions, cut at the wanted score, on the truth's images and classes. The best
    `max_detections` of an image count; None: all. Raises ValueError where the tables do not fit.
    """
    matches = match(prepare_truth(truth), table, [iou], max_detections=max_detections)
    found = found_boxes(matches, table)
    assert table.score is not None
    iou_of_row = np.full(len(table), np.nan)
    iou_of_row[found.row[found.found]] = found.iou[found.found]
    hit, skip = matches.hit[0] & 1 == 1, matches.skip[0] & 1 == 1
    kinds = np.where(hit, KINDS.index(RIGHT), KINDS.index(WRONG))
    kinds[skip & ~hit] = KINDS.index(IGNORED)
    missed = np.flatnonzero(matches.counted[0] & ~found.found)
    ordered, count = matches.truth, len(missed)
    return _ordered(
        table,
        image=np.concatenate([matches.image, ordered.image[missed]]),
        kind=np.concatenate([kinds, np.full(count, KINDS.index(MISSED))]).astype(np.int8),
        xyxy=np.concatenate([table.xyxy[matches.row], ordered.xyxy[missed]]),
        label=np.concatenate([table.label[matches.row], ordered.label[missed]]),
        score=np.concatenate([table.score[matches.row], np.full(count, np.nan)]),
        iou=np.concatenate([iou_of_row[matches.row], np.full(count, np.nan)]),
        over_cap=matches.dropped,
        truth=truth,
    )


def best_threshold(
    truth: BoxTable, table: BoxTable, *, iou: float = 0.5, max_detections: int | None = 100
) -> float:
    """The score at which the run's F1 is highest; 0 where it finds nothing at any score."""
    matches = match(prepare_truth(truth), table, [iou], max_detections=max_detections)
    threshold = working_point(matches, table).threshold
    return float(threshold) if np.isfinite(threshold) else 0.0


def _ordered(
    table: BoxTable,
    *,
    truth: BoxTable,
    image: NDArray[np.int32],
    kind: NDArray[np.int8],
    score: Array,
    over_cap: int,
    **columns: NDArray,
) -> Judged:
    order = np.lexsort((-np.nan_to_num(score, nan=-1.0), kind, image))
    counts = np.bincount(image, minlength=len(table.images))
    shown = Judged(
        images=table.images,
        classes=table.classes,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        kind=kind[order],
        score=score[order],
        other=np.full(len(order), _NONE, np.int32),
        over_cap=over_cap,
        **{name: column[order] for name, column in columns.items()},
    )
    for position in range(len(table.images)):
        _fill_nearest(shown, position, truth)
    return shown


def _fill_nearest(shown: Judged, image: int, truth: BoxTable) -> None:
    """Say of each box of an image which one of the other side it overlaps most, and how much."""
    rows, true = shown.rows(image), truth.rows(image)
    kind, xyxy, label = shown.kind[rows], shown.xyxy[rows], shown.label[rows]
    right, missed = kind == KINDS.index(RIGHT), kind == KINDS.index(MISSED)
    _nearest(shown, rows, ~right & ~missed, truth.xyxy[true], truth.label[true])
    _nearest(shown, rows, missed, xyxy[~missed], label[~missed])
    shown.other[rows][right] = label[right]


def _nearest(
    shown: Judged,
    rows: slice,
    chosen: NDArray[np.bool_],
    others_xyxy: Array,
    others_label: NDArray[np.int32],
) -> None:
    if not chosen.any() or not len(others_xyxy):
        return
    overlap = iou_matrix(shown.xyxy[rows][chosen], others_xyxy)
    best, places = overlap.argmax(axis=1), np.flatnonzero(chosen)
    highest = overlap[np.arange(len(places)), best]
    touching = highest > 0
    shown.iou[rows][places[touching]] = highest[touching]
    shown.other[rows][places[touching]] = others_label[best[touching]]
