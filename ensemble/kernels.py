# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""The compiled kernels of the room, all in this file: the cache of one is renewed with its file.

Weighted boxes fusion follows Solovyev, Wang, Gabruseva, "Weighted boxes fusion", arXiv:1910.13302;
the order of its steps is that of ensemble-boxes 1.0.9, so that the two agree.
"""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled

_INSERTION = 24  # shorter stretches are sorted by insertion, longer ones merged
_MAX, _BOX_AND_MODEL_AVG, _ABSENT_MODEL_AWARE_AVG = 1, 2, 3  # places in CONFIDENCE_RULES
_TOTAL, _BOXES, _BOX_WEIGHTS, _RUN_WEIGHTS, _HIGHEST = range(5)  # what is summed of a cluster


@compiled
def order_images(
    first: int,
    last: int,
    starts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    score: Array,
    label: NDArray[np.int32],
    weights: Array,
    skip: float,
    classes: int,
    longest: int,
    out_row: NDArray[np.int64],
    out_run: NDArray[np.int32],
    out_key: Array,
    out_counts: NDArray[np.int64],
) -> None:
    """Order the rows of images first to last by class, then score x weight falling, run, row.

    The columns are those of a `Pool`, the results those of an `Order`. Tables of weight 0 are left
    out. longest: most rows an image.
    """
    row = np.empty(longest, np.int64)
    run = np.empty(longest, np.int32)
    key = np.empty(longest)
    order = np.empty(longest, np.int64)
    spare = np.empty(longest, np.int64)
    ends = np.empty(classes, np.int64)
    for image in range(first, last):
        ends[:] = 0
        count = 0
        for r in range(len(weights)):
            if weights[r] == 0:
                continue
            for m in range(starts[r, image], starts[r, image + 1]):
                if score[m] >= skip:
                    row[count] = m
                    run[count] = r
                    key[count] = score[m] * weights[r]
                    ends[label[m]] += 1
                    count += 1
        low = 0
        for c in range(classes):
            low, ends[c] = low + ends[c], low
        for k in range(count):
            c = label[row[k]]
            order[ends[c]] = k
            ends[c] += 1
        low = 0
        for c in range(classes):
            _sort_falling(key, order, spare, low, ends[c])
            low = ends[c]
        place = offsets[image]
        for k in range(count):
            out_row[place + k] = row[order[k]]
            out_run[place + k] = run[order[k]]
            out_key[place + k] = key[order[k]]
        out_counts[image] = count


@compiled
def fuse_images(
    first: int,
    last: int,
    # an Order
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    row: NDArray[np.int64],
    run: NDArray[np.int32],
    key: Array,
    # the columns of its Pool
    xyxy: Array,
    label: NDArray[np.int32],
    score: Array,
    width: NDArray[np.int32],
    height: NDArray[np.int32],
    # settings
    weights: Array,
    iou: float,
    skip: float,
    rules: NDArray[np.int64],
    overflow: bool,
    cap: int,
    # results
    slots: NDArray[np.int64],
    out_xyxy: Array,
    out_label: NDArray[np.int32],
    out_score: Array,
    out_counts: NDArray[np.int64],
) -> None:
    """Fuse images first to last under K confidence rules at once.

    slots [N + 1]: image i fills rows slots[i] onward of out_xyxy [K, S, 4], out_label and
    out_score [K, S]; out_counts [K, N] says how many. cap: most boxes an image.
    """
    longest = 0
    for image in range(first, last):
        longest = max(longest, counts[image])
    fused = np.empty((longest, 5))  # corners and area of the fused boxes of an image
    sums = np.empty((longest, 5))
    seen = np.empty((longest, len(weights)), np.bool_)  # runs that have a box in a cluster
    fused_label = np.empty(longest, np.int32)
    confidence = np.empty(longest)
    best = np.empty(longest, np.int64)
    spare = np.empty(longest, np.int64)
    whole, heaviest, runs = weights.sum(), weights.max(), (weights > 0).sum()

    for image in range(first, last):
        clusters = 0
        begin = 0  # first cluster of the class at hand
        current = -1
        for place in range(offsets[image], offsets[image] + counts[image]):
            m = row[place]
            if score[m] < skip:
                continue
            x1, y1 = _cut(xyxy[m, 0], width[image]), _cut(xyxy[m, 1], height[image])
            x2, y2 = _cut(xyxy[m, 2], width[image]), _cut(xyxy[m, 3], height[image])
            if x2 <= x1 or y2 <= y1:
                continue
            if label[m] != current:
                current = label[m]
                begin = clusters
            match = _highest_overlap(fused, begin, clusters, x1, y1, x2, y2, iou)
            if match < 0:
                match = clusters
                clusters += 1
                _put(fused, match, x1, y1, x2, y2)
                fused_label[match] = current
                sums[match] = 0
                seen[match] = False
            k, r = key[place], run[place]
            _count(sums, match, k, weights[r], seen[match, r])
            seen[match, r] = True
            if sums[match, _BOXES] > 1 and sums[match, _TOTAL] > 0:
                _move(fused, match, x1, y1, x2, y2, k / sums[match, _TOTAL])
        for j in range(len(rules)):
            for c in range(clusters):
                best[c] = c
                confidence[c] = _confidence(rules[j], overflow, sums, c, runs, whole, heaviest)
            _sort_falling(confidence, best, spare, 0, clusters)
            out_counts[j, image] = min(clusters, cap)
            for k in range(out_counts[j, image]):
                c, slot = best[k], slots[image] + k
                out_score[j, slot] = confidence[c]
                out_label[j, slot] = fused_label[c]
                out_xyxy[j, slot, 0] = _cut(fused[c, 0], width[image])
                out_xyxy[j, slot, 1] = _cut(fused[c, 1], height[image])
                out_xyxy[j, slot, 2] = _cut(fused[c, 2], width[image])
                out_xyxy[j, slot, 3] = _cut(fused[c, 3], height[image])


@compiled
def suppress_images(
    first: int,
    last: int,
    offsets: NDArray[np.int64],
    row: NDArray[np.int64],
    xyxy: Array,
    label: NDArray[np.int32],
    iou: float,
    keep: NDArray[np.bool_],
) -> None:
    """Mark in keep [M] the boxes that greedy suppression leaves, of images first to last.

    row [M]: the rows of image i, ordered by class and falling score, from offsets[i] on.
    """
    longest = 0
    for image in range(first, last):
        longest = max(longest, offsets[image + 1] - offsets[image])
    kept = np.empty((longest, 5))  # corners and area
    for image in range(first, last):
        count = 0
        current = -1
        for place in range(offsets[image], offsets[image + 1]):
            m = row[place]
            if label[m] != current:
                current = label[m]
                count = 0
            x1, y1, x2, y2 = xyxy[m, 0], xyxy[m, 1], xyxy[m, 2], xyxy[m, 3]
            if _highest_overlap(kept, 0, count, x1, y1, x2, y2, iou) < 0:
                keep[m] = True
                _put(kept, count, x1, y1, x2, y2)
                count += 1


@compiled
def _highest_overlap(
    boxes: Array, begin: int, end: int, x1: float, y1: float, x2: float, y2: float, iou: float
) -> int:
    """Which of boxes[begin:end] overlaps one box most, by IoU above `iou`; -1 where none does."""
    own = (x2 - x1) * (y2 - y1)
    match = -1
    highest = iou
    for c in range(begin, end):
        w = min(x2, boxes[c, 2]) - max(x1, boxes[c, 0])
        if w <= 0:
            continue
        h = min(y2, boxes[c, 3]) - max(y1, boxes[c, 1])
        if h <= 0:
            continue
        inner = w * h
        union = boxes[c, 4] + own - inner
        if inner > highest * union:
            highest = inner / union
            match = c
    return match


@compiled
def _put(boxes: Array, place: int, x1: float, y1: float, x2: float, y2: float) -> None:
    boxes[place, 0] = x1
    boxes[place, 1] = y1
    boxes[place, 2] = x2
    boxes[place, 3] = y2
    boxes[place, 4] = (x2 - x1) * (y2 - y1)


@compiled
def _count(sums: Array, cluster: int, key: float, weight: float, run_seen: bool) -> None:
    sums[cluster, _TOTAL] += key
    sums[cluster, _BOXES] += 1
    sums[cluster, _BOX_WEIGHTS] += weight
    sums[cluster, _HIGHEST] = max(sums[cluster, _HIGHEST], key)
    if not run_seen:
        sums[cluster, _RUN_WEIGHTS] += weight


@compiled
def _move(
    fused: Array, cluster: int, x1: float, y1: float, x2: float, y2: float, share: float
) -> None:
    """Move a fused box towards one more box; a running mean stays finite at the lowest scores."""
    _put(
        fused,
        cluster,
        fused[cluster, 0] + (x1 - fused[cluster, 0]) * share,
        fused[cluster, 1] + (y1 - fused[cluster, 1]) * share,
        fused[cluster, 2] + (x2 - fused[cluster, 2]) * share,
        fused[cluster, 3] + (y2 - fused[cluster, 3]) * share,
    )


@compiled
def _confidence(
    rule: int,
    overflow: bool,
    sums: Array,
    cluster: int,
    runs: int,
    whole: float,
    heaviest: float,
) -> float:
    """Score of a cluster; whole: sum of all runs' weights, heaviest: the largest of them."""
    if rule == _MAX:
        return sums[cluster, _HIGHEST] / heaviest
    if rule == _BOX_AND_MODEL_AVG:
        return (
            sums[cluster, _TOTAL]
            / sums[cluster, _BOX_WEIGHTS]
            * min(sums[cluster, _RUN_WEIGHTS] / whole, 1.0)
        )
    if rule == _ABSENT_MODEL_AWARE_AVG:
        return sums[cluster, _TOTAL] / (
            sums[cluster, _BOX_WEIGHTS] + max(whole - sums[cluster, _RUN_WEIGHTS], 0.0)
        )
    if overflow:
        return sums[cluster, _TOTAL] / whole
    return (
        sums[cluster, _TOTAL]
        / sums[cluster, _BOXES]
        * min(float(runs), sums[cluster, _BOXES])
        / whole
    )


@compiled
def _cut(coordinate: float, limit: int) -> float:
    """A coordinate within its image; a limit of 0 is unknown and cuts nothing."""
    return min(max(coordinate, 0.0), float(limit)) if limit > 0 else coordinate


@compiled
def _sort_falling(
    key: Array, order: NDArray[np.int64], spare: NDArray[np.int64], low: int, high: int
) -> None:
    """Sort order[low:high] so that key[order] falls; equal keys keep their order."""
    for start in range(low, high, _INSERTION):
        for i in range(start + 1, min(start + _INSERTION, high)):
            moved = order[i]
            j = i
            while j > start and key[order[j - 1]] < key[moved]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = moved
    width = _INSERTION
    while width < high - low:
        for start in range(low, high - width, 2 * width):
            _merge_falling(key, order, spare, start, start + width, min(start + 2 * width, high))
        width *= 2


@compiled
def _merge_falling(
    key: Array,
    order: NDArray[np.int64],
    spare: NDArray[np.int64],
    low: int,
    middle: int,
    high: int,
) -> None:
    if key[order[middle - 1]] >= key[order[middle]]:
        return
    spare[low:middle] = order[low:middle]
    a, b = low, middle
    for k in range(low, high):
        if a == middle:
            break
        if b < high and key[order[b]] > key[spare[a]]:
            order[k] = order[b]
            b += 1
        else:
            order[k] = spare[a]
            a += 1
