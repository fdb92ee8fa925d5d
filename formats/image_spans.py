"""Ranges of images with few enough boxes to be worked on at once."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 500_000  # boxes of all runs together; about 100 MB while they are fused


def image_spans(rows: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Ranges (start, stop) of images with at most `most` boxes together, or a single image's.

    rows [N]: boxes of each image. An image counts as one box more than it has, so that a range of
    empty ones ends somewhere too.
    """
    ends = np.cumsum(rows + 1)
    start, before = 0, 0
    while start < len(ends):
        stop = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        yield start, stop
        start, before = stop, int(ends[stop - 1])
