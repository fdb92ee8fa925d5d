"""Each object cut out with its surroundings and enlarged, outlined as in the whole picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from smallobj.boxes import Array
from smallobj.report.drawing import Marks, Pen, draw_marks
from smallobj.report.strokes import Corners

SIDE_PX = 320  # longer side of an enlarged crop
_TIMES_OBJECT = 3.0  # surroundings tell what an object is
_LEAST_SIDE_PX = 48.0  # of the photograph
_PEN = Pen(width=3, letters=16)


def crop_window(xyxy: Array, size: tuple[int, int]) -> Corners:
    """The part of a picture of (width, height) around a box [4]: three times its longer side.

    At least 48 px a side, inside the picture, and of its whole width or height where that is less.
    """
    side = max(_LEAST_SIDE_PX, _TIMES_OBJECT * float((xyxy[2:] - xyxy[:2]).max()))
    wanted = np.minimum(np.ceil(side), size)
    centre = (xyxy[:2] + xyxy[2:]) / 2
    corner = np.clip(np.round(centre - wanted / 2), 0, np.array(size) - wanted).astype(int)
    end = corner + wanted.astype(int)
    return int(corner[0]), int(corner[1]), int(end[0]), int(end[1])


def enlarged_crop(
    image: Image.Image, marks: Marks, chosen: int, *, font: Path | None = None
) -> Image.Image:
    """The surroundings of one of the boxes of a picture, 320 px on the longer side.

    All boxes in sight are outlined; the chosen one alone has its text, and lies on top.
    """
    window = crop_window(marks.xyxy[chosen], image.size)
    width, height = window[2] - window[0], window[3] - window[1]
    scale = SIDE_PX / max(width, height)
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    crop = image.crop(window).resize(target, how)
    order = _in_sight(marks, chosen, window)
    seen = Marks(
        kind=tuple(marks.kind[i] for i in order),
        xyxy=marks.xyxy[order],
        text=(*("" for _ in order[:-1]), marks.text[chosen]),
    )
    pen = replace(_PEN, font=font)
    moved = seen.moved((window[0], window[1]), scale)
    draw_marks(crop, moved.part(0, len(order) - 1), pen)
    draw_marks(crop, moved.part(len(order) - 1, len(order)), pen)
    return crop


def _in_sight(marks: Marks, chosen: int, window: Corners) -> list[int]:
    """Boxes that reach into the window, the chosen one last."""
    low, high = marks.xyxy[:, :2] < window[2:], marks.xyxy[:, 2:] > window[:2]
    seen = (low & high).all(axis=1)
    return [*(i for i in np.flatnonzero(seen).tolist() if i != chosen), chosen]
