"""Crops put together from four: more objects, neighbours and borders in one sample.

After YOLOv4 (https://arxiv.org/abs/2004.10934), but every quadrant is a window at the scale of its
photograph: nothing is made smaller, which would leave little of small objects.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from smallobj.datasets.windows import Cut

_CENTRE = (0.25, 0.75)  # where the four meet, as a share of the side


class Quadrant(NamedTuple):
    """A part of a mosaic, in its pixels."""

    left: int
    top: int
    width: int
    height: int


def quadrants(crop_px: int, rng: Generator) -> tuple[Quadrant, ...]:
    """The four parts of a square of `crop_px`, which meet at a centre drawn at random."""
    x, y = (int(v) for v in np.rint(rng.uniform(*_CENTRE, 2) * crop_px))
    return tuple(
        Quadrant(left, top, width, height)
        for top, height in ((0, y), (y, crop_px - y))
        for left, width in ((0, x), (x, crop_px - x))
    )


def put_together(places: Sequence[Quadrant], cuts: Sequence[Cut], crop_px: int) -> Cut:
    """One square of cuts that have the sizes of their places, which cover it."""
    pixels = np.empty((crop_px, crop_px, 3), np.uint8)
    moved = []
    for (left, top, width, height), cut in zip(places, cuts, strict=True):
        pixels[top : top + height, left : left + width] = cut.pixels
        moved.append(cut.xyxy + np.array([left, top, left, top]))
    return Cut(pixels, np.concatenate(moved), np.concatenate([cut.label for cut in cuts]))
