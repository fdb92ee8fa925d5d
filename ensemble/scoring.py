"""The score of many fusion settings on the same truth, over all images and parts of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.boxes.compiled import cpu_count
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import fuse_ordered, relative_weights
from smallobj.ensemble.ordering import Pool, order_pool
from smallobj.ensemble.suppression import suppress_runs
from smallobj.evaluation import PreparedTruth, match, mean_precision, prepare_truth, thresholds_of


def score_settings(
    truth: BoxTable,
    tables: Sequence[BoxTable],
    settings: Sequence[FusionConfig],
    *,
    metric: str = "map50",
    parts: NDArray[np.int64] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Array:
    """Score every setting on every part of the images; [S, P], NaN where a part has no true box.

    parts [P, N]: how often each image counts, 0 and 1 choose a part; None: all images. The tables
    share images and classes with the truth. Settings of one weights and IoU that stand side by
    side share their work. on_progress is told how many settings were done, from any thread.
    """
    if parts is None:
        parts = np.ones((1, len(truth.images)), np.int64)
    prepared = prepare_truth(truth)
    groups = [
        list(group)
        for _, group in groupby(
            enumerate(settings), key=lambda entry: _ordering(entry[1], len(tables))
        )
    ]
    scores = np.empty((len(settings), len(parts)))
    pool = Pool.of(tables)
    pool.require_probabilities()

    def score_group(group: list[tuple[int, FusionConfig]]) -> None:
        weights, nms_iou, agnostic = _ordering(group[0][1], len(tables))
        keep = suppress_runs(pool, nms_iou, agnostic=agnostic, threads=1)
        skip = min(config.skip for _, config in group)
        order = order_pool(pool, weights, skip, keep=keep, agnostic=agnostic, threads=1)
        for _, same in groupby(group, key=lambda entry: replace(entry[1], conf_type="avg")):
            places, configs = zip(*same, strict=True)
            rules = [config.conf_type for config in configs]
            fused = fuse_ordered(pool, order, configs[0], rules, threads=1)
            for place, table in zip(places, fused, strict=True):
                scores[place] = _score_parts(prepared, table, metric, parts)
            if on_progress is not None:
                on_progress(len(places))

    with ThreadPoolExecutor(cpu_count()) as threads:
        for _ in threads.map(score_group, groups):
            pass
    return scores


def _ordering(config: FusionConfig, runs: int) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """What of a setting decides in which order boxes are taken, but for skip."""
    return relative_weights(config, runs), config.nms_iou_of(runs), config.class_agnostic


def _score_parts(
    truth: PreparedTruth, predictions: BoxTable, metric: str, parts: NDArray[np.int64]
) -> list[float]:
    # the fused boxes are at or under the cap already
    matches = match(truth, predictions, thresholds_of(metric), max_detections=None, threads=1)
    return [mean_precision(matches, weight=part) for part in parts]
