"""One way of looking at an image, and the rectangles it hands to the detector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from smallobj.boxes import Array
from smallobj.tta.light import PLAIN_LIGHT, Light, shortest
from smallobj.tta.symmetry import IDENTITY, Symmetry
from smallobj.tta.tiling import SLACK, Tiling, spans

EDGE_PX = 2.0  # how close to the edge of a patch, in its pixels, a box counts as cut by it


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A rectangle of an image as the detector sees it: cropped, scaled, lit, mirrored or turned."""

    crop: tuple[int, int, int, int]  # left, top, right, bottom in pixels of the image
    width: int  # of the scaled crop, before mirroring or turning, in pixels
    height: int
    symmetry: Symmetry = IDENTITY
    # how far the neighbours at left, top, right, bottom reach into the crop; 0: an outer edge
    overlap: tuple[int, int, int, int] = (0, 0, 0, 0)
    light: Light = PLAIN_LIGHT

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what `forward` returns."""
        width, height = self.symmetry.size(self.width, self.height)
        return height, width

    @property
    def inner_edges(self) -> tuple[bool, bool, bool, bool]:
        """Whether left, top, right, bottom of the crop (as in the image) lie inside the image."""
        left, top, right, bottom = self.overlap
        return left > 0, top > 0, right > 0, bottom > 0

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the patch a pixel of the image, across and down; exact after rounding."""
        left, top, right, bottom = self.crop
        return self.width / (right - left), self.height / (bottom - top)

    def forward(self, image: Tensor) -> Tensor:
        """What the detector sees of an upright image uint8 [3, H, W]: uint8 [3, *size]."""
        left, top, right, bottom = self.crop
        pixels = image[:, top:bottom, left:right]
        if (self.width, self.height) != (right - left, bottom - top):
            pixels = _resized(pixels, self.height, self.width)
        return self.symmetry.forward(self.light.forward(pixels))

    def boxes_back(self, xyxy: Array) -> Array:
        """Boxes [K, 4] in pixels of the patch, in pixels of the image."""
        across, down = self.scale
        left, top, _, _ = self.crop
        upright = self.symmetry.boxes_back(xyxy, self.width, self.height)
        return upright / (across, down, across, down) + (left, top, left, top)

    def seen_whole_next_door(self, xyxy: Array) -> NDArray[np.bool_]:
        """Which boxes [K, 4], in pixels of the image, an inner edge cuts and a neighbour does not.

        A box that fills the overlap is cut next door too, so none of its parts is counted here.
        """
        cut = np.zeros(len(xyxy), np.bool_)
        across, down = self.scale
        for axis, near in ((0, EDGE_PX / across), (1, EDGE_PX / down)):
            low, high = self.crop[axis], self.crop[axis + 2]
            before, after = self.overlap[axis], self.overlap[axis + 2]
            start, stop = xyxy[:, axis], xyxy[:, axis + 2]
            if before:
                cut |= (start <= low + near) & (stop - low < before - near)
            if after:
                cut |= (stop >= high - near) & (high - start < after - near)
        return cut


@dataclass(frozen=True, kw_only=True)
class View:
    """Scale x symmetry x light x cutting: tiles, whole at `whole_px` at most, or squashed."""

    symmetry: Symmetry = IDENTITY
    scale: float = 1.0  # pixels of the patch a pixel of the image
    tiling: Tiling | None = None  # None: in one piece
    whole_px: int | None = None  # instead of tiles: downscaled to this longest side, then scaled
    squash_px: int | None = None  # instead of tiles and scale: resized to a square of this side
    light: Light = PLAIN_LIGHT

    def __post_init__(self) -> None:
        if sum(cut is not None for cut in (self.tiling, self.whole_px, self.squash_px)) > 1:
            raise ValueError("a view is either cut into tiles or whole or squashed")
        if self.squash_px is not None and self.scale != 1:
            raise ValueError("a squashed view has no scale")

    @property
    def name(self) -> str:
        """How `parse_views` would name it: `hflip,scale=0.75,tile=640:128`."""
        parts = [] if self.symmetry == IDENTITY else [self.symmetry.name]
        settings = {"scale": self.scale, **self.light._asdict()}
        parts += [f"{name}={shortest(value)}" for name, value in settings.items() if value != 1]
        if self.tiling is not None:
            parts.append(f"tile={self.tiling.side_px}:{self.tiling.overlap_px}")
        if self.whole_px is not None:
            parts.append(f"whole={self.whole_px}")
        if self.squash_px is not None:
            parts.append(f"squash={self.squash_px}")
        return ",".join(parts) or "identity"

    def patches(self, width: int, height: int) -> list[Patch]:
        """The patches of an image of this size in pixels, row by row; they cover all of it."""
        if self.squash_px is not None:
            return [
                Patch(
                    crop=(0, 0, width, height),
                    width=self.squash_px,
                    height=self.squash_px,
                    symmetry=self.symmetry,
                    light=self.light,
                )
            ]
        scale = self.scale
        if self.whole_px is not None and max(width, height) > self.whole_px * SLACK:
            scale *= self.whole_px / max(width, height)
        return [
            Patch(
                crop=(x.start, y.start, x.stop, y.stop),
                width=max(1, round((x.stop - x.start) * scale)),
                height=max(1, round((y.stop - y.start) * scale)),
                symmetry=self.symmetry,
                overlap=(x.overlap_before, y.overlap_before, x.overlap_after, y.overlap_after),
                light=self.light,
            )
            for y in spans(height, self.tiling)
            for x in spans(width, self.tiling)
        ]


def _resized(pixels: Tensor, height: int, width: int) -> Tensor:
    if height == width == 1:  # bytes to a single pixel: torch 2.14 fails
        return pixels.float().mean((1, 2), keepdim=True).round().to(torch.uint8)
    return F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)[0]


def looks(views: Sequence[View], width: int, height: int) -> list[list[Patch]]:
    """The patches of each view of an image; views that come to the same patches count once."""
    return [list(patches) for patches in distinct_looks(views, width, height)]


def distinct_looks(views: Sequence[View], width: int, height: int) -> dict[tuple[Patch, ...], int]:
    """The different patches that views of an image come to, and the first view that does."""
    distinct: dict[tuple[Patch, ...], int] = {}
    for number, view in enumerate(views):
        distinct.setdefault(tuple(view.patches(width, height)), number)
    return distinct
