"""ensemble-boxes behind a fence, as the compiled kernels' oracle and `--backend ensemble-boxes`.

The library ends the process on bad arguments, replaces weights of the wrong number by ones, returns
NaN for scores and weights of zero, wants coordinates of 0..1 and warns of what it repairs. So all
of that is settled before it is called, image by image.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, box_area, clip_boxes
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.ordering import Pool

Rows: TypeAlias = tuple[Array, Array, NDArray[np.int32]]  # boxes, scores, labels of an image

_LEAST_SCORE = 1e-12  # instead of zero, over which the library would divide


def fuse_reference(tables: Sequence[BoxTable], config: FusionConfig | None = None) -> BoxTable:
    """Fuse as `fuse` does, by ensemble_boxes.weighted_boxes_fusion: slowly, and in float32.

    Raises what `fuse` raises. Equal scores come in no fixed order.
    """
    config = config or FusionConfig()
    weights = config.weights_of(len(tables))
    used = [table for table, weight in zip(tables, weights, strict=True) if weight > 0]
    weights = tuple(weight for weight in weights if weight > 0)
    pool = Pool.of(used)
    fused = [_fuse_image(pool, image, weights, config) for image in range(len(pool.images))]
    return BoxTable(
        images=pool.images,
        classes=pool.classes,
        offsets=np.cumsum([0, *(len(score) for _, score, _ in fused)]),
        xyxy=np.concatenate([np.empty((0, 4)), *(xyxy for xyxy, _, _ in fused)]),
        score=np.concatenate([np.empty(0), *(score for _, score, _ in fused)]),
        label=np.concatenate([np.empty(0, np.int32), *(label for _, _, label in fused)]),
    )


def _fuse_image(pool: Pool, image: int, weights: tuple[float, ...], config: FusionConfig) -> Rows:
    from ensemble_boxes import weighted_boxes_fusion  # noqa: PLC0415 - a quarter of a second

    boxes, scores, labels = zip(*_usable_rows(pool, image, config.skip), strict=True)
    every = np.concatenate(boxes)
    if not len(every):
        return np.empty((0, 4)), np.empty(0), np.empty(0, np.int32)
    low = np.minimum(every[:, :2].min(axis=0), 0)
    size = np.array([pool.images.width[image], pool.images.height[image]], np.float64)
    span = np.where(size > 0, size, every[:, 2:].max(axis=0)) - low
    shift, scale = np.tile(low, 2), np.tile(span, 2)
    fused, score, label = weighted_boxes_fusion(
        [np.clip((xyxy - shift) / scale, 0, 1) for xyxy in boxes],
        scores,
        labels,
        weights=list(weights),
        iou_thr=config.iou,
        skip_box_thr=0,
        conf_type=config.conf_type,
        allows_overflow=config.allows_overflow,
    )
    kept = slice(config.max_detections)
    return fused[kept] * scale + shift, score[kept], label[kept]


def _usable_rows(pool: Pool, image: int, skip: float) -> list[Rows]:
    width, height = float(pool.images.width[image]), float(pool.images.height[image])
    rows = []
    for start in pool.starts:
        own = slice(start[image], start[image + 1])
        xyxy = clip_boxes(pool.xyxy[own], width, height)
        score = pool.score[own]
        keep = (score >= skip) & (box_area(xyxy) > 0)
        rows.append((xyxy[keep], np.maximum(score[keep], _LEAST_SCORE), pool.label[own][keep]))
    return rows
