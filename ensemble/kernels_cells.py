# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled: cells over a crowded image, so that a box is compared with its neighbours alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled
from smallobj.ensemble.kernels_overlap import AREA, LIMIT

DENSE = 512  # boxes of a class in an image from which on cells find the neighbours of a box
_MOST_SIDE = 1024  # cells along each side of an image
_ENTRIES = 24  # of a box in the lists of the cells, on average


class Cells(NamedTuple):
    """Cells over an image, each with a list of the boxes that reach into it.

    A box that moves stays in the lists it is in: they say who may overlap, not who does.
    """

    head: NDArray[np.int32]  # [side, side], first entry of each list, -1 where it is empty
    entry: NDArray[np.int32]  # [entries, 2], the box and the next entry of its list
    used: NDArray[np.int64]  # [2], entries in use, cells along each side in use
    span: NDArray[np.int32]  # [boxes, 4], first and last column, first and last row of each box
    near: NDArray[np.int64]  # [boxes], room for the neighbours of one box
    scale: Array  # [4], left and top edge, columns and rows a pixel


@compiled
def make_cells(longest: int) -> Cells:
    """Room for the cells of images of at most `longest` boxes."""
    boxes = longest if longest >= DENSE else 0
    side = min(int(np.sqrt(boxes)), _MOST_SIDE)
    return Cells(
        np.empty((side, side), np.int32),
        np.empty((boxes * _ENTRIES, 2), np.int32),
        np.empty(2, np.int64),
        np.empty((boxes, 4), np.int32),
        np.empty(boxes, np.int64),
        np.empty(4),
    )


@compiled
def lay(cells: Cells, place: int, stop: int, row: NDArray[np.int64], xyxy: Array) -> bool:
    """Lay empty cells for the boxes row[place:stop] of one class; False where they are few.

    About as many cells as boxes, none smaller than the mean box.
    """
    count = stop - place
    if count < DENSE:
        return False
    side = min(np.sqrt(count), len(cells.head))
    for axis in range(2):
        low, high = xyxy[row[place], axis], xyxy[row[place], axis + 2]
        total = 0.0
        for other in range(place, stop):
            low = min(low, xyxy[row[other], axis])
            high = max(high, xyxy[row[other], axis + 2])
            total += max(xyxy[row[other], axis + 2] - xyxy[row[other], axis], 0.0) / count
        cells.scale[axis] = low
        cells.scale[axis + 2] = high - low
        if total > 0:
            side = min(side, max((high - low) / total, 1.0))
    cells.used[0] = 0
    cells.used[1] = int(side)
    for axis in range(2, 4):
        cells.scale[axis] = int(side) / cells.scale[axis] if cells.scale[axis] > 1e-100 else 0.0
    cells.head[: cells.used[1], : cells.used[1]] = -1
    return True


@compiled
def highest_nearby(
    cells: Cells, boxes: Array, x1: float, y1: float, x2: float, y2: float, limit: float
) -> int:
    """`highest_overlap` among the boxes entered in the cells: the same one, found sooner."""
    left, right = _cell(cells, 0, x1), _cell(cells, 0, x2)
    top, bottom = _cell(cells, 1, y1), _cell(cells, 1, y2)
    own = (x2 - x1) * (y2 - y1)
    count = 0
    for j in range(top, bottom + 1):
        for i in range(left, right + 1):
            entry = cells.head[j, i]
            while entry >= 0:
                c = cells.entry[entry, 0]
                entry = cells.entry[entry, 1]
                w = min(x2, boxes[c, 2]) - max(x1, boxes[c, 0])
                h = min(y2, boxes[c, 3]) - max(y1, boxes[c, 1])
                if w <= 0 or h <= 0:
                    continue
                inner = w * h
                union = boxes[c, AREA] + own - inner
                if inner <= min(limit, boxes[c, LIMIT]) * union:
                    continue
                if max(left, cells.span[c, 0]) != i or max(top, cells.span[c, 2]) != j:
                    continue  # met in another cell
                k = count
                while k > 0 and cells.near[k - 1] > c:  # in the order they were made: ties as ever
                    cells.near[k] = cells.near[k - 1]
                    k -= 1
                cells.near[k] = c
                count += 1
    match = -1
    highest = 0.0
    for k in range(count):
        c = cells.near[k]
        w = min(x2, boxes[c, 2]) - max(x1, boxes[c, 0])
        h = min(y2, boxes[c, 3]) - max(y1, boxes[c, 1])
        inner = w * h
        union = boxes[c, AREA] + own - inner
        if inner > max(highest, min(limit, boxes[c, LIMIT])) * union:
            highest = inner / union
            match = c
    return match


@compiled
def overlapping(cells: Cells, boxes: Array, c: int) -> int:
    """Fill cells.near with all entered boxes that overlap box c at all; returns how many."""
    x1, y1, x2, y2 = boxes[c, 0], boxes[c, 1], boxes[c, 2], boxes[c, 3]
    left, right = _cell(cells, 0, x1), _cell(cells, 0, x2)
    top, bottom = _cell(cells, 1, y1), _cell(cells, 1, y2)
    count = 0
    for j in range(top, bottom + 1):
        for i in range(left, right + 1):
            entry = cells.head[j, i]
            while entry >= 0:
                other = cells.entry[entry, 0]
                entry = cells.entry[entry, 1]
                if max(left, cells.span[other, 0]) != i or max(top, cells.span[other, 2]) != j:
                    continue
                if min(x2, boxes[other, 2]) > max(x1, boxes[other, 0]) and (
                    min(y2, boxes[other, 3]) > max(y1, boxes[other, 1])
                ):
                    cells.near[count] = other
                    count += 1
    return count


@compiled
def _cell(cells: Cells, axis: int, coordinate: float) -> int:
    """The column (axis 0) or row (1) of a coordinate; what lies outside belongs to the border."""
    cell = (coordinate - cells.scale[axis]) * cells.scale[axis + 2]
    return int(min(max(cell, 0.0), cells.used[1] - 1.0))


@compiled
def enter(cells: Cells, boxes: Array, box: int) -> bool:
    """Enter a new box into the cells it reaches; False where there is no room."""
    cells.span[box, 0], cells.span[box, 1] = 0, -1
    cells.span[box, 2], cells.span[box, 3] = 0, -1
    return extend(cells, boxes, box)


@compiled
def extend(cells: Cells, boxes: Array, box: int) -> bool:
    """Enter a box into the cells it reaches and is not in yet; False where there is no room."""
    left, right = _cell(cells, 0, boxes[box, 0]), _cell(cells, 0, boxes[box, 2])
    top, bottom = _cell(cells, 1, boxes[box, 1]), _cell(cells, 1, boxes[box, 3])
    span = cells.span[box]
    if span[0] <= left and right <= span[1] and span[2] <= top and bottom <= span[3]:
        return True
    if span[0] <= span[1]:
        left, right = min(left, span[0]), max(right, span[1])
        top, bottom = min(top, span[2]), max(bottom, span[3])
    if cells.used[0] + (right - left + 1) * (bottom - top + 1) > len(cells.entry):
        return False
    for j in range(top, bottom + 1):
        for i in range(left, right + 1):
            if span[0] <= i <= span[1] and span[2] <= j <= span[3]:
                continue
            entry = cells.used[0]
            cells.entry[entry, 0] = box
            cells.entry[entry, 1] = cells.head[j, i]
            cells.head[j, i] = entry
            cells.used[0] = entry + 1
    span[0], span[1], span[2], span[3] = left, right, top, bottom
    return True
