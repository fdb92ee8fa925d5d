# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled: the rows of several tables in the order that every greedy method takes them."""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled
from smallobj.ensemble.kernels_sort import MANY, sort_falling, sort_numbers, spread_falling


@compiled
def order_images(  # noqa: C901, PLR0912 - counted, then placed: the same two loops twice
    first: int,
    last: int,
    starts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    score: Array,
    label: NDArray[np.int32],
    xyxy: Array,
    keep: NDArray[np.bool_],
    weights: Array,
    skip: float,
    classes: int,
    longest: int,
    out_row: NDArray[np.int64],
    out_run: NDArray[np.int32],
    out_key: Array,
    out_counts: NDArray[np.int64],
) -> None:
    """Order the rows of images first to last by class, then score x weight falling.

    Equal ones follow by corners, label, run, row. The columns are those of a `Pool`, the results
    those of an `Order`. Tables of weight 0 are left out, and rows where keep [M] is false; an empty
    keep keeps all. classes: 1 throws them together. longest: most rows an image.
    """
    row = np.empty(longest, np.int64)
    run = np.empty(longest, np.int32)
    key = np.empty(longest)
    order = np.empty(longest, np.int64)
    spare = np.empty(longest, np.int64)
    tied = np.empty(longest)
    ends = np.empty(classes, np.int64)
    for image in range(first, last):
        ends[:] = 0
        for r in range(len(weights)):
            if weights[r] == 0:
                continue
            for m in range(starts[r, image], starts[r, image + 1]):
                if score[m] >= skip and (len(keep) == 0 or keep[m]):
                    ends[label[m] if classes > 1 else 0] += 1
        count = 0
        for c in range(classes):
            count, ends[c] = count + ends[c], count
        for r in range(len(weights)):
            if weights[r] == 0:
                continue
            for m in range(starts[r, image], starts[r, image + 1]):
                if score[m] >= skip and (len(keep) == 0 or keep[m]):
                    c = label[m] if classes > 1 else 0
                    k = ends[c]
                    ends[c] = k + 1
                    row[k] = m
                    run[k] = r
                    key[k] = score[m] * weights[r]
        low = 0
        for c in range(classes):
            if ends[c] > low:
                if ends[c] - low < MANY or not spread_falling(key, order, spare, low, ends[c]):
                    sort_numbers(key, order, spare, low, ends[c])
                ties = False
                for k in range(low + 1, ends[c]):
                    ties |= key[order[k]] == key[order[k - 1]]
                if ties:
                    _settle_ties(key, order, spare, tied, row, xyxy, label, low, ends[c])
            low = ends[c]
        place = offsets[image]
        for k in range(count):
            out_row[place + k] = row[order[k]]
            out_run[place + k] = run[order[k]]
            out_key[place + k] = key[order[k]]
        out_counts[image] = count


@compiled
def _settle_ties(
    key: Array,
    order: NDArray[np.int64],
    spare: NDArray[np.int64],
    tied: Array,
    row: NDArray[np.int64],
    xyxy: Array,
    label: NDArray[np.int32],
    low: int,
    high: int,
) -> None:
    """Bring equal keys of order[low:high] into the order of their corners, whatever their run."""
    start = low
    while start < high:
        stop = start + 1
        while stop < high and key[order[stop]] == key[order[start]]:
            stop += 1
        if stop - start > 1:
            for side in range(4, -1, -1):
                for k in range(start, stop):
                    m = row[order[k]]
                    tied[order[k]] = -xyxy[m, side] if side < 4 else -label[m]
                sort_falling(tied, order, spare, start, stop)
        start = stop
