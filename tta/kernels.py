# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled merging of the boxes of one image: suppression, and views into one answer."""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled


@compiled
def suppress(
    xyxy: Array, label: NDArray[np.int32], order: NDArray[np.int64], iou: float, limit: int
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class, taken in `order`; stops at `limit` boxes.

    xyxy [K, 4], label [K], order [K] rows of falling score. Returns the rows kept, best first.
    """
    kept = np.empty(min(len(order), limit), np.int64)
    count = 0
    for row in order:
        if count == limit:
            break
        x1, y1, x2, y2 = xyxy[row, 0], xyxy[row, 1], xyxy[row, 2], xyxy[row, 3]
        own = (x2 - x1) * (y2 - y1)
        free = True
        for k in range(count):
            other = kept[k]
            if label[other] != label[row]:
                continue
            w = min(x2, xyxy[other, 2]) - max(x1, xyxy[other, 0])
            if w <= 0:
                continue
            h = min(y2, xyxy[other, 3]) - max(y1, xyxy[other, 1])
            if h <= 0:
                continue
            area = (xyxy[other, 2] - xyxy[other, 0]) * (xyxy[other, 3] - xyxy[other, 1])
            if w * h > iou * (own + area - w * h):
                free = False
                break
        if free:
            kept[count] = row
            count += 1
    return kept[:count]


@compiled
def fuse_views(
    xyxy: Array,
    score: Array,
    label: NDArray[np.int32],
    view: NDArray[np.int64],
    order: NDArray[np.int64],
    iou: float,
    crop: Array,
    crop_view: NDArray[np.int64],
    visible_px: Array,
    slack_px: float,
) -> tuple[Array, Array, NDArray[np.int32]]:
    """Weighted boxes fusion of V views of one image, judged by the views that could see a box.

    xyxy [K, 4], score, label and view [K], order [K] rows of falling score. crop [P, 4] are the
    patches of all views, crop_view [P] whose they are; a view can see a box that one of its crops
    holds (up to slack_px) and whose sqrt(area) is at least visible_px [V], all pixels of the image.
    The score is the mean over the cluster x views that found it / views that found or could see it.
    Returns boxes [C, 4], scores [C] and labels [C], in the order the clusters were opened.
    """
    rows, views = len(order), len(visible_px)
    box = np.empty((rows, 4))
    area = np.empty(rows)
    total = np.empty(rows)
    members = np.empty(rows, np.int64)
    found = np.zeros((rows, views), np.bool_)
    kind = np.empty(rows, np.int32)
    count = 0
    for row in order:
        x1, y1, x2, y2 = xyxy[row, 0], xyxy[row, 1], xyxy[row, 2], xyxy[row, 3]
        own = (x2 - x1) * (y2 - y1)
        match, highest = -1, iou
        for c in range(count):
            if kind[c] != label[row]:
                continue
            w = min(x2, box[c, 2]) - max(x1, box[c, 0])
            if w <= 0:
                continue
            h = min(y2, box[c, 3]) - max(y1, box[c, 1])
            if h <= 0:
                continue
            overlap = w * h / (own + area[c] - w * h)
            if overlap > highest:
                match, highest = c, overlap
        if match < 0:
            match = count
            count += 1
            kind[match] = label[row]
            total[match] = 0.0
            members[match] = 0
            box[match, 0], box[match, 1], box[match, 2], box[match, 3] = x1, y1, x2, y2
        total[match] += score[row]
        members[match] += 1
        found[match, view[row]] = True
        # a running mean stays finite however small the scores are
        share = score[row] / total[match] if total[match] > 0 else 0.0
        for i in range(4):
            box[match, i] += (xyxy[row, i] - box[match, i]) * share
        area[match] = (box[match, 2] - box[match, 0]) * (box[match, 3] - box[match, 1])

    fused = np.empty(count)
    sees = np.empty(views, np.bool_)
    for c in range(count):
        side = np.sqrt(area[c])
        sees[:] = found[c]
        for p in range(len(crop)):
            v = crop_view[p]
            if (
                not sees[v]
                and side >= visible_px[v]
                and box[c, 0] >= crop[p, 0] - slack_px
                and box[c, 1] >= crop[p, 1] - slack_px
                and box[c, 2] <= crop[p, 2] + slack_px
                and box[c, 3] <= crop[p, 3] + slack_px
            ):
                sees[v] = True
        fused[c] = total[c] / members[c] * found[c].sum() / sees.sum()
    return box[:count], fused, kind[:count]
