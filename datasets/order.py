"""Which crops an epoch shows, and in what order."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from smallobj.boxes import BoxTable

# Crops are shuffled among this many images at a time, so that a decoded image serves all of its
# crops while it is in memory; 64 images of 6 megapixels are 1.1 GB.
IMAGES_AT_A_TIME = 64


def epoch_order(
    table: BoxTable, background: float, crops_per_image: int, rng: Generator
) -> NDArray[np.int64]:
    """Image and row of the box aimed at (-1: none) of each crop, [n, 2].

    Of each image at most `crops_per_image` boxes, drawn anew each epoch, and so many crops of
    places without a box, in images drawn from all, that their share is `background`. The number
    is the same in every epoch. Where there is no box at all there is no crop.
    """
    rows = _some_rows_of_each_image(table, crops_per_image, rng)
    empty = round(len(rows) * background / (1 - background))
    image = np.concatenate([table.image_index[rows], rng.integers(len(table.images), size=empty)])
    aim = np.concatenate([rows, np.full(empty, -1)])
    group = rng.permutation(len(table.images)) // IMAGES_AT_A_TIME
    order = np.lexsort((rng.random(len(image)), group[image]))
    return np.stack([image, aim], axis=1)[order].astype(np.int64)


def _some_rows_of_each_image(table: BoxTable, limit: int, rng: Generator) -> NDArray[np.int64]:
    """At most `limit` rows of each image, at random."""
    image = table.image_index
    shuffled = np.lexsort((rng.random(len(image)), image))
    rank = np.arange(len(image)) - table.offsets[image]
    return shuffled[rank < limit]
