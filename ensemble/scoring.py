"""The score of many fusion settings on the same truth, over all images and parts of them.

What a setting changes decides what is done again. Weights, suppression inside the runs and whether
classes are apart give the order of the boxes; method, IoU, skip, shift and models the clusters; the
confidence rule only the scores of the same clusters; the parts only how often a match counts.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.boxes.compiled import cpu_count
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import fuse_ordered, relative_weights
from smallobj.ensemble.ordering import Pool, order_pool
from smallobj.ensemble.suppression import suppress_runs
from smallobj.evaluation import PreparedTruth, match, mean_precisions, prepare_truth, thresholds_of

Numbered: TypeAlias = tuple[int, FusionConfig]
_MOST_AT_ONCE = 16  # settings of one order that a thread takes, so that no thread waits for long


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

    parts [P, N]: how often each image counts, 0 and 1 choose a part, a draw with replacement is a
    bootstrap sample; None: all images. The tables share images and classes with the truth. Settings
    share the work that they have in common, in whatever order they are given. on_progress is told
    how many settings were done, from any thread.

    Raises what `fuse` raises, and ValueError for parts that are no whole numbers.
    """
    if parts is None:
        parts = np.ones((1, len(truth.images)), np.int64)
    prepared = prepare_truth(truth)
    scores = np.empty((len(settings), len(parts)))
    pool = Pool.of(tables)
    pool.require_probabilities()

    def score_group(group: list[Numbered]) -> None:
        weights, nms_iou, agnostic = _ordering(group[0][1], len(tables))
        keep = suppress_runs(pool, nms_iou, agnostic=agnostic, threads=1)
        skip = min(config.skip for _, config in group)
        order = order_pool(pool, weights, skip, keep=keep, agnostic=agnostic, threads=1)
        for same in _grouped(group, _clustering):
            rules = [config.conf_type for _, config in same]
            fused = fuse_ordered(pool, order, same[0][1], rules, threads=1)
            for (place, _), table in zip(same, fused, strict=True):
                scores[place] = _score_parts(prepared, table, metric, parts)
            if on_progress is not None:
                on_progress(len(same))

    groups = [
        group[start : start + _MOST_AT_ONCE]
        for group in _grouped(
            list(enumerate(settings)), lambda config: _ordering(config, len(tables))
        )
        for start in range(0, len(group), _MOST_AT_ONCE)
    ]
    with ThreadPoolExecutor(cpu_count()) as threads:
        for _ in threads.map(score_group, groups):
            pass
    return scores


def _grouped(
    settings: list[Numbered], key: Callable[[FusionConfig], object]
) -> list[list[Numbered]]:
    """The settings by a key, wherever they stand; within a key those alike stand side by side."""
    groups: dict[object, list[Numbered]] = {}
    for number, config in settings:
        groups.setdefault(key(config), []).append((number, config))
    return [
        sorted(group, key=lambda entry: repr(_clustering(entry[1]))) for group in groups.values()
    ]


def _ordering(config: FusionConfig, runs: int) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """What of a setting decides in which order boxes are taken, but for skip."""
    return relative_weights(config, runs), config.nms_iou_of(runs), config.class_agnostic


def _clustering(config: FusionConfig) -> FusionConfig:
    """What of a setting decides which boxes join: all but the confidence rule."""
    return replace(config, conf_type="avg")


def _score_parts(
    truth: PreparedTruth, predictions: BoxTable, metric: str, parts: NDArray[np.int64]
) -> Array:
    # the fused boxes are at or under the cap already
    matches = match(truth, predictions, thresholds_of(metric), max_detections=None, threads=1)
    return mean_precisions(matches, parts, threads=1)
