# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""The compiled kernels of the room, all in this file: the cache of one is renewed with its file.

Weighted boxes fusion follows Solovyev, Wang, Gabruseva, "Weighted boxes fusion", arXiv:1910.13302;
the order of its steps is that of ensemble-boxes 1.0.9, so that the two agree.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled

_DENSE = 512  # boxes of a class in an image from which on cells find the neighbours of a box
_SIDE = 32  # cells along each side of an image
_ENTRIES = 24  # of a box in the lists of the cells, on average
_INSERTION = 24  # shorter stretches are sorted by insertion, longer ones merged
_MAX, _BOX_AND_MODEL_AVG, _ABSENT_MODEL_AWARE_AVG = 1, 2, 3  # places in CONFIDENCE_RULES
_TOTAL, _BOXES, _BOX_WEIGHTS, _RUN_WEIGHTS, _HIGHEST = range(5)  # what is summed of a cluster


class Cells(NamedTuple):
    """Cells over an image, each with a list of the boxes that reach into it.

    A box that moves stays in the lists it is in: they say who may overlap, not who does.
    """

    head: NDArray[np.int32]  # [side, side], first entry of each list, -1 where it is empty
    entry: NDArray[np.int32]  # [entries, 2], the box and the next entry of its list
    used: NDArray[np.int64]  # [1], entries in use
    span: NDArray[np.int32]  # [boxes, 4], first and last column, first and last row of each box
    near: NDArray[np.int64]  # [boxes], room for the neighbours of one box
    scale: Array  # [4], left and top edge, columns and rows a pixel


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
def fuse_images(  # noqa: C901 - one more call a box costs a tenth of the time
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
    cells = _cells(longest)
    whole, heaviest, runs = weights.sum(), weights.max(), (weights > 0).sum()

    for image in range(first, last):
        clusters = 0
        begin = 0  # first cluster of the class at hand
        current = -1
        dense = False
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
                dense = _lay(cells, place, offsets[image] + counts[image], row, xyxy, label)
            if dense:
                match = _highest_nearby(cells, fused, x1, y1, x2, y2, iou)
            else:
                match = _highest_overlap(fused, begin, clusters, x1, y1, x2, y2, iou)
            if match < 0:
                match = clusters
                clusters += 1
                _put(fused, match, x1, y1, x2, y2)
                dense = dense and _enter(cells, fused, match)
                fused_label[match] = current
                sums[match] = 0
                seen[match] = False
            k, r = key[place], run[place]
            _count(sums, match, k, weights[r], seen[match, r])
            seen[match, r] = True
            if sums[match, _BOXES] > 1 and sums[match, _TOTAL] > 0:
                _move(fused, match, x1, y1, x2, y2, k / sums[match, _TOTAL])
                dense = dense and _extend(cells, fused, match)
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
    cells = _cells(longest)
    for image in range(first, last):
        count = 0
        current = -1
        dense = False
        for place in range(offsets[image], offsets[image + 1]):
            m = row[place]
            if label[m] != current:
                current = label[m]
                count = 0
                dense = _lay(cells, place, offsets[image + 1], row, xyxy, label)
            x1, y1, x2, y2 = xyxy[m, 0], xyxy[m, 1], xyxy[m, 2], xyxy[m, 3]
            if dense:
                match = _highest_nearby(cells, kept, x1, y1, x2, y2, iou)
            else:
                match = _highest_overlap(kept, 0, count, x1, y1, x2, y2, iou)
            if match < 0:
                keep[m] = True
                _put(kept, count, x1, y1, x2, y2)
                dense = dense and _enter(cells, kept, count)
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
def _highest_nearby(
    cells: Cells, boxes: Array, x1: float, y1: float, x2: float, y2: float, iou: float
) -> int:
    """`_highest_overlap` among the boxes entered in the cells: the same one, found sooner."""
    left, right = _cell(cells, 0, x1), _cell(cells, 0, x2)
    top, bottom = _cell(cells, 1, y1), _cell(cells, 1, y2)
    count = 0
    for j in range(top, bottom + 1):
        for i in range(left, right + 1):
            entry = cells.head[j, i]
            while entry >= 0:
                c = cells.entry[entry, 0]
                entry = cells.entry[entry, 1]
                if max(left, cells.span[c, 0]) != i or max(top, cells.span[c, 2]) != j:
                    continue  # met in another cell
                if min(x2, boxes[c, 2]) <= max(x1, boxes[c, 0]):
                    continue
                if min(y2, boxes[c, 3]) <= max(y1, boxes[c, 1]):
                    continue
                k = count
                while k > 0 and cells.near[k - 1] > c:  # in the order they were made: ties as ever
                    cells.near[k] = cells.near[k - 1]
                    k -= 1
                cells.near[k] = c
                count += 1
    own = (x2 - x1) * (y2 - y1)
    match = -1
    highest = iou
    for k in range(count):
        c = cells.near[k]
        w = min(x2, boxes[c, 2]) - max(x1, boxes[c, 0])
        h = min(y2, boxes[c, 3]) - max(y1, boxes[c, 1])
        inner = w * h
        union = boxes[c, 4] + own - inner
        if inner > highest * union:
            highest = inner / union
            match = c
    return match


@compiled
def _cells(longest: int) -> Cells:
    """Room for the cells of images of at most `longest` boxes."""
    boxes = longest if longest >= _DENSE else 0
    return Cells(
        np.empty((_SIDE, _SIDE), np.int32),
        np.empty((boxes * _ENTRIES, 2), np.int32),
        np.empty(1, np.int64),
        np.empty((boxes, 4), np.int32),
        np.empty(boxes, np.int64),
        np.empty(4),
    )


@compiled
def _lay(
    cells: Cells,
    place: int,
    end: int,
    row: NDArray[np.int64],
    xyxy: Array,
    label: NDArray[np.int32],
) -> bool:
    """Lay empty cells for the class whose boxes begin at `place`; False where it has few."""
    stop = place + 1
    while stop < end and label[row[stop]] == label[row[place]]:
        stop += 1
    if stop - place < _DENSE:
        return False
    for side in range(2):
        low, high = xyxy[row[place], side], xyxy[row[place], side + 2]
        for other in range(place + 1, stop):
            low = min(low, xyxy[row[other], side])
            high = max(high, xyxy[row[other], side + 2])
        cells.scale[side] = low
        cells.scale[side + 2] = _SIDE / (high - low) if high > low else 0.0
    cells.head[:] = -1
    cells.used[0] = 0
    return True


@compiled
def _cell(cells: Cells, side: int, coordinate: float) -> int:
    """The column (side 0) or row (1) of a coordinate; what lies outside belongs to the border."""
    cell = (coordinate - cells.scale[side]) * cells.scale[side + 2]
    return int(min(max(cell, 0.0), _SIDE - 1.0))


@compiled
def _enter(cells: Cells, boxes: Array, box: int) -> bool:
    """Enter a new box into the cells it reaches; False where there is no room."""
    cells.span[box, 0], cells.span[box, 1] = 0, -1
    cells.span[box, 2], cells.span[box, 3] = 0, -1
    return _extend(cells, boxes, box)


@compiled
def _extend(cells: Cells, boxes: Array, box: int) -> bool:
    """Enter a box into the cells it reaches and is not in yet; False where there is no room."""
    left, right = _cell(cells, 0, boxes[box, 0]), _cell(cells, 0, boxes[box, 2])
    top, bottom = _cell(cells, 1, boxes[box, 1]), _cell(cells, 1, boxes[box, 3])
    span = cells.span[box]
    if span[0] <= left and right <= span[1] and span[2] <= top and bottom <= span[3]:
        return True
    if span[0] <= span[1]:
        left, right = min(left, span[0]), max(right, span[1])
        top, bottom = min(top, span[2]), max(bottom, span[3])
    if cells.used[0] + (right - left + 1) * (bottom - top + 1) > len(cells.entry):
        return False
    for j in range(top, bottom + 1):
        for i in range(left, right + 1):
            if span[0] <= i <= span[1] and span[2] <= j <= span[3]:
                continue
            entry = cells.used[0]
            cells.entry[entry, 0] = box
            cells.entry[entry, 1] = cells.head[j, i]
            cells.head[j, i] = entry
            cells.used[0] = entry + 1
    span[0], span[1], span[2], span[3] = left, right, top, bottom
    return True


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
