"""Objects of other images pasted into a crop.

After "Simple Copy-Paste" (https://arxiv.org/abs/2012.07177) and "Augmentation for small object
detection" (https://arxiv.org/abs/1902.07296), with rectangles, as boxes are all that is labelled:
a few pixels of what surrounds the object go along and fade into the crop.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.datasets.augment import Pixels, Symmetry
from smallobj.datasets.windows import Cut, Window, boxes_in_window, cut_window, touching

MOST_OBJECTS = 3
_MARGIN_PX = 4  # of context around an object, in which it fades
_LARGEST = 0.5  # of the crop's side that a pasted object may take
_TRIES = 10  # to find a free place


def piece_of(
    image: Pixels, xyxy: Array, label: NDArray[np.int32], chosen: int, *, scale: float, crop_px: int
) -> Cut | None:
    """The object of row `chosen` of an image's boxes [M, 4] with its margin, scaled.

    None where it is larger than half of the crop's side, or another box reaches into the margin:
    its pixels would be pasted without a box.
    """
    window = _window_of(xyxy[chosen], image.shape[1], image.shape[0])
    corners = np.array([window.left, window.top])
    rectangle = np.concatenate([corners, corners + window[2:]])
    sides = xyxy[chosen, 2:] - xyxy[chosen, :2]
    if scale * sides.max() > _LARGEST * crop_px or touching(xyxy, rectangle).sum() != 1:
        return None
    size_px = max(1, round(window.width * scale)), max(1, round(window.height * scale))
    inside, kept = boxes_in_window(xyxy[[chosen]], window, size_px, 0)
    if not kept.all():
        return None
    pad = np.zeros(3, np.uint8)  # is not seen: the window ends at the image's border
    return Cut(cut_window(image, window, size_px, pad), inside, label[[chosen]])


def _window_of(box: Array, width: int, height: int) -> Window:
    """The box and its margin in whole pixels, as far as the image reaches."""
    left, top = np.maximum(np.floor(box[:2]) - _MARGIN_PX, 0)
    right, bottom = np.minimum(np.ceil(box[2:]) + _MARGIN_PX, (width, height))
    return Window(left, top, max(1.0, right - left), max(1.0, bottom - top))


def laid(piece: Cut, symmetry: Symmetry) -> Cut:
    """The piece and its box, laid another way."""
    pixels = symmetry.image(piece.pixels)
    height, width = pixels.shape[:2]
    return Cut(pixels, symmetry.boxes(piece.xyxy, (width, height)), piece.label)


def free_place(
    xyxy: Array, size: tuple[int, int], crop_px: int, rng: Generator
) -> tuple[int, int] | None:
    """Left and top where a rectangle of `size` (width, height) covers no box [M, 4] of a crop.

    None where it is larger than the crop, or ten tries found no such place.
    """
    if max(size) > crop_px:
        return None
    for _ in range(_TRIES):
        left, top = (int(rng.integers(0, crop_px - side + 1)) for side in size)
        if not touching(xyxy, np.array([left, top, left + size[0], top + size[1]])).any():
            return left, top
    return None


def pasted(cut: Cut, pieces: Sequence[Cut], rng: Generator) -> Cut:
    """The crop with each piece at a free place; a piece for which there is none stays out."""
    crop_px = cut.pixels.shape[0]
    pixels, xyxy, label = cut.pixels.copy(), cut.xyxy, cut.label
    for piece in pieces:
        height, width = piece.pixels.shape[:2]
        place = free_place(xyxy, (width, height), crop_px, rng)
        if place is None:
            continue
        left, top = place
        blend(pixels[top : top + height, left : left + width], piece)
        xyxy = np.concatenate([xyxy, piece.xyxy + np.array([left, top, left, top])])
        label = np.concatenate([label, piece.label])
    return Cut(pixels, xyxy, label)


def blend(under: Pixels, piece: Cut) -> None:
    """Lay the piece over pixels of its size, in place: whole in its box, fading outside."""
    height, width = under.shape[:2]
    x1, y1, x2, y2 = piece.xyxy[0]
    share = np.outer(opacity(height, y1, y2), opacity(width, x1, x2))[..., None]
    mixed = under + (piece.pixels.astype(np.float32) - under) * share
    under[:] = np.rint(mixed).astype(np.uint8)


def opacity(length: int, start: float, end: float) -> Array:
    """1 where a pixel of [length] shows any of start to end, from there falling linearly.

    It would reach 0 one pixel beyond either end.
    """
    pixel = np.arange(length, dtype=np.float32)
    low, high = np.floor(start), np.ceil(end)
    rising = (pixel + 1) / (low + 1)
    falling = (length - pixel) / (length - high + 1)
    return np.minimum(1, np.minimum(rising, falling)).astype(np.float32)
