"""Non-maximum suppression over a whole table, class by class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable
from smallobj.ensemble.kernels_suppress import suppress_images
from smallobj.ensemble.ordering import ALL_ROWS, Pool, order_pool, over_pool


def nms(table: BoxTable, iou: float, *, class_agnostic: bool = False) -> BoxTable:
    """Drop each box that overlaps a better one of its class in its image by more than `iou`.

    iou: 0..1. Equal scores: the box whose corners are the lower numbers, then the earlier row, is
    the better one. The rows kept, with all their columns, stay in their order. Raises ValueError
    for a table without scores or a value that is not finite.
    """
    if not 0 <= iou <= 1:
        raise ValueError(f"iou is a number from 0 to 1, not {iou}")
    keep = np.zeros(len(table), np.bool_)
    _mark(Pool.of([table]), iou, keep, agnostic=class_agnostic, threads=None)
    return table.filter_rows(keep)


def suppress_runs(
    pool: Pool, iou: Sequence[float], *, agnostic: bool = False, threads: int | None = None
) -> NDArray[np.bool_]:
    """Which rows of a pool suppression inside each run leaves, [M]; an IoU of 1 leaves a run alone.

    Returns no rows at all, which `order_pool` takes for all, where every run is left alone.
    """
    if all(value == 1 for value in iou):
        return ALL_ROWS
    keep = np.zeros(len(pool.score), np.bool_)
    for number, value in enumerate(iou):
        if value == 1:
            keep[pool.starts[number, 0] : pool.starts[number, -1]] = True
        else:
            _mark(pool.run(number), value, keep, agnostic=agnostic, threads=threads)
    return keep


def _mark(
    pool: Pool, iou: float, keep: NDArray[np.bool_], *, agnostic: bool, threads: int | None
) -> None:
    order = order_pool(pool, (1.0,), -np.inf, agnostic=agnostic, threads=threads)

    def work(first: int, last: int) -> None:
        suppress_images(
            first, last, pool.offsets, order.row, pool.xyxy, pool.label, iou, agnostic, keep
        )

    over_pool(work, pool, threads)
