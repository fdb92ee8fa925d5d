# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled: the fused or kept boxes of an image, and which of them one box overlaps most.

A row of such boxes [K, 6] holds the corners, the area and the IoU that a box must exceed to join.
"""

import numpy as np

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled, inlined

AREA, LIMIT = 4, 5  # columns behind the corners
_LEAST_LIMIT = 0.05  # IoU asked for however small the boxes are
_HAIR = 1 - 1e-9  # so that a shift of exactly shift_px still joins


@inlined
def put(
    boxes: Array, place: int, x1: float, y1: float, x2: float, y2: float, iou: float, shift: float
) -> None:
    """Write one row of boxes."""
    area = (x2 - x1) * (y2 - y1)
    boxes[place, 0] = x1
    boxes[place, 1] = y1
    boxes[place, 2] = x2
    boxes[place, 3] = y2
    boxes[place, AREA] = area
    boxes[place, LIMIT] = limit_of(area, iou, shift)


@inlined
def limit_of(area: float, iou: float, shift: float) -> float:
    """The IoU to exceed: `iou`, or that of a square of this area with itself shifted diagonally.

    The lower of the two, and never below 0.05 for the sake of the shift. It rises with the area, so
    the smaller of two boxes decides by the lower of their limits.
    """
    if shift <= 0:
        return iou
    side = np.sqrt(area)
    if side <= shift:
        return min(iou, _LEAST_LIMIT)
    inner = (side - shift) ** 2
    return min(iou, max(_LEAST_LIMIT, inner / (2 * side * side - inner) * _HAIR))


@inlined
def highest_overlap(
    boxes: Array,
    begin: int,
    end: int,
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    limit: float,
) -> int:
    """Which of boxes[begin:end] overlaps one box most, above the limit of both; -1: none does."""
    own = (x2 - x1) * (y2 - y1)
    match = -1
    highest = 0.0
    for c in range(begin, end):
        w = min(x2, boxes[c, 2]) - max(x1, boxes[c, 0])
        if w <= 0:
            continue
        h = min(y2, boxes[c, 3]) - max(y1, boxes[c, 1])
        if h <= 0:
            continue
        inner = w * h
        union = boxes[c, AREA] + own - inner
        if inner > max(highest, min(limit, boxes[c, LIMIT])) * union:
            highest = inner / union
            match = c
    return match


@inlined
def iou_with(boxes: Array, c: int, x1: float, y1: float, x2: float, y2: float) -> float:
    """IoU of one of the boxes with another; 0 where they do not overlap."""
    w = min(x2, boxes[c, 2]) - max(x1, boxes[c, 0])
    h = min(y2, boxes[c, 3]) - max(y1, boxes[c, 1])
    if w <= 0 or h <= 0:
        return 0.0
    inner = w * h
    union = boxes[c, AREA] + (x2 - x1) * (y2 - y1) - inner
    return inner / union if union > 0 else 0.0


@compiled
def borders(size: int) -> tuple[float, float]:
    """Where an image begins and ends along one side; nowhere if its size, 0, is unknown."""
    return (0.0, float(size)) if size > 0 else (-np.inf, np.inf)


@compiled
def cut(coordinate: float, border: tuple[float, float]) -> float:
    """A coordinate within the borders of its image."""
    return min(max(coordinate, border[0]), border[1])
