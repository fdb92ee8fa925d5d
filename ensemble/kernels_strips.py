# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled: strips over an image, so that a box is compared with few of a hundred others.

The image is cut into strips across and strips down. Each strip has one bit a box: whether the box
reaches into it. The boxes that may overlap another are those with a bit in one of its strips across
and in one of its strips down: a few words joined by `or` and `and`, 64 boxes at a time.

The arrays are handed over one by one: in a tuple, or as views, numba counts the references to them
at every call, which takes longer than the call.
"""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled, inlined
from smallobj.ensemble.kernels_overlap import AREA, LIMIT

SEVERAL = 16  # boxes of a class in an image from which on strips are quicker than a look at each
_STRIPS = 64  # along each side
_WORD = 64  # boxes a word
_NUMBERING = 0x03F79D71B4CB0A89  # de Bruijn's: its product with a lone bit tells which one it is
_NUMBER = np.zeros(_WORD, np.int64)
for _bit in range(_WORD):
    _NUMBER[(_NUMBERING << _bit) % 2**64 >> 58] = _bit


@compiled
def make_strips(longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Room for the strips of images of at most `longest` boxes; box c of a class has bit c - begin.

    bits [words, 128]: strips across, then strips down. span [boxes, 4]: first and last strip across
    of each box, first and last down. scale [4]: left and top edge, strips a pixel across and down.
    """
    boxes = longest if longest >= SEVERAL else 0
    return (
        np.empty(((boxes + _WORD - 1) // _WORD, 2 * _STRIPS), np.int64),
        np.empty((boxes, 4), np.int64),
        np.empty(4),
    )


@compiled
def lay_strips(scale: Array, start: int, stop: int, row: NDArray[np.int64], xyxy: Array) -> None:
    """Lay strips over the boxes row[start:stop] of an image."""
    for axis in range(2):
        low, high = xyxy[row[start], axis], xyxy[row[start], axis + 2]
        for place in range(start, stop):
            low = min(low, xyxy[row[place], axis])
            high = max(high, xyxy[row[place], axis + 2])
        scale[axis] = low
        scale[axis + 2] = _STRIPS / (high - low) if high - low > 1e-100 else 0.0


@inlined
def enter_strips(
    bits: NDArray[np.int64],
    span: NDArray[np.int64],
    scale: Array,
    boxes: Array,
    begin: int,
    c: int,
) -> None:
    """Enter a new box of the class that begins at box `begin`; all before it are entered."""
    if (c - begin) % _WORD == 0:
        for strip in range(2 * _STRIPS):
            bits[(c - begin) // _WORD, strip] = 0
    span[c, 0], span[c, 1] = _STRIPS, -1
    span[c, 2], span[c, 3] = _STRIPS, -1
    extend_strips(bits, span, scale, boxes, begin, c)


@inlined
def extend_strips(
    bits: NDArray[np.int64],
    span: NDArray[np.int64],
    scale: Array,
    boxes: Array,
    begin: int,
    c: int,
) -> None:
    """Enter a box that moved into the strips that it reaches now; it stays in those it left."""
    left = _strip(boxes[c, 0], scale[0], scale[2])
    top = _strip(boxes[c, 1], scale[1], scale[3])
    right = _strip(boxes[c, 2], scale[0], scale[2])
    bottom = _strip(boxes[c, 3], scale[1], scale[3])
    if span[c, 0] <= left and right <= span[c, 1] and span[c, 2] <= top and bottom <= span[c, 3]:
        return
    span[c, 0], span[c, 1] = min(left, span[c, 0]), max(right, span[c, 1])
    span[c, 2], span[c, 3] = min(top, span[c, 2]), max(bottom, span[c, 3])
    word = (c - begin) // _WORD
    bit = np.int64(1) << ((c - begin) % _WORD)
    for strip in range(left, right + 1):
        bits[word, strip] |= bit
    for strip in range(_STRIPS + top, _STRIPS + bottom + 1):
        bits[word, strip] |= bit


@inlined
def highest_in_strips(
    bits: NDArray[np.int64],
    scale: Array,
    boxes: Array,
    begin: int,
    end: int,
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    limit: float,
) -> int:
    """`highest_overlap` of the entered boxes[begin:end]: the same one, found sooner."""
    left, right = _strip(x1, scale[0], scale[2]), _strip(x2, scale[0], scale[2])
    top, bottom = _strip(y1, scale[1], scale[3]), _strip(y2, scale[1], scale[3])
    own = (x2 - x1) * (y2 - y1)
    match = -1
    highest = 0.0
    for word in range((end - begin + _WORD - 1) // _WORD):
        near = _near(bits, word, left, right, top, bottom)
        while near != 0:
            lone = near & -near
            near ^= lone
            c = begin + word * _WORD + _NUMBER[((lone * _NUMBERING) >> 58) & 63]
            w = min(x2, boxes[c, 2]) - max(x1, boxes[c, 0])
            h = min(y2, boxes[c, 3]) - max(y1, boxes[c, 1])
            if w <= 0 or h <= 0:
                continue
            inner = w * h
            union = boxes[c, AREA] + own - inner
            if inner > max(highest, min(limit, boxes[c, LIMIT])) * union:
                highest = inner / union
                match = c
    return match


@inlined
def _near(
    bits: NDArray[np.int64], word: int, left: int, right: int, top: int, bottom: int
) -> np.int64:
    """The boxes of a word that reach into one of the strips across and one of those down."""
    across = np.int64(0)
    for strip in range(left, right + 1):
        across |= bits[word, strip]
    down = np.int64(0)
    for strip in range(_STRIPS + top, _STRIPS + bottom + 1):
        down |= bits[word, strip]
    return across & down


@inlined
def _strip(coordinate: float, edge: float, strips_a_pixel: float) -> int:
    """The strip of a coordinate; what lies outside belongs to the first or the last."""
    return int(min(max((coordinate - edge) * strips_a_pixel, 0.0), _STRIPS - 1.0))
