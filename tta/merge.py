"""Boxes of patches into a view, boxes of views into one answer for an image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, Classes, Images
from smallobj.ensemble import FusionConfig, fuse
from smallobj.tta.kernels import fuse_views, suppress
from smallobj.tta.view import EDGE_PX, Patch

MERGES = ("wbf", "nms", "nmw")  # how the views of a model become one answer
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


class Candidates(NamedTuple):
    """What all views of one image found, in its pixels, before any suppression."""

    boxes: Boxes
    view: NDArray[np.int32]  # [K], position of the look (as `looks` gives them) it was seen in


def merge(
    looks: Sequence[Sequence[Patch]],
    found: Sequence[Sequence[Boxes]],
    *,
    width: int,
    height: int,
    nms_iou: float,
    max_boxes: int,
    method: str = "wbf",
) -> Boxes:
    """One answer for an image of `width` x `height` pixels, best first, at most `max_boxes`.

    looks: the patches of each view, as `looks()` gives them; found: the candidates of each patch,
    before suppression, in pixels of the patch. See `merge_candidates`.
    """
    candidates = gather(looks, found, width=width, height=height)
    return merge_candidates(looks, candidates, nms_iou=nms_iou, max_boxes=max_boxes, method=method)


def gather(
    looks: Sequence[Sequence[Patch]],
    found: Sequence[Sequence[Boxes]],
    *,
    width: int,
    height: int,
) -> Candidates:
    """The candidates of all patches in pixels of the image, but what an inner edge cuts."""
    parts = [Boxes.empty()]
    views = [0]
    for view, (patches, boxes) in enumerate(zip(looks, found, strict=True)):
        for patch, own in zip(patches, boxes, strict=True):
            if len(own.score):
                parts.append(_on_image(patch, own, (width, height)))
                views.append(view)
    counts = [len(part.score) for part in parts]
    return Candidates(_joined(parts), np.repeat(np.array(views, np.int32), counts))


def merge_candidates(
    looks: Sequence[Sequence[Patch]],
    candidates: Candidates,
    *,
    nms_iou: float,
    max_boxes: int,
    method: str = "wbf",
) -> Boxes:
    """One answer for an image, best first, at most `max_boxes`; method is one of MERGES.

    A single view is suppressed class by class and nothing else. Of equal scores the box whose
    corners are the lower numbers comes first, as in `smallobj.ensemble`.
    """
    if method not in MERGES:
        raise ValueError(f"unknown way to merge {method!r}; known: {', '.join(MERGES)}")
    boxes, view = candidates
    if len(looks) == 1 or method == "nms":
        return suppress_boxes(boxes, nms_iou, max_boxes)
    views = [
        suppress_boxes(boxes.take(view == number), nms_iou, max_boxes)
        for number in range(len(looks))
    ]
    return merge_views(looks, views, nms_iou=nms_iou, max_boxes=max_boxes, method=method)


def merge_views(
    looks: Sequence[Sequence[Patch]],
    views: Sequence[Boxes],
    *,
    nms_iou: float,
    max_boxes: int,
    method: str,
) -> Boxes:
    """The second half of `merge_candidates` for several views, each suppressed by itself before.

    method: wbf or nmw; nms suppresses the candidates of all views as those of one.
    """
    if method == "nmw":
        return _weighted_by_overlap(views, nms_iou, max_boxes)
    return _fused_views(looks, views, nms_iou, max_boxes)


def suppress_boxes(boxes: Boxes, nms_iou: float, max_boxes: int) -> Boxes:
    """The boxes of a view after suppression class by class, best first, at most `max_boxes`."""
    return boxes.take(suppress(boxes.xyxy, boxes.label, _falling(boxes), nms_iou, max_boxes))


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


def _fused_views(
    looks: Sequence[Sequence[Patch]], views: Sequence[Boxes], iou: float, limit: int
) -> Boxes:
    boxes = _joined(views)
    xyxy, score, label = fuse_views(
        *boxes,
        view=_repeat([len(view.score) for view in views]),
        order=_falling(boxes),
        iou=iou,
        crop=np.array([patch.crop for patches in looks for patch in patches], np.float64),
        crop_view=_repeat([len(patches) for patches in looks]),
        visible_px=np.array([VISIBLE_PX / min(patches[0].scale) for patches in looks]),
        slack_px=EDGE_PX,
    )
    fused = Boxes(xyxy, score, label)
    return fused.take(_falling(fused)[:limit])


def _weighted_by_overlap(views: Sequence[Boxes], iou: float, limit: int) -> Boxes:
    """Non-maximum weighted: the mean of what overlaps the best box, which keeps its score."""
    classes = 1 + max(int(view.label.max(initial=0)) for view in views)
    names = Classes.of([str(label) for label in range(classes)])
    tables = [
        BoxTable(
            images=Images.of(["image"]),
            classes=names,
            offsets=np.array([0, len(view.score)]),
            xyxy=view.xyxy,
            label=view.label,
            score=view.score,
        )
        for view in views
    ]
    config = FusionConfig(method="nmw", iou=iou, skip=0.0, max_detections=limit)
    fused = fuse(tables, config)
    assert fused.score is not None
    return Boxes(fused.xyxy, fused.score, fused.label)


def _falling(boxes: Boxes) -> NDArray[np.int64]:
    """Rows by falling score, then rising corners."""
    order = np.argsort(-boxes.score, kind="stable")
    score = boxes.score[order]
    if not (score[1:] == score[:-1]).any():
        return order
    return np.lexsort((*boxes.xyxy.T[::-1], -boxes.score))


def _repeat(counts: list[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


def _joined(parts: Sequence[Boxes]) -> Boxes:
    xyxy, score, label = zip(*parts, strict=True)
    return Boxes(np.concatenate(xyxy), np.concatenate(score), np.concatenate(label))
