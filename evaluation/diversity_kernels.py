# ruff: noqa: PLR0917 - compiled code takes its columns by position
import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled


@compiled
def mark_near_boxes(
    start: int,
    stop: int,
    a_rows: NDArray[np.int64],
    a_offsets: NDArray[np.int64],
    a_xyxy: Array,
    a_label: NDArray[np.int32],
    b_rows: NDArray[np.int64],
    b_offsets: NDArray[np.int64],
    b_xyxy: Array,
    b_label: NDArray[np.int32],
    iou: float,
    a_near: NDArray[np.bool_],
    b_near: NDArray[np.bool_],
) -> None:
    """Mark the rows of a and of b that have one of the other beside them, in images start to stop.

    a_rows and b_rows are the rows that take part, those of image i at offsets[i] to offsets[i + 1].
    Boxes of one label and an IoU of `iou` or more are beside each other.
    """
    for i in range(start, stop):
        for m in range(a_offsets[i], a_offsets[i + 1]):
            row = a_rows[m]
            x1, y1, x2, y2 = a_xyxy[row, 0], a_xyxy[row, 1], a_xyxy[row, 2], a_xyxy[row, 3]
            area = (x2 - x1) * (y2 - y1)
            for n in range(b_offsets[i], b_offsets[i + 1]):
                other = b_rows[n]
                if (a_near[row] and b_near[other]) or a_label[row] != b_label[other]:
                    continue
                left, top = b_xyxy[other, 0], b_xyxy[other, 1]
                right, bottom = b_xyxy[other, 2], b_xyxy[other, 3]
                width, height = min(x2, right) - max(x1, left), min(y2, bottom) - max(y1, top)
                if width > 0 and height > 0:
                    shared = width * height
                    joint = area + (right - left) * (bottom - top) - shared
                    if shared >= iou * joint:
                        a_near[row], b_near[other] = True, True
