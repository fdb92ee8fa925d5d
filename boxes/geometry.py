"""Arithmetic of axis-aligned boxes; `xyxy` in any one unit, corners top-left and bottom-right."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def xywh_to_xyxy(boxes_xywh: Array) -> Array:
    """Corners of boxes given as left, top, width, height; [..., 4] to [..., 4]."""
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes_xyxy: Array) -> Array:
    """Left, top, width, height of boxes given by their corners; [..., 4] to [..., 4]."""
    return np.concatenate([boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]], axis=-1)


def cxcywh_norm_to_xyxy(
    boxes_cxcywh_norm: Array, width: Array | float, height: Array | float
) -> Array:
    """Pixel corners of boxes given by centre and size as fractions of the image.

    boxes_cxcywh_norm [M, 4]; width and height in pixels, one number or [M].
    """
    centre, half = boxes_cxcywh_norm[..., :2], boxes_cxcywh_norm[..., 2:] / 2
    size = np.stack(np.broadcast_arrays(width, height), axis=-1)
    return np.concatenate([(centre - half) * size, (centre + half) * size], axis=-1)


def xyxy_to_cxcywh_norm(boxes_xyxy: Array, width: Array | float, height: Array | float) -> Array:
    """Centre and size as fractions of the image, of boxes given by their pixel corners.

    boxes_xyxy [M, 4]; width and height in pixels, one number or [M], above zero.
    """
    size = np.stack(np.broadcast_arrays(width, height), axis=-1)
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=-1)


def box_area(boxes_xyxy: Array) -> Array:
    """Area of each box, 0 where a side is not positive; [..., 4] to [...]."""
    sides = np.clip(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0, None)
    return sides[..., 0] * sides[..., 1]


def iou_matrix(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Intersection over union of every pair.

    a_xyxy [N, 4], b_xyxy [M, 4], same unit. Returns [N, M] in 0..1; 0 where a box has no area.
    """
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    intersection = sides[..., 0] * sides[..., 1]
    union = box_area(a_xyxy)[:, None] + box_area(b_xyxy)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def clip_boxes(boxes_xyxy: Array, width: Array | float, height: Array | float) -> Array:
    """Boxes cut at the border of their image.

    boxes_xyxy [M, 4]; width and height in pixels, one number or [M]; 0 means unknown: not cut.
    """
    size = np.stack(np.broadcast_arrays(width, height), axis=-1).astype(np.float64)
    limit = np.where(size > 0, size, np.inf)
    low = np.where(size > 0, 0.0, -np.inf)
    limit, low = np.concatenate([limit, limit], axis=-1), np.concatenate([low, low], axis=-1)
    return np.clip(boxes_xyxy, low, limit)
