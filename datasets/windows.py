"""Rectangles of images: where they lie, the pixels in them, and what of the boxes shows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from smallobj.boxes import Array, box_area
from smallobj.datasets.augment import Pixels

_BACKGROUND_TRIES = 10


class Window(NamedTuple):
    """A rectangle of an image to be cut: it may reach beyond the border, which is padded."""

    left: float
    top: float
    width: float  # pixels of the image, as all four
    height: float


class Cut(NamedTuple):
    """Pixels that were cut from an image, or put together, and the boxes in them."""

    pixels: Pixels  # uint8 [H, W, 3]; may be a read-only part of an image
    xyxy: Array  # float64 [M, 4], pixels of the cut, each with an area in float32
    label: NDArray[np.int32]  # [M]


def window_around(
    box: Array, size: tuple[int, int], sides: tuple[float, float], rng: Generator
) -> Window:
    """A window of an image that shows the whole box, which lies anywhere in it.

    box [4]; size (width, height) of the image, sides of the window. It stays inside the image
    where the image is large enough. Of a box larger than the window it shows a part.
    """
    left, top = (
        _place(side, extent, rng, sorted((high - side, low)))
        for side, extent, low, high in zip(sides, size, box[:2], box[2:], strict=True)
    )
    return Window(left, top, *sides)


def background_window(
    xyxy: Array, size: tuple[int, int], sides: tuple[float, float], rng: Generator
) -> Window:
    """A window anywhere that shows no box, or one that does where ten tries found no other."""
    for _ in range(_BACKGROUND_TRIES):
        left, top = (
            _place(side, extent, rng, (-np.inf, np.inf))
            for side, extent in zip(sides, size, strict=True)
        )
        window = Window(left, top, *sides)
        if not touching(xyxy, np.array([left, top, left + sides[0], top + sides[1]])).any():
            break
    return window


def touching(xyxy: Array, rectangle: Array) -> NDArray[np.bool_]:
    """Which of the boxes [M, 4] share any area with a rectangle [4]."""
    both = (xyxy[:, :2] < rectangle[2:]) & (xyxy[:, 2:] > rectangle[:2])
    found: NDArray[np.bool_] = np.all(both, axis=1)
    return found


def boxes_in_window(
    xyxy: Array, window: Window, size_px: tuple[int, int], min_visible: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Boxes [K, 4] in pixels of what is cut, cut at its border, and which of the [M] they are.

    size_px: width and height that the window comes to. A box of which less than `min_visible` of
    the area shows is left out: its sliver is taught as background, as the neighbouring tile will
    see it whole.
    """
    limit = np.tile(size_px, 2)
    scale = limit / np.tile([window.width, window.height], 2)
    moved = (xyxy - np.tile([window.left, window.top], 2)) * scale
    cut = np.clip(moved, 0, limit)
    # In float32 as the detector gets it, so that no box loses its area by rounding.
    has_area = (cut[:, 2:].astype(np.float32) > cut[:, :2].astype(np.float32)).all(axis=1)
    kept = has_area & (box_area(cut) >= min_visible * box_area(moved))
    return cut[kept], kept


def cut_window(image: Pixels, window: Window, size_px: tuple[int, int], pad: Pixels) -> Pixels:
    """The window's pixels as uint8 [height, width, 3] of `size_px` (width, height).

    Resized where its sides are others; at native scale they may be a part of the image itself.
    """
    left, top = int(np.floor(window.left)), int(np.floor(window.top))
    if (window.width, window.height) == size_px:
        return _padded(image, (left, top), size_px, pad)
    dx, dy = window.left - left, window.top - top
    box = (dx, dy, dx + window.width, dy + window.height)
    size = int(np.ceil(box[2])), int(np.ceil(box[3]))
    around = Image.fromarray(_padded(image, (left, top), size, pad))
    return np.asarray(around.resize(size_px, Image.Resampling.BILINEAR, box=box))


def _place(side: float, extent: int, rng: Generator, wanted: Sequence[float]) -> float:
    """Start of a window along one axis, inside `wanted` as far as the image allows.

    Whole pixels, so that a crop at native scale is the image's own pixels.
    """
    low, high = min(0.0, extent - side), max(0.0, extent - side)
    low, high = np.clip(wanted, low, high)
    return float(np.floor(rng.uniform(low, high) + 0.5))


def _padded(image: Pixels, corner: tuple[int, int], size: tuple[int, int], pad: Pixels) -> Pixels:
    """The pixels from `corner` (left, top) of `size` (width, height), padded beyond the border."""
    (left, top), (width, height) = corner, size
    rows = slice(max(0, top), max(0, top + height))
    columns = slice(max(0, left), max(0, left + width))
    part = image[rows, columns]
    if part.shape[:2] == (height, width):
        return part
    padded = np.empty((height, width, 3), np.uint8)
    padded[:] = pad
    y, x = max(0, -top), max(0, -left)
    padded[y : y + part.shape[0], x : x + part.shape[1]] = part
    return padded
