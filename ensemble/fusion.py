"""Tables in, one table out: weighted boxes fusion on all cores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable
from smallobj.boxes.compiled import over_image_ranges
from smallobj.ensemble.config import CONFIDENCE_RULES, FusionConfig
from smallobj.ensemble.kernels import fuse_images
from smallobj.ensemble.ordering import Order, Pool, order_pool


def fuse(tables: Sequence[BoxTable], config: FusionConfig | None = None) -> BoxTable:
    """Fuse the predictions of several runs on the same images and classes.

    Boxes join class by class, by falling score x weight; equal ones by run, then row. Boxes are cut
    at the border of images of known size; those without area take no part. A run of weight 0 is
    left out. Returns the boxes of an image by falling score, at most config.max_detections. Scores
    of the rule `avg` can exceed 1 under unequal weights: see `clip_scores`.

    Raises ValueError for no tables, tables that differ in images or classes, weights that do not
    match, values that are not finite.
    """
    config = config or FusionConfig()
    weights = config.weights_of(len(tables))
    pool = Pool.of(tables)
    order = order_pool(pool, weights, config.skip)
    return fuse_ordered(pool, order, config, (config.conf_type,))[0]


def fuse_ordered(
    pool: Pool,
    order: Order,
    config: FusionConfig,
    rules: Sequence[str],
    *,
    threads: int | None = None,
) -> list[BoxTable]:
    """One fused table for each confidence rule, from one clustering.

    `order` was made with the same weights, and a skip of at most config.skip; config.conf_type is
    not used. threads: 1 where the caller has its own.
    """
    cap = config.max_detections or int(order.counts.max(initial=0))
    slots = np.concatenate([[0], np.cumsum(np.minimum(order.counts, cap))])
    shape = (len(rules), int(slots[-1]))
    xyxy, score = np.empty((*shape, 4)), np.empty(shape)
    label = np.empty(shape, np.int32)
    counts = np.empty((len(rules), len(pool.images)), np.int64)
    weight = np.array(config.weights_of(len(pool.starts)), np.float64)
    codes = np.array([CONFIDENCE_RULES.index(rule) for rule in rules], np.int64)

    def work(first: int, last: int) -> None:
        fuse_images(
            first,
            last,
            pool.offsets,
            order.counts,
            order.row,
            order.run,
            order.key,
            pool.xyxy,
            pool.label,
            pool.score,
            pool.images.width,
            pool.images.height,
            weight,
            config.iou,
            config.skip,
            codes,
            config.allows_overflow,
            cap,
            slots,
            xyxy,
            label,
            score,
            counts,
        )

    over_image_ranges(work, pool.offsets, threads=threads)
    return [
        _table(pool, slots, counts[k], xyxy=xyxy[k], label=label[k], score=score[k])
        for k in range(len(rules))
    ]


def clip_scores(table: BoxTable) -> tuple[BoxTable, int]:
    """Scores cut to 1, and how many were above it."""
    if table.score is None:
        raise ValueError("a table without scores has none to clip")
    above = int((table.score > 1).sum())
    return (replace(table, score=np.minimum(table.score, 1)), above) if above else (table, 0)


def _table(
    pool: Pool, slots: NDArray[np.int64], counts: NDArray[np.int64], **columns: Any
) -> BoxTable:
    """Close the gaps that images with fewer boxes than slots leave."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    if offsets[-1] < slots[-1]:
        rows = np.arange(offsets[-1]) + np.repeat(slots[:-1] - offsets[:-1], counts)
        columns = {name: column[rows] for name, column in columns.items()}
    return BoxTable(images=pool.images, classes=pool.classes, offsets=offsets, **columns)
