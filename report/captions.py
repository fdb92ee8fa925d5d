"""Text on pictures: fonts, and where a box's text stands so that it hides least."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smallobj.boxes import Array, InputError
from smallobj.report.strokes import Colour, Corners

Font = ImageFont.FreeTypeFont

_PADDING = 2  # pixels around a text


@lru_cache(maxsize=64)
def load_font(size_px: int, file: Path | None = None) -> Font:
    """A font of letters about `size_px` high; DejaVu Sans, which comes with matplotlib, where None.

    Raises InputError where the file is no font.
    """
    if file is None:
        import matplotlib as mpl  # noqa: PLC0415 - a third of a second

        file = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    try:
        return ImageFont.truetype(str(file), size_px)
    except OSError as error:
        raise InputError("is no font that can be read (TrueType, OpenType)", file=file) from error


def one_line(text: str) -> str:
    """Text that no line break or control character spreads over a picture."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shortened(text: str, font: Font, width: float) -> str:
    """The text, its end cut off where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = font.getlength(text[:middle] + "…") <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low] + "…"


def text_size(text: str, font: Font) -> tuple[int, int]:
    """Width and height of a text's plate in pixels."""
    ascent, descent = font.getmetrics()
    return round(font.getlength(text)) + 2 * _PADDING, ascent + descent + _PADDING


def write(
    image: Image.Image, place: tuple[int, int], text: str, font: Font, *, ground: Colour
) -> None:
    """Write a text on a plate of colour `ground`, black or white, whichever is easier to read."""
    width, height = text_size(text, font)
    left, top = place
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=ground)
    light = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2] > 110
    draw.text((left + _PADDING, top), text, font=font, fill=(0, 0, 0) if light else (255,) * 3)


def place_text(
    size: tuple[int, int], frame: Corners, limit: tuple[int, int], taken: Array
) -> tuple[int, int]:
    """Where a text of `size` stands beside a frame, inside an image of (width, height) `limit`.

    taken [K, 4]: boxes and texts not to be hidden. Above, below, right, left, with either edge
    aligned: the first place that hides nothing, else the one that hides least.
    """
    left, top, right, bottom = frame
    width, height = size
    wanted: Sequence[tuple[int, int]] = (
        (left, top - height),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (right, top),
        (left - width, top),
    )
    spots = np.array(wanted)
    spots = np.clip(spots, 0, np.maximum(np.array(limit) - size, 0))
    hidden = _hidden(np.concatenate([spots, spots + size], axis=1), taken)
    x, y = spots[int(hidden.argmin())]
    return int(x), int(y)


def _hidden(plates: Array, taken: Array) -> Array:
    """Square pixels of `taken` [K, 4] that each plate [P, 4] covers, [P]."""
    low = np.maximum(plates[:, None, :2], taken[None, :, :2])
    high = np.minimum(plates[:, None, 2:], taken[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2).sum(axis=1)
