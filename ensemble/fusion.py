"""Tables in, one table out, by any of the methods, on all cores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable
from smallobj.ensemble.config import CONFIDENCE_RULES, METHODS, FusionConfig
from smallobj.ensemble.kernels_cluster import (
    NMS,
    SOFT_NMS,
    Columns,
    Fused,
    Setting,
    Voters,
    fuse_images,
)
from smallobj.ensemble.kernels_suppress import soften_images
from smallobj.ensemble.ordering import Order, Pool, order_pool, over_pool
from smallobj.ensemble.suppression import suppress_runs
from smallobj.ensemble.trace import Trace, filled_slots, trace_of


def fuse(tables: Sequence[BoxTable], config: FusionConfig | None = None) -> BoxTable:
    """Fuse the predictions of several runs on the same images and classes.

    Boxes are taken class by class, by falling score x weight, equal ones by their corners: under
    equal weights the order of the runs does not matter. Boxes are cut at the border of images of
    known size; those without area take no part. A run of weight 0 is left out. Returns the boxes of
    an image by falling score, at most config.max_detections. Scores of the rule `avg` can exceed 1
    under unequal weights: see `clip_scores`.

    Raises ValueError for no tables, tables that differ in images or classes, settings that do not
    match their number, values that are not finite, scores outside 0..1.
    """
    config = config or FusionConfig()
    pool, order = _ordered(tables, config)
    fused, counts = _fused(pool, order, config, (config.conf_type,), traced=False)
    return _table(pool, fused, counts, 0)


def fuse_traced(
    tables: Sequence[BoxTable], config: FusionConfig | None = None
) -> tuple[BoxTable, Trace]:
    """`fuse`, and the rows behind each fused box: those that joined, or that it suppressed.

    Raises what `fuse` raises.
    """
    config = config or FusionConfig()
    pool, order = _ordered(tables, config)
    fused, counts = _fused(pool, order, config, (config.conf_type,), traced=True)
    return _table(pool, fused, counts, 0), trace_of(pool, order, fused)


def fuse_ordered(
    pool: Pool,
    order: Order,
    config: FusionConfig,
    rules: Sequence[str],
    *,
    threads: int | None = None,
) -> list[BoxTable]:
    """One fused table for each confidence rule, from one clustering.

    `order` was made for `ordering_of(config)`, with a skip of at most config.skip; config.conf_type
    is not used. threads: 1 where the caller has its own.
    """
    if config.method != "wbf":  # the others know no rules
        fused, counts = _fused(pool, order, config, rules[:1], traced=False, threads=threads)
        return [_table(pool, fused, counts, 0)] * len(rules)
    fused, counts = _fused(pool, order, config, rules, traced=False, threads=threads)
    return [_table(pool, fused, counts, number) for number in range(len(rules))]


def relative_weights(config: FusionConfig, runs: int) -> tuple[float, ...]:
    """The weights of the runs as shares of the highest, so that no product of them is too large."""
    weights = config.weights_of(runs)
    highest = max(weights)
    return tuple(weight / highest for weight in weights)


def clip_scores(table: BoxTable) -> tuple[BoxTable, int]:
    """Scores cut to 1, and how many were above it."""
    if table.score is None:
        raise ValueError("a table without scores has none to clip")
    above = int((table.score > 1).sum())
    return (replace(table, score=np.minimum(table.score, 1)), above) if above else (table, 0)


def _ordered(tables: Sequence[BoxTable], config: FusionConfig) -> tuple[Pool, Order]:
    weights = relative_weights(config, len(tables)) if tables else ()
    pool = Pool.of(tables)
    pool.require_probabilities()
    keep = suppress_runs(pool, config.nms_iou_of(len(tables)), agnostic=config.class_agnostic)
    return pool, order_pool(pool, weights, config.skip, keep=keep, agnostic=config.class_agnostic)


def _fused(
    pool: Pool,
    order: Order,
    config: FusionConfig,
    rules: Sequence[str],
    *,
    traced: bool,
    threads: int | None = None,
) -> tuple[Fused, NDArray[np.int64]]:
    """What the kernels made of an ordered pool, and how many boxes each image has, [K, N]."""
    runs = len(pool.starts)
    cap = config.max_detections or int(order.counts.max(initial=0))
    columns = Columns(
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
    )
    setting, voters = _setting(config, runs, cap, order.skip), _voters(config, runs)
    codes = np.array([CONFIDENCE_RULES.index(rule) for rule in rules], np.int64)
    soft = setting.method == SOFT_NMS
    fused = _room(len(rules), order, cap, places=len(order.row) if traced else 0)

    def work(first: int, last: int) -> None:
        if soft:
            soften_images(first, last, columns, setting, fused)
        else:
            fuse_images(first, last, columns, voters, setting, codes, fused)

    over_pool(work, pool, threads)
    return fused, fused.counts


def _room(rules: int, order: Order, cap: int, *, places: int) -> Fused:
    slots = np.concatenate([[0], np.cumsum(np.minimum(order.counts, cap))])
    shape = (rules, int(slots[-1]))
    return Fused(
        slots,
        np.empty((*shape, 4)),
        np.empty(shape, np.int32),
        np.empty(shape),
        np.empty((rules, len(order.counts)), np.int64),
        np.empty(shape if places else (rules, 0), np.int32),
        np.empty(places, np.int32),
    )


def _setting(config: FusionConfig, runs: int, cap: int, sifted: float) -> Setting:
    method = METHODS.index(config.method)
    weights = relative_weights(config, runs)
    # ensemble-boxes divides by the sum of weights that were given, and by nothing where none were
    suppresses = method in (NMS, SOFT_NMS)
    divisor = sum(weights) if suppresses and config.weights is not None else 1.0
    return Setting(
        method,
        float(config.iou),
        float(config.shift_px),
        float(config.skip),
        bool(config.skip > sifted),
        bool(config.allows_overflow),
        bool(config.class_agnostic),
        int(config.min_votes),
        int(cap),
        float(divisor),
        float(config.sigma) if config.soft == "gaussian" else 0.0,
    )


def _voters(config: FusionConfig, runs: int) -> Voters:
    """Models numbered from 0 by first view; a model weighs as much as its heaviest view."""
    weight = np.array(relative_weights(config, runs), np.float64)
    numbers: dict[int, int] = {}
    model = np.array([numbers.setdefault(m, len(numbers)) for m in config.models_of(runs)])
    model_weight = np.zeros(len(numbers))
    np.maximum.at(model_weight, model, weight)
    return Voters(weight, model, model_weight, len(numbers) < runs)


def _table(pool: Pool, fused: Fused, counts: NDArray[np.int64], rule: int) -> BoxTable:
    """Close the gaps that images with fewer boxes than slots leave."""
    columns: dict[str, Any] = {
        "xyxy": fused.xyxy[rule],
        "label": fused.label[rule],
        "score": fused.score[rule],
    }
    offsets = np.concatenate([[0], np.cumsum(counts[rule])])
    rows = filled_slots(fused, rule)
    if len(rows) < fused.slots[-1]:
        columns = {name: column[rows] for name, column in columns.items()}
    return BoxTable(images=pool.images, classes=pool.classes, offsets=offsets, **columns)
