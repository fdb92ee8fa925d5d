"""How an image is cut into overlapping tiles, each axis on its own."""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

from smallobj.boxes import InputError

SLACK = 1.25  # an image at most this many tiles long is seen in one piece
_LEAST_TILE_PX = 640
_LARGEST_AUTO_TILE_PX = 2048


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Tiles of one size, evenly spread; in pixels of the original image."""

    side_px: int = 640
    overlap_px: int = 128  # least overlap of neighbours: the largest object, so that one holds it

    def __post_init__(self) -> None:
        if self.side_px < 1:
            raise InputError("a tile is at least 1 pixel wide", field="tile", value=self.side_px)
        if not 0 <= self.overlap_px < self.side_px:
            raise InputError(
                f"the overlap of tiles lies between 0 and the tile's side, {self.side_px}",
                field="overlap",
                value=self.overlap_px,
            )


class Span(NamedTuple):
    """A stretch of one axis, and how far its neighbours reach into it; 0 where there is none."""

    start: int
    stop: int
    overlap_before: int
    overlap_after: int


def auto_tiling(
    *,
    train_crop_px: int,
    largest_object_px: float,
    stride: int,
    side_px: int | None = None,
    overlap_px: int | None = None,
) -> Tiling:
    """Tiles that suit a detector; a given side or overlap stays.

    The overlap is the largest training object, rounded up to the stride; the side is the training
    crop, at least 640 and at least twice the overlap. At most 2048: what is larger than an overlap
    of 1024 is for the downscaled whole image to see.
    """
    limit = (side_px or _LARGEST_AUTO_TILE_PX) // 2
    overlap = min(_round_up(largest_object_px, stride), limit) if overlap_px is None else overlap_px
    side = _round_up(max(_LEAST_TILE_PX, train_crop_px, 2 * overlap), stride)
    return Tiling(side_px=side_px or side, overlap_px=overlap)


def spans(length: int, tiling: Tiling | None) -> list[Span]:
    """Stretches that cover an axis of `length` pixels; one where there is no tiling or no need."""
    if tiling is None or length <= tiling.side_px * SLACK:
        return [Span(0, length, 0, 0)]
    side, free = tiling.side_px, length - tiling.side_px
    steps = math.ceil(free / (side - tiling.overlap_px))
    starts = [round(i * free / steps) for i in range(steps + 1)]
    reach = [0, *(a + side - b for a, b in itertools.pairwise(starts)), 0]
    return [Span(s, s + side, reach[i], reach[i + 1]) for i, s in enumerate(starts)]


def _round_up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
