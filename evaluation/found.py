"""Which true boxes a run has found and by what, and the score threshold to judge that at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.evaluation.kernels import order_by_falling_score
from smallobj.evaluation.matching import Matches


@dataclass(frozen=True, kw_only=True)
class WorkingPoint:
    """A score threshold for a whole run, and what its boxes at or above it find, at IoU 0.5."""

    threshold: float  # infinite where no box is kept
    found: int  # true boxes
    false_alarms: int  # boxes that find none
    true_boxes: int  # to be found

    @property
    def precision(self) -> float:
        """Share of the boxes that are right; NaN where there is none."""
        kept = self.found + self.false_alarms
        return self.found / kept if kept else np.nan

    @property
    def recall(self) -> float:
        """Share of the true boxes found; NaN where there is none."""
        return self.found / self.true_boxes if self.true_boxes else np.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where there is nothing at all."""
        total = self.found + self.false_alarms + self.true_boxes
        return 2 * self.found / total if total else np.nan


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundBoxes:
    """What one run found of the G true boxes, at the matches' first threshold."""

    row: NDArray[np.int64]  # [G], the box of the run that found it; -1: missed
    score: Array  # [G], of that box; NaN: missed
    iou: Array  # [G], with that box; NaN: missed

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether each true box was found with any score, [G]."""
        return self.row >= 0

    def found_at(self, threshold: float) -> NDArray[np.bool_]:
        """Whether each true box was found with at least this score, [G]."""
        return np.nan_to_num(self.score, nan=-np.inf) >= threshold


def found_boxes(matches: Matches, predictions: BoxTable) -> FoundBoxes:
    """What became of the true boxes of matches with `predictions`, over all sizes.

    A box of lower score never changes what one of higher score found, so what is found at a score
    threshold can be told without matching again.
    """
    assert predictions.score is not None  # or there were no matches
    finder = matches.finder[0]
    hit = np.flatnonzero(finder >= 0)
    row = np.full(len(finder), -1, np.int64)
    row[hit] = matches.row[finder[hit]]
    score, iou = np.full(len(finder), np.nan), np.full(len(finder), np.nan)
    score[hit] = predictions.score[row[hit]]
    iou[hit] = _iou_by_row(matches.truth.xyxy[hit], predictions.xyxy[row[hit]])
    return FoundBoxes(row=row, score=score, iou=iou)


def false_alarms(matches: Matches) -> NDArray[np.int32]:
    """Rows of the predictions that find no true box and lie on no ignored one, in image order."""
    counted = (matches.hit[0] | matches.skip[0]) & 1 == 0
    return np.sort(matches.row[counted])


def working_point(
    matches: Matches, predictions: BoxTable, *, most_false_alarms: int | None = None
) -> WorkingPoint:
    """The score threshold of the highest F1, or the lowest that keeps to a number of false alarms.

    All classes and images counted together, at the matches' first IoU threshold. Of equal F1 it is
    the highest threshold.
    """
    assert predictions.score is not None
    score = predictions.score[matches.row]
    order = order_by_falling_score(score)
    score = score[order]
    hit = matches.hit[0][order] & 1
    found = np.cumsum(hit)
    alarms = np.cumsum(1 - (hit | matches.skip[0][order] & 1))
    last = np.flatnonzero(np.diff(score, append=-np.inf))  # of every run of equal scores
    total = int(matches.counted[0].sum())
    if most_false_alarms is None:
        f1 = 2 * found[last] / np.maximum(found[last] + alarms[last] + total, 1)
        chosen = int(np.argmax(f1)) if f1.any() else -1
    else:
        chosen = int(np.searchsorted(alarms[last], most_false_alarms, side="right")) - 1
    if chosen < 0:
        return WorkingPoint(threshold=np.inf, found=0, false_alarms=0, true_boxes=total)
    at = last[chosen]
    return WorkingPoint(
        threshold=float(score[at]),
        found=int(found[at]),
        false_alarms=int(alarms[at]),
        true_boxes=total,
    )


def _iou_by_row(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Intersection over union of boxes side by side; [M, 4] and [M, 4] to [M]."""
    low = np.maximum(a_xyxy[:, :2], b_xyxy[:, :2])
    shared = np.prod(np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - low, axis=1)
    areas = [np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1) for xyxy in (a_xyxy, b_xyxy)]
    return shared / (areas[0] + areas[1] - shared)
