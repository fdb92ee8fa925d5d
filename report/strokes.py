"""Outlines told apart by stroke, not by colour alone, drawn around a box and never over it."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from smallobj.report.judged import DETECTED, IGNORED, MISSED, RIGHT, WRONG

Colour = tuple[int, int, int]
Corners = tuple[int, int, int, int]  # left, top, right, bottom: the last two are outside

_EDGE: Colour = (0, 0, 0)  # a rim on the outer side, so that a stroke shows on any background


class Style(NamedTuple):
    """How one kind of box is outlined. Colours: Okabe & Ito (2008), for the colour-blind too."""

    stroke: str  # its name in words
    colour: Colour
    period: float  # from dash to dash, in line widths; 0: one line without gaps
    filled: float  # share of the period that is drawn
    least: int  # dashes around the smallest box


STYLES: dict[str, Style] = {
    RIGHT: Style("solid", (0, 190, 130), 0, 1.0, 0),
    WRONG: Style("dashed", (230, 90, 0), 9, 0.6, 8),
    MISSED: Style("dotted", (86, 180, 233), 3, 0.4, 16),
    IGNORED: Style("sparsely dashed", (160, 160, 160), 9, 0.25, 8),
    DETECTED: Style("solid", (240, 200, 40), 0, 1.0, 0),
}


def outline(image: Image.Image, xyxy: np.ndarray, style: Style, *, width: int) -> Corners:
    """Draw the outline of a box [4] (pixels) around it, `width` pixels thick, and a dark rim.

    The pixels inside the box stay as they are, but where the image ends at its edge: there the line
    moves inwards to be seen. Returns the corners of what was drawn; a box outside the image shows
    as a line at the border nearest to it.
    """
    rim = max(1, width // 2)
    outer = outer_corners(xyxy, image.size, width + rim)
    draw = ImageDraw.Draw(image)
    for colour, start in ((_EDGE, 0), (style.colour, rim)):
        left, top, right, bottom = (
            outer[0] + start, outer[1] + start, outer[2] - start, outer[3] - start,
        )  # fmt: skip
        thick = width + rim - start
        for dash in _dashes(right - left, bottom - top, style, width):
            for part in _along(dash, (left, top, right, bottom), thick):
                _fill(draw, part, colour)
    return outer


def outer_corners(xyxy: np.ndarray, size: tuple[int, int], thick: int) -> Corners:
    """Corners of a frame `thick` around a box, moved inside an image of (width, height)."""
    low = np.floor(xyxy[:2]) - thick
    high = np.ceil(xyxy[2:]) + thick
    limit = np.array(size)
    low = np.clip(low, 0, np.maximum(limit - 2 * thick, 0)).astype(int)
    high = np.minimum(np.maximum(high, low + 2 * thick), limit).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _dashes(width: int, height: int, style: Style, line: int) -> list[tuple[float, float]]:
    """Pieces of the way around a box (start, end), in pixels, clockwise from its top left."""
    around = 2.0 * (width + height)
    if not style.period:
        return [(0.0, around)]
    count = max(style.least, round(around / (style.period * line)))
    period = around / count
    return [(i * period, (i + style.filled) * period) for i in range(count)]


def _along(dash: tuple[float, float], corners: Corners, thick: int) -> list[Corners]:
    """The rectangles that a piece of the way around covers, one a side."""
    left, top, right, bottom = corners
    width, height = right - left, bottom - top
    parts, begin = [], 0.0
    for side, length in enumerate((width, height, width, height)):
        low, high = max(dash[0] - begin, 0.0), min(dash[1] - begin, float(length))
        begin += length
        if high <= low:
            continue
        first, last = round(low), max(round(high), round(low) + 1)
        parts.append(
            (
                (left + first, top, left + last, top + thick),
                (right - thick, top + first, right, top + last),
                (right - last, bottom - thick, right - first, bottom),
                (left, bottom - last, left + thick, bottom - first),
            )[side]
        )
    return parts


def _fill(draw: ImageDraw.ImageDraw, corners: Corners, colour: Colour) -> None:
    left, top, right, bottom = corners
    if right > left and bottom > top:
        draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)  # both ends are drawn
