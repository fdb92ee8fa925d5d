"""Boxes of patches into a view, boxes of views into one answer for an image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.tta.kernels import fuse_views, suppress
from smallobj.tta.view import EDGE_PX, Patch

VISIBLE_PX = 4.0  # what is smaller than a cell of the finest level, in a patch, is not seen there


class Boxes(NamedTuple):
    """Scored boxes of one patch or image, in its pixels."""

    xyxy: Array  # [K, 4]
    score: Array  # [K], 0..1
    label: NDArray[np.int32]  # [K]

    @classmethod
    def empty(cls) -> "Boxes":
        """No box."""
        return cls(np.empty((0, 4)), np.empty(0), np.empty(0, np.int32))

    def take(self, rows: NDArray) -> "Boxes":
        """The boxes at `rows`, numbers or a mask."""
        return Boxes(self.xyxy[rows], self.score[rows], self.label[rows])


def merge(
    looks: Sequence[Sequence[Patch]],
    found: Sequence[Sequence[Boxes]],
    *,
    width: int,
    height: int,
    nms_iou: float,
    max_boxes: int,
) -> Boxes:
    """One answer for an image of `width` x `height` pixels, best first, at most `max_boxes`.

    looks: the patches of each view, as `looks()` gives them; found: the candidates of each patch,
    before suppression, in pixels of the patch. A single view is left as suppression made it.
    """
    views = [
        _merge_patches(patches, boxes, (width, height), nms_iou, max_boxes)
        for patches, boxes in zip(looks, found, strict=True)
    ]
    return views[0] if len(views) == 1 else _merge_views(looks, views, nms_iou, max_boxes)


def _merge_patches(
    patches: Sequence[Patch],
    found: Sequence[Boxes],
    image_size: tuple[int, int],
    iou: float,
    limit: int,
) -> Boxes:
    """The boxes of one view of an image, class-wise suppressed, best first."""
    parts = [
        _suppressed(_on_image(patch, boxes, image_size), iou, limit)
        for patch, boxes in zip(patches, found, strict=True)
        if len(boxes.score)
    ]
    if not parts:
        return Boxes.empty()
    return parts[0] if len(parts) == 1 else _suppressed(_joined(parts), iou, limit)


def _on_image(patch: Patch, boxes: Boxes, image_size: tuple[int, int]) -> Boxes:
    """Boxes of a patch in pixels of the image: none in the padding, none cut by an inner edge."""
    height, width = patch.size
    clipped = np.clip(boxes.xyxy, 0.0, (width, height, width, height))
    back = np.clip(patch.boxes_back(clipped), 0.0, np.array(image_size * 2, np.float64))
    keep: NDArray[np.bool_] = np.all(back[:, 2:] > back[:, :2], axis=1)
    if any(patch.overlap):
        keep &= ~patch.seen_whole_next_door(back)
    boxes = Boxes(np.ascontiguousarray(back), boxes.score, boxes.label)
    return boxes if keep.all() else boxes.take(keep)


def _merge_views(
    looks: Sequence[Sequence[Patch]], views: Sequence[Boxes], iou: float, limit: int
) -> Boxes:
    boxes = _joined(views)
    xyxy, score, label = fuse_views(
        *boxes,
        view=_repeat([len(view.score) for view in views]),
        order=_falling(boxes.score),
        iou=iou,
        crop=np.array([patch.crop for patches in looks for patch in patches], np.float64),
        crop_view=_repeat([len(patches) for patches in looks]),
        visible_px=np.array([VISIBLE_PX / min(patches[0].scale) for patches in looks]),
        slack_px=EDGE_PX,
    )
    return Boxes(xyxy, score, label).take(_falling(score)[:limit])


def _suppressed(boxes: Boxes, iou: float, limit: int) -> Boxes:
    return boxes.take(suppress(boxes.xyxy, boxes.label, _falling(boxes.score), iou, limit))


def _falling(score: Array) -> NDArray[np.int64]:
    return np.argsort(-score, kind="stable")


def _repeat(counts: list[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


def _joined(parts: Sequence[Boxes]) -> Boxes:
    xyxy, score, label = zip(*parts, strict=True)
    return Boxes(np.concatenate(xyxy), np.concatenate(score), np.concatenate(label))
