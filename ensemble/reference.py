"""ensemble-boxes behind a fence, as the compiled kernels' oracle and `--backend ensemble-boxes`.

The library ends the process on bad arguments, replaces weights of the wrong number by ones, returns
NaN for scores and weights of zero, wants coordinates of 0..1 and warns of what it repairs. So all
of that is settled before it is called, image by image.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, box_area, clip_boxes
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.ordering import ALL_ROWS, Pool
from smallobj.ensemble.suppression import suppress_runs

Rows: TypeAlias = tuple[Array, Array, NDArray[np.int32]]  # boxes, scores, labels of an image

_LEAST_SCORE = 1e-12  # instead of zero, over which the library would divide


def fuse_reference(tables: Sequence[BoxTable], config: FusionConfig | None = None) -> BoxTable:
    """Fuse as `fuse` does, by the same method of ensemble_boxes: slowly, partly in float32.

    Raises what `fuse` raises, and ValueError for a setting that the library does not know. Equal
    scores come in no fixed order.
    """
    config = config or FusionConfig()
    _require_known(config)
    weights = config.weights_of(len(tables))
    every = Pool.of(tables)
    every.require_probabilities()
    keep = suppress_runs(every, config.nms_iou_of(len(tables)))
    used = [
        (table if keep is ALL_ROWS else table.filter_rows(keep[start[0] : start[-1]]), weight)
        for table, weight, start in zip(tables, weights, every.starts, strict=True)
        if weight > 0
    ]
    pool = Pool.of([table for table, _ in used])
    weights = tuple(weight for _, weight in used)
    fused = [_fuse_image(pool, image, weights, config) for image in range(len(pool.images))]
    return BoxTable(
        images=every.images,
        classes=pool.classes,
        offsets=np.cumsum([0, *(len(score) for _, score, _ in fused)]),
        xyxy=np.concatenate([np.empty((0, 4)), *(xyxy for xyxy, _, _ in fused)]),
        score=np.concatenate([np.empty(0), *(score for _, score, _ in fused)]),
        label=np.concatenate([np.empty(0, np.int32), *(label for _, _, label in fused)]),
    )


def _require_known(config: FusionConfig) -> None:
    default = FusionConfig()
    for name in ("class_agnostic", "shift_px", "min_votes", "models"):
        if getattr(config, name) != getattr(default, name):
            raise ValueError(f"ensemble-boxes knows no {name}, it was {getattr(config, name)}")


def _fuse_image(pool: Pool, image: int, weights: tuple[float, ...], config: FusionConfig) -> Rows:
    least = _LEAST_SCORE if config.method in ("wbf", "nmw") else 0.0
    boxes, scores, labels = zip(*_usable_rows(pool, image, config.skip, least), strict=True)
    every = np.concatenate(boxes)
    if not len(every):
        return np.empty((0, 4)), np.empty(0), np.empty(0, np.int32)
    low = np.minimum(every[:, :2].min(axis=0), 0)
    size = np.array([pool.images.width[image], pool.images.height[image]], np.float64)
    span = np.where(size > 0, size, every[:, 2:].max(axis=0)) - low
    shift, scale = np.tile(low, 2), np.tile(span, 2)
    inside = [np.clip((xyxy - shift) / scale, 0, 1) for xyxy in boxes]
    fused, score, label = _call(inside, list(scores), list(labels), weights, config)
    best = np.argsort(-score, kind="stable")[: config.max_detections]
    return fused[best] * scale + shift, score[best], label[best]


def _call(
    boxes: list[Array],
    scores: list[Array],
    labels: list[NDArray[np.int32]],
    weights: tuple[float, ...],
    config: FusionConfig,
) -> Rows:
    """The library's function for the method; its lists of arguments are ours, it changes them."""
    import ensemble_boxes  # noqa: PLC0415 - a quarter of a second

    arguments: dict[str, Any] = {"iou_thr": config.iou, "weights": list(weights)}
    if config.method == "wbf":
        arguments |= {
            "skip_box_thr": 0,
            "conf_type": config.conf_type,
            "allows_overflow": config.allows_overflow,
        }
        return ensemble_boxes.weighted_boxes_fusion(boxes, scores, labels, **arguments)
    if config.method == "nmw":
        return ensemble_boxes.non_maximum_weighted(boxes, scores, labels, **arguments)
    # without weights it leaves scores as they are, with weights it divides by their sum
    arguments["weights"] = None if config.weights is None else list(weights)
    if config.method == "nms":
        return ensemble_boxes.nms(boxes, scores, labels, **arguments)
    shares = np.ones(len(boxes)) if config.weights is None else np.divide(weights, sum(weights))
    scores = [score * share for score, share in zip(scores, shares, strict=True)]
    rows = np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels)
    return _soft_nms(*rows, config)


def _soft_nms(xyxy: Array, score: Array, label: NDArray[np.int32], config: FusionConfig) -> Rows:
    """The library's soft suppression with the scores that it lowered.

    Its public function chooses the boxes by them, and returns the scores from before.
    """
    from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float  # noqa: PLC0415 - see above

    method = 1 if config.soft == "linear" else 2
    rows, lowered = [], []
    for own in (np.flatnonzero(label == c) for c in np.unique(label)):
        scores = score[own]  # changed by the call, and brought into the order of what it returns
        keep = cpu_soft_nms_float(xyxy[own], scores, config.iou, config.sigma, config.skip, method)
        rows.append(own[keep])
        lowered.append(scores[scores > config.skip])
    kept = np.concatenate(rows)
    return xyxy[kept], np.concatenate(lowered), label[kept]


def _usable_rows(pool: Pool, image: int, skip: float, least: float) -> list[Rows]:
    width, height = float(pool.images.width[image]), float(pool.images.height[image])
    rows = []
    for start in pool.starts:
        own = slice(start[image], start[image + 1])
        xyxy = clip_boxes(pool.xyxy[own], width, height)
        score = pool.score[own]
        keep = (score >= skip) & (box_area(xyxy) > 0)
        rows.append((xyxy[keep], np.maximum(score[keep], least), pool.label[own][keep]))
    return rows
