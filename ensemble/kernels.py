"""The compiled kernels of the room, all in this file: the cache of one is renewed with its file.

Weighted boxes fusion follows Solovyev, Wang, Gabruseva, "Weighted boxes fusion", arXiv:1910.13302;
the order of its steps is that of ensemble-boxes 1.0.9, so that the two agree.
"""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled

_INSERTION = 24  # shorter stretches are sorted by insertion, longer ones merged
AVG, MAX, BOX_AND_MODEL_AVG, ABSENT_MODEL_AWARE_AVG = range(4)  # as in CONFIDENCE_RULES


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
            sort_falling(key, order, spare, low, ends[c])
            low = ends[c]
        place = offsets[image]
        for k in range(count):
            out_row[place + k] = row[order[k]]
            out_run[place + k] = run[order[k]]
            out_key[place + k] = key[order[k]]
        out_counts[image] = count


@compiled
def sort_falling(
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
    a = low
    b = middle
    for k in range(low, high):
        if a == middle:
            break
        if b < high and key[order[b]] > key[spare[a]]:
            order[k] = order[b]
            b += 1
        else:
            order[k] = spare[a]
            a += 1


@compiled
def fuse_images(
    first: int,
    last: int,
    # rows in order
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    row: NDArray[np.int64],
    run: NDArray[np.int32],
    key: Array,
    # columns of the pool
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
    box = np.empty((longest, 4))  # the fused boxes of an image
    area = np.empty(longest)
    sums = np.empty((longest, 5))  # see _confidence
    seen = np.empty((longest, len(weights)), np.bool_)
    cluster_label = np.empty(longest, np.int32)
    confidence = np.empty(longest)
    best = np.empty(longest, np.int64)
    spare = np.empty(longest, np.int64)
    total, largest = weights.sum(), weights.max()

    for image in range(first, last):
        right = np.float64(width[image]) if width[image] > 0 else np.inf
        bottom = np.float64(height[image]) if height[image] > 0 else np.inf
        left = 0.0 if width[image] > 0 else -np.inf
        top = 0.0 if height[image] > 0 else -np.inf
        clusters = 0
        begin = 0  # first cluster of the class at hand
        current = -1
        for place in range(offsets[image], offsets[image] + counts[image]):
            m = row[place]
            if score[m] < skip:
                continue
            x1 = min(max(xyxy[m, 0], left), right)
            y1 = min(max(xyxy[m, 1], top), bottom)
            x2 = min(max(xyxy[m, 2], left), right)
            y2 = min(max(xyxy[m, 3], top), bottom)
            if x2 <= x1 or y2 <= y1:
                continue
            if label[m] != current:
                current = label[m]
                begin = clusters
            own = (x2 - x1) * (y2 - y1)
            match = -1
            highest = iou
            for c in range(begin, clusters):
                w = min(x2, box[c, 2]) - max(x1, box[c, 0])
                if w <= 0:
                    continue
                h = min(y2, box[c, 3]) - max(y1, box[c, 1])
                if h <= 0:
                    continue
                inner = w * h
                union = area[c] + own - inner
                if inner > highest * union:
                    highest = inner / union
                    match = c
            r = run[place]
            k = key[place]
            if match < 0:
                match = clusters
                clusters += 1
                box[match, 0] = x1
                box[match, 1] = y1
                box[match, 2] = x2
                box[match, 3] = y2
                area[match] = own
                cluster_label[match] = current
                sums[match, 0] = k
                sums[match, 1] = 1.0
                sums[match, 2] = weights[r]
                sums[match, 3] = weights[r]
                sums[match, 4] = k
                seen[match] = False
                seen[match, r] = True
                continue
            sums[match, 0] += k
            sums[match, 1] += 1.0
            sums[match, 2] += weights[r]
            if not seen[match, r]:
                seen[match, r] = True
                sums[match, 3] += weights[r]
            if sums[match, 0] > 0:
                # a running mean stays finite however small the scores are
                share = k / sums[match, 0]
                box[match, 0] += (x1 - box[match, 0]) * share
                box[match, 1] += (y1 - box[match, 1]) * share
                box[match, 2] += (x2 - box[match, 2]) * share
                box[match, 3] += (y2 - box[match, 3]) * share
                area[match] = (box[match, 2] - box[match, 0]) * (box[match, 3] - box[match, 1])

        for j in range(len(rules)):
            for c in range(clusters):
                best[c] = c
                confidence[c] = _confidence(
                    rules[j], overflow, sums[c], len(weights), total, largest
                )
            sort_falling(confidence, best, spare, 0, clusters)
            kept = min(clusters, cap)
            out_counts[j, image] = kept
            for k in range(kept):
                c, slot = best[k], slots[image] + k
                out_score[j, slot] = confidence[c]
                out_label[j, slot] = cluster_label[c]
                out_xyxy[j, slot, 0] = min(max(box[c, 0], left), right)
                out_xyxy[j, slot, 1] = min(max(box[c, 1], top), bottom)
                out_xyxy[j, slot, 2] = min(max(box[c, 2], left), right)
                out_xyxy[j, slot, 3] = min(max(box[c, 3], top), bottom)


@compiled
def _confidence(
    rule: int, overflow: bool, sums: Array, runs: int, total: float, largest: float
) -> float:
    """Score of a cluster.

    sums: score x weight; boxes; weights of the boxes; weights of the distinct runs; highest score
    x weight.
    """
    if rule == MAX:
        return sums[4] / largest
    if rule == BOX_AND_MODEL_AVG:
        return sums[0] / sums[2] * min(sums[3] / total, 1.0)
    if rule == ABSENT_MODEL_AWARE_AVG:
        return sums[0] / (sums[2] + max(total - sums[3], 0.0))
    if overflow:
        return sums[0] / total
    return sums[0] / sums[1] * min(float(runs), sums[1]) / total


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
    longest = 0
    for image in range(first, last):
        longest = max(longest, offsets[image + 1] - offsets[image])
    kept = np.empty(longest, np.int64)
    for image in range(first, last):
        count = 0
        current = -1
        for place in range(offsets[image], offsets[image + 1]):
            m = row[place]
            if label[m] != current:
                current = label[m]
                count = 0
            if not _covered(xyxy, m, kept[:count], iou):
                keep[m] = True
                kept[count] = m
                count += 1


@compiled
def _covered(xyxy: Array, m: int, kept: NDArray[np.int64], iou: float) -> bool:
    own = (xyxy[m, 2] - xyxy[m, 0]) * (xyxy[m, 3] - xyxy[m, 1])
    for other in kept:
        w = min(xyxy[m, 2], xyxy[other, 2]) - max(xyxy[m, 0], xyxy[other, 0])
        h = min(xyxy[m, 3], xyxy[other, 3]) - max(xyxy[m, 1], xyxy[other, 1])
        if w > 0 and h > 0:
            area = (xyxy[other, 2] - xyxy[other, 0]) * (xyxy[other, 3] - xyxy[other, 1])
            inner = w * h
            if inner > iou * (own + area - inner):
                return True
    return False
