"""Which crops an epoch shows, and in what order."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable

# Crops are shuffled among this many images at a time, so that a decoded image serves all of its
# crops while it is in memory; 64 images of 6 megapixels are 1.1 GB.
IMAGES_AT_A_TIME = 64


def epoch_order(
    table: BoxTable,
    background: float,
    crops_per_image: int,
    rng: Generator,
    *,
    balance: float = 0.0,
) -> NDArray[np.int64]:
    """Image, row of the box aimed at (-1: none) and group of images of each crop, [n, 3].

    Of each image at most `crops_per_image` boxes, drawn anew each epoch, and so many crops of
    places without a box, in images drawn from all, that their share is `background`. The number
    is the same in every epoch. Where there is no box at all there is no crop.

    balance: those boxes are drawn again, as many as there are, one of a class that has n of them
    in proportion to n ** -balance. With 1 every class is aimed at equally often, a box of a rare
    one several times an epoch. Within an image, too, rare classes are then likelier to be chosen.
    """
    rows = _some_rows_of_each_image(table, crops_per_image, balance, rng)
    if balance:
        rows = _balanced(rows, table.label[rows], balance, rng)
    empty = round(len(rows) * background / (1 - background))
    image = np.concatenate([table.image_index[rows], rng.integers(len(table.images), size=empty)])
    aim = np.concatenate([rows, np.full(empty, -1)])
    group = rng.permutation(len(table.images)) // IMAGES_AT_A_TIME
    order = np.lexsort((rng.random(len(image)), group[image]))
    return np.stack([image, aim, group[image]], axis=1)[order].astype(np.int64)


def same_group(order: NDArray[np.int64], index: int) -> NDArray[np.int64]:
    """The crops of an epoch whose images are in memory together with those of crop `index`."""
    groups, group = order[:, 2], order[index, 2]
    return order[np.searchsorted(groups, group) : np.searchsorted(groups, group, "right")]


def class_weights(label: NDArray[np.int32], balance: float) -> Array:
    """How likely each of the rows [M] is to be drawn, up to a factor: n ** -balance."""
    counts = np.bincount(label).astype(np.float64)
    return counts[label] ** -balance


def _some_rows_of_each_image(
    table: BoxTable, limit: int, balance: float, rng: Generator
) -> NDArray[np.int64]:
    """At most `limit` rows of each image, at random, by weight without replacement.

    By the smallest exponential variates, of a rate of the row's weight each (Efraimidis and
    Spirakis, 2006, https://doi.org/10.1016/j.ipl.2005.11.003).
    """
    image, key = table.image_index, rng.random(len(table))
    if balance:
        key = -np.log1p(-key) / class_weights(table.label, balance)
    shuffled = np.lexsort((key, image))
    rank = np.arange(len(image)) - table.offsets[image]
    return shuffled[rank < limit]


def _balanced(
    rows: NDArray[np.int64], label: NDArray[np.int32], balance: float, rng: Generator
) -> NDArray[np.int64]:
    """As many of the rows [n], with repetition, by their classes' weights.

    Systematic: one random start and equal steps along the weights laid end to end, class by class,
    so that no class and no row is further than one from its due.
    """
    sorted_rows = np.lexsort((rng.random(len(rows)), label))
    ends = np.cumsum(class_weights(label, balance)[sorted_rows])
    if not len(rows):
        return rows
    points = (np.arange(len(rows)) + rng.random()) * (ends[-1] / len(rows))
    place = np.minimum(np.searchsorted(ends, points, "right"), len(rows) - 1)
    return rows[sorted_rows[place]]
