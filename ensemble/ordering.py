"""The rows of several tables side by side, ordered by image, class and falling weighted score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, Classes, Images
from smallobj.boxes.compiled import over_image_ranges
from smallobj.ensemble.kernels_order import order_images

FARTHEST = 1e100  # pixels; beyond, areas are no longer finite numbers
_WORTH_THREADS = 2000  # rows; fewer are done before a second thread has started
ALL_ROWS = np.empty(0, np.bool_)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Rows of R tables over the same N images, one table after the other."""

    images: Images
    classes: Classes
    starts: NDArray[np.int64]  # [R, N + 1], rows of table r in image i: starts[r, i] to [r, i + 1]
    offsets: NDArray[np.int64]  # [N + 1], places for the rows of an image, all tables together
    xyxy: Array  # [M, 4]
    label: NDArray[np.int32]  # [M]
    score: Array  # [M]

    @classmethod
    def of(cls, tables: Sequence[BoxTable]) -> "Pool":
        """Pool tables of the same images and classes.

        Raises ValueError where they differ, have no scores, or hold a value that is not finite.
        """
        if not tables:
            raise ValueError("no tables to fuse")
        first = tables[0]
        for table in tables:
            if table.images.ids != first.images.ids or table.classes != first.classes:
                raise ValueError("the tables are not over the same images and classes")
        shifts = np.cumsum([0, *(len(table) for table in tables[:-1])])
        pool = cls(
            images=_known_sizes(tables),
            classes=first.classes,
            starts=np.stack([t.offsets + s for t, s in zip(tables, shifts, strict=True)]),
            offsets=np.sum([table.offsets for table in tables], axis=0),
            xyxy=_column([table.xyxy for table in tables]),
            label=_column([table.label for table in tables]),
            score=_column([_score(table) for table in tables]),
        )
        if not (_within(pool.xyxy, -FARTHEST, FARTHEST) and np.isfinite(pool.score.sum())):
            raise ValueError(f"a coordinate or score is not finite, or farther than {FARTHEST:g}")
        return pool

    def run(self, number: int) -> "Pool":
        """The rows of one table alone, still numbered as here."""
        starts = self.starts[number : number + 1]
        return Pool(
            images=self.images,
            classes=self.classes,
            starts=starts,
            offsets=starts[0] - starts[0, 0],
            xyxy=self.xyxy,
            label=self.label,
            score=self.score,
        )

    def require_probabilities(self) -> None:
        """Raise ValueError where a score is outside 0..1."""
        if not _within(self.score, 0, 1):
            raise ValueError("a score is outside 0..1")


@dataclass(frozen=True, kw_only=True)
class Order:
    """Rows of a pool in the order fusion takes them; image i fills places offsets[i] onward."""

    row: NDArray[np.int64]  # [M], row of the pool
    run: NDArray[np.int32]  # [M], table it came from
    key: Array  # [M], score x weight
    counts: NDArray[np.int64]  # [N], places filled
    skip: float  # raw score that none of these rows is below


def order_pool(
    pool: Pool,
    weights: Sequence[float],
    skip: float,
    *,
    keep: NDArray[np.bool_] = ALL_ROWS,
    agnostic: bool = False,
    threads: int | None = None,
) -> Order:
    """Order rows of score >= skip by class, then score x weight falling, then corners and label.

    What is equal even then comes by run and row. Tables of weight 0 are left out, and rows where
    `keep` [M] is false. agnostic: all classes are one. threads: 1 where the caller has its own.
    """
    places = int(pool.offsets[-1])
    order = Order(
        row=np.empty(places, np.int64),
        run=np.empty(places, np.int32),
        key=np.empty(places),
        counts=np.empty(len(pool.images), np.int64),
        skip=skip,
    )
    weight = np.asarray(weights, np.float64)
    longest = int(np.diff(pool.offsets).max(initial=0))

    def work(first: int, last: int) -> None:
        order_images(
            first,
            last,
            pool.starts,
            pool.offsets,
            pool.score,
            pool.label,
            pool.xyxy,
            keep,
            weight,
            skip,
            1 if agnostic else len(pool.classes),
            longest,
            order.row,
            order.run,
            order.key,
            order.counts,
        )

    over_pool(work, pool, threads)
    return order


def over_pool(work: Callable[[int, int], None], pool: Pool, threads: int | None) -> None:
    """Run `work(first, last)` over all images; on all cores where threads is None and it pays."""
    if threads is None and pool.offsets[-1] < _WORTH_THREADS:
        threads = 1
    over_image_ranges(work, pool.offsets, threads=threads)


def _known_sizes(tables: Sequence[BoxTable]) -> Images:
    images = tables[0].images
    if all(table.images is images or table.images == images for table in tables):
        return images
    return Images(
        ids=images.ids,
        width=np.max([table.images.width for table in tables], axis=0),
        height=np.max([table.images.height for table in tables], axis=0),
    )


def _score(table: BoxTable) -> Array:
    if table.score is None:
        raise ValueError("a table without scores cannot be fused")
    return table.score


def _within(column: Array, low: float, high: float) -> bool:
    """Whether all values are in low..high; NaN is not."""
    return not column.size or bool(column.min() >= low and column.max() <= high)


def _column(columns: list[NDArray]) -> NDArray:
    if len(columns) > 1:
        return np.concatenate(columns)
    # a column that cannot be written to would have the kernels compiled once more
    return np.require(columns[0], requirements="W")
