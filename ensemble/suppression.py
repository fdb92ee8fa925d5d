"""Non-maximum suppression over a whole table, class by class."""

import numpy as np

from smallobj.boxes import BoxTable
from smallobj.boxes.compiled import over_image_ranges
from smallobj.ensemble.kernels import suppress_images
from smallobj.ensemble.ordering import Pool, order_pool


def nms(table: BoxTable, iou: float) -> BoxTable:
    """Drop each box that overlaps a better one of its class in its image by more than `iou`.

    iou: 0..1. Equal scores: the earlier row is the better one. The rows kept, with all their
    columns, stay in their order. Raises ValueError for a table without scores or a value that is
    not finite.
    """
    if not 0 <= iou <= 1:
        raise ValueError(f"iou is a number from 0 to 1, not {iou}")
    pool = Pool.of([table])
    order = order_pool(pool, (1.0,), -np.inf)
    keep = np.zeros(len(table), np.bool_)

    def work(first: int, last: int) -> None:
        suppress_images(first, last, pool.offsets, order.row, pool.xyxy, pool.label, iou, keep)

    over_image_ranges(work, pool.offsets)
    return table.filter_rows(keep)
