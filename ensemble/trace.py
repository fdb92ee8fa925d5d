"""Which rows of which runs each fused box was made of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smallobj.ensemble.kernels_cluster import Fused
from smallobj.ensemble.ordering import Order, Pool


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """The rows behind each of K fused boxes: box k has entries offsets[k] to offsets[k + 1].

    The first entry of a box is its best, by score x weight; the others follow by falling score x
    weight, class by class. Rows that joined no box that was kept are in none.
    """

    offsets: NDArray[np.int64]  # [K + 1]
    run: NDArray[np.int32]  # [P], number of the table
    row: NDArray[np.int64]  # [P], row of that table

    def of_boxes(self, index: NDArray[np.int64]) -> "Trace":
        """The trace of the fused boxes at `index` [J], in that order."""
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        return Trace(offsets=offsets, run=self.run[places], row=self.row[places])


def filled_slots(fused: Fused, rule: int) -> NDArray[np.int64]:
    """Places of the fused boxes under one rule, without the gaps of images that have fewer."""
    counts = fused.counts[rule]
    begin = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) + np.repeat(fused.slots[:-1] - begin, counts)


def trace_of(pool: Pool, order: Order, fused: Fused) -> Trace:
    """The trace of a fusion under one rule that was made with room for one."""
    images = len(order.counts)
    counts = fused.counts[0]
    rows = filled_slots(fused, 0)
    # a cluster is numbered by its image's first place and its number there: no two share one
    number = np.repeat(pool.offsets[:-1], counts) + fused.cluster[0][rows]
    box_of = np.full(len(order.row) + 1, -1, np.int64)
    box_of[number] = np.arange(len(rows))
    used = np.repeat(pool.offsets[:-1] - (np.cumsum(order.counts) - order.counts), order.counts)
    place = np.arange(int(order.counts.sum())) + used
    image = np.repeat(np.arange(images), order.counts)
    member = fused.member[place]
    box = np.where(member >= 0, box_of[pool.offsets[image] + member], -1)
    place, box = place[box >= 0], box[box >= 0]
    by_box = np.argsort(box, kind="stable")
    place = place[by_box]
    run = order.run[place]
    return Trace(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(box, minlength=len(rows)))]),
        run=run,
        row=order.row[place] - pool.starts[run, 0],
    )
