"""How different two runs are: what both find, what only one finds, and whether they err alike.

Measures of diversity as collected by Kuncheva & Whitaker, "Measures of diversity in classifier
ensembles", Machine Learning 51 (2003).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.boxes.compiled import over_image_ranges
from smallobj.evaluation.diversity_kernels import mark_near_boxes


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Of the true boxes: how many both runs of a pair found, one alone, and none."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> "Overlap":
        """From what each found of the same true boxes, [G] and [G]."""
        both = int((first & second).sum())
        either = int((first | second).sum())
        return cls(
            both=both,
            only_first=int(first.sum()) - both,
            only_second=int(second.sum()) - both,
            neither=len(first) - either,
        )

    @property
    def boxes(self) -> int:
        """All true boxes."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def together(self) -> int:
        """True boxes that at least one of the two found."""
        return self.both + self.only_first + self.only_second

    @property
    def jaccard(self) -> float:
        """Share of those found by at least one that both found; NaN where none was found."""
        return self.both / self.together if self.together else np.nan

    @property
    def phi(self) -> float:
        """Correlation of found and missed; NaN where a run found all or nothing."""
        first, second = self.both + self.only_first, self.both + self.only_second
        spread = first * (self.boxes - first) * second * (self.boxes - second)
        return self._agreement() / sqrt(spread) if spread else np.nan

    @property
    def yule_q(self) -> float:
        """Yule's Q, 0 for independent runs, 1 where neither finds what the other misses."""
        alike, apart = self.both * self.neither, self.only_first * self.only_second
        return (alike - apart) / (alike + apart) if alike + apart else np.nan

    @property
    def gain(self) -> int:
        """True boxes that the two find together beyond the better one alone."""
        return min(self.only_first, self.only_second)

    def _agreement(self) -> int:
        return self.both * self.neither - self.only_first * self.only_second


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's correlation of values side by side [M]; NaN where either is all the same."""
    if len(a) < 2:
        return np.nan
    rank_a, rank_b = _ranks(a), _ranks(b)
    off_a, off_b = rank_a - rank_a.mean(), rank_b - rank_b.mean()
    spread = sqrt(float(off_a @ off_a) * float(off_b @ off_b))
    return float(off_a @ off_b) / spread if spread else np.nan


def shared_boxes(
    a: BoxTable,
    a_kept: NDArray[np.bool_],
    b: BoxTable,
    b_kept: NDArray[np.bool_],
    *,
    iou: float = 0.5,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which kept boxes have one of the other table beside them: same image and class, IoU enough.

    a_kept [M], b_kept [L]. Returns [M] and [L].
    """
    a_shared, b_shared = np.zeros(len(a), np.bool_), np.zeros(len(b), np.bool_)
    a_rows, a_offsets = _kept_rows(a, a_kept)
    b_rows, b_offsets = _kept_rows(b, b_kept)

    def mark_range(start: int, stop: int) -> None:
        mark_near_boxes(
            start, stop, a_rows, a_offsets, np.array(a.xyxy), np.array(a.label),
            b_rows, b_offsets, np.array(b.xyxy), np.array(b.label), iou, a_shared, b_shared,
        )  # fmt: skip

    over_image_ranges(mark_range, a_offsets + b_offsets)
    return a_shared, b_shared


def _kept_rows(
    table: BoxTable, kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Kept rows, and the images' offsets [N + 1] into them."""
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return np.flatnonzero(kept), before[table.offsets]


def _ranks(values: Array) -> Array:
    """Rank of each value from 0; equal ones share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]
