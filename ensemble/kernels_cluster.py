# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled: fusion by joining, image by image - weighted boxes fusion, NMS and NMW.

All three take the boxes by falling weighted score; each box joins the one it overlaps most, or
opens a new one. They differ in what becomes of the box joined: it moves (weighted boxes fusion,
arXiv:1910.13302), stays (non-maximum suppression), or stays for the joining and is replaced by a
mean in the end (non-maximum weighted, Zhou et al., "CAD", ICCV workshops 2017). The order of the
steps is that of ensemble-boxes 1.0.9, so that they agree.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled, inlined
from smallobj.ensemble.kernels_cells import DENSE, enter, extend, highest_nearby, lay, make_cells
from smallobj.ensemble.kernels_overlap import borders, cut, highest_overlap, iou_with, limit_of, put
from smallobj.ensemble.kernels_sort import best_first
from smallobj.ensemble.kernels_strips import (
    SEVERAL,
    enter_strips,
    extend_strips,
    highest_in_strips,
    lay_strips,
    make_strips,
)

WBF, NMS, SOFT_NMS, NMW = range(4)  # places in METHODS
AVG, MAX, BOX_AND_MODEL_AVG, ABSENT_MODEL_AWARE_AVG = range(4)  # places in CONFIDENCE_RULES
# what is summed of a cluster
(
    _TOTAL,
    _BOXES,
    _BOX_WEIGHTS,
    _HIGHEST,
    _MODEL_WEIGHTS,
    _VOTES,
    _COUNTED,
    _COUNTED_WEIGHTS,
    _LOAD,
) = range(9)


class Columns(NamedTuple):
    """An `Order` and the columns of its `Pool`."""

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    row: NDArray[np.int64]
    run: NDArray[np.int32]
    key: Array
    xyxy: Array
    label: NDArray[np.int32]
    score: Array
    width: NDArray[np.int32]
    height: NDArray[np.int32]


class Voters(NamedTuple):
    """The runs, and the models they are views of."""

    weight: Array  # [R]
    model: NDArray[np.int64]  # [R]
    model_weight: Array  # [K], the highest of its runs'; 0 where it has none
    several_views: bool  # whether any model has two runs


class Setting(NamedTuple):
    """A `FusionConfig` in numbers."""

    method: int
    iou: float
    shift: float
    skip: float
    sifts: bool  # whether rows below `skip` are among those ordered
    overflow: bool
    agnostic: bool
    min_votes: int
    cap: int
    divisor: float  # of the highest weighted score of a cluster
    sigma: float  # of soft suppression; 0: linear


class Fused(NamedTuple):
    """Results under K rules; image i fills places slots[i] onward."""

    slots: NDArray[np.int64]  # [N + 1]
    xyxy: Array  # [K, S, 4]
    label: NDArray[np.int32]  # [K, S]
    score: Array  # [K, S]
    counts: NDArray[np.int64]  # [K, N]
    cluster: NDArray[np.int32]  # [K, S] where traced, else [K, 0]: number within its image
    member: NDArray[np.int32]  # [M] or [0], the cluster of each place of the order, -1: none


@compiled
def fuse_images(  # noqa: C901, PLR0912, PLR0915 - one more call a box costs a tenth of the time
    first: int,
    last: int,
    columns: Columns,
    voters: Voters,
    setting: Setting,
    rules: NDArray[np.int64],
    out: Fused,
) -> None:
    """Fuse images first to last under K confidence rules at once."""
    offsets, counts, row, run, key, xyxy, label, score, width, height = columns
    weight, model_of, model_weight, several_views = voters
    method, iou, shift, skip = setting.method, setting.iou, setting.shift, setting.skip
    sifts, agnostic = setting.sifts, setting.agnostic
    longest = 0
    for image in range(first, last):
        longest = max(longest, counts[image])
    boxes = np.empty((longest, 6))  # see kernels_overlap
    mean = np.empty((longest if method == NMW else 0, 6))
    sums = np.empty((longest, 9))
    words = (len(model_weight) + 63) // 64
    seen = np.empty((longest, words), np.int64)  # a bit a model that has a box in the cluster
    crowd = longest if several_views else 0
    counted = np.empty((crowd, len(model_weight)), np.int32)  # boxes of a model that count
    views = np.empty((crowd, len(weight)), np.int32)  # boxes of a run
    box_label = np.empty(longest, np.int32)
    member = np.empty(longest, np.int32)
    confidence = np.empty(longest)
    best = np.empty(longest, np.int64)
    spare = np.empty(longest, np.int64)
    value = np.empty(longest)
    cells = make_cells(longest)
    bits, span, scale = make_strips(longest)
    whole, models = model_weight.sum(), (model_weight > 0).sum()
    traced = len(out.member) > 0

    for image in range(first, last):
        across, down = borders(width[image]), borders(height[image])
        clusters = 0
        begin = 0  # first cluster of the class at hand
        current = -1
        dense = False
        laid = False  # whether the strips lie over this image
        several = False  # whether they know the fused boxes of the class at hand
        start, stop = offsets[image], offsets[image] + counts[image]
        crowded = counts[image] >= DENSE
        for place in range(start, stop):
            m = row[place]
            member[place - start] = -1
            if sifts and score[m] < skip:
                continue
            x1, y1 = cut(xyxy[m, 0], across), cut(xyxy[m, 1], down)
            x2, y2 = cut(xyxy[m, 2], across), cut(xyxy[m, 3], down)
            if x2 <= x1 or y2 <= y1:
                continue
            bucket = 0 if agnostic else label[m]
            if bucket != current:
                current = bucket
                begin = clusters
                several = False
                if crowded:
                    end = class_end(place, stop, row, label, agnostic)
                    dense = lay(cells, place, end, row, xyxy)
            k, r = key[place], run[place]
            w, model = weight[r], model_of[r]
            limit = limit_of((x2 - x1) * (y2 - y1), iou, shift) if shift > 0 else iou
            if dense:
                c = highest_nearby(cells, boxes, x1, y1, x2, y2, limit)
            elif several:
                c = highest_in_strips(bits, scale, boxes, begin, clusters, x1, y1, x2, y2, limit)
            else:
                c = highest_overlap(boxes, begin, clusters, x1, y1, x2, y2, limit)
            if c < 0:
                c = clusters
                clusters += 1
                put(boxes, c, x1, y1, x2, y2, iou, shift)
                if dense:
                    dense = enter(cells, boxes, c)
                elif several:
                    enter_strips(bits, span, scale, boxes, begin, c)
                elif clusters - begin == SEVERAL:
                    if not laid:
                        lay_strips(scale, start, stop, row, xyxy)
                        laid = True
                    for other in range(begin, clusters):
                        enter_strips(bits, span, scale, boxes, begin, other)
                    several = True
                box_label[c] = label[m]
                for word in range(words):
                    seen[c, word] = 0
                seen[c, model >> 6] = np.int64(1) << (model & 63)
                if several_views:
                    counted[c, :] = 0
                    counted[c, model] = 1
                    views[c, :] = 0
                    views[c, r] = 1
                if method == NMW:
                    put(mean, c, x1, y1, x2, y2, iou, 0.0)
                sums[c, _TOTAL] = k
                sums[c, _BOXES] = 1
                sums[c, _BOX_WEIGHTS] = w
                sums[c, _HIGHEST] = k
                sums[c, _MODEL_WEIGHTS] = model_weight[model]
                sums[c, _VOTES] = 1
                sums[c, _COUNTED] = 1
                sums[c, _COUNTED_WEIGHTS] = w
                sums[c, _LOAD] = k
                member[place - start] = c
                continue
            member[place - start] = c
            sums[c, _TOTAL] += k
            sums[c, _BOXES] += 1
            sums[c, _BOX_WEIGHTS] += w
            sums[c, _HIGHEST] = max(sums[c, _HIGHEST], k)
            counts_once_more = True
            if several_views:
                views[c, r] += 1
                counts_once_more = views[c, r] > counted[c, model]
                counted[c, model] += counts_once_more
            if counts_once_more:
                bit = np.int64(1) << (model & 63)
                if seen[c, model >> 6] & bit == 0:
                    seen[c, model >> 6] |= bit
                    sums[c, _MODEL_WEIGHTS] += model_weight[model]
                    sums[c, _VOTES] += 1
                sums[c, _COUNTED] += 1
                sums[c, _COUNTED_WEIGHTS] += w
            if method == WBF and sums[c, _TOTAL] > 0:
                _move(boxes, c, x1, y1, x2, y2, k / sums[c, _TOTAL], iou, shift)
                if dense:
                    dense = extend(cells, boxes, c)
                elif several:
                    extend_strips(bits, span, scale, boxes, begin, c)
            elif method == NMW:
                load = k * iou_with(boxes, c, x1, y1, x2, y2)
                sums[c, _LOAD] += load
                if load > 0:
                    _move(mean, c, x1, y1, x2, y2, load / sums[c, _LOAD], iou, 0.0)
        if agnostic and method != NMS:
            _relabel(member[: stop - start], clusters, start, columns, box_label)
        if traced:
            out.member[start:stop] = member[: stop - start]
        for j in range(len(rules)):
            kept = 0
            for c in range(clusters):
                if sums[c, _VOTES] >= setting.min_votes:
                    best[kept] = c
                    kept += 1
                    confidence[c] = _confidence(rules[j], setting, sums, c, models, whole)
            kept = best_first(confidence, best, spare, value, kept, setting.cap)
            fused = mean if method == NMW else boxes
            emit(j, image, kept, best, fused, box_label, confidence, across, down, out)


@compiled
def emit(
    rule: int,
    image: int,
    count: int,
    best: NDArray[np.int64],
    boxes: Array,
    label: NDArray[np.int32],
    score: Array,
    across: tuple[float, float],
    down: tuple[float, float],
    out: Fused,
) -> None:
    """Write the boxes best[:count] of an image, cut at its border, into the results."""
    out.counts[rule, image] = count
    slot = out.slots[image]
    traced = out.cluster.shape[1] > 0
    for k in range(count):
        c = best[k]
        out.score[rule, slot] = score[c]
        out.label[rule, slot] = label[c]
        out.xyxy[rule, slot, 0] = cut(boxes[c, 0], across)
        out.xyxy[rule, slot, 1] = cut(boxes[c, 1], down)
        out.xyxy[rule, slot, 2] = cut(boxes[c, 2], across)
        out.xyxy[rule, slot, 3] = cut(boxes[c, 3], down)
        if traced:
            out.cluster[rule, slot] = c
        slot += 1


@compiled
def class_end(
    place: int, stop: int, row: NDArray[np.int64], label: NDArray[np.int32], agnostic: bool
) -> int:
    """Where the rows of one class, which begin at `place`, end."""
    if agnostic:
        return stop
    end = place + 1
    while end < stop and label[row[end]] == label[row[place]]:
        end += 1
    return end


@inlined
def _move(
    boxes: Array,
    c: int,
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    share: float,
    iou: float,
    shift: float,
) -> None:
    """Move a fused box towards one more box; a running mean stays finite at the lowest scores."""
    put(
        boxes,
        c,
        boxes[c, 0] + (x1 - boxes[c, 0]) * share,
        boxes[c, 1] + (y1 - boxes[c, 1]) * share,
        boxes[c, 2] + (x2 - boxes[c, 2]) * share,
        boxes[c, 3] + (y2 - boxes[c, 3]) * share,
        iou,
        shift,
    )


@compiled
def _relabel(
    member: NDArray[np.int32],
    clusters: int,
    start: int,
    columns: Columns,
    box_label: NDArray[np.int32],
) -> None:
    """Give each cluster the class of highest summed weighted score; of equal ones the first met."""
    last = np.full(clusters, -1, np.int64)  # the members of a cluster as a chain, backward
    before = np.empty(len(member), np.int64)
    highest = 0
    for k in range(len(member)):
        if member[k] >= 0:
            before[k] = last[member[k]]
            last[member[k]] = k
            highest = max(highest, columns.label[columns.row[start + k]])
    total = np.zeros(highest + 1)
    for c in range(clusters):
        k = last[c]
        while k >= 0:
            total[columns.label[columns.row[start + k]]] += columns.key[start + k]
            k = before[k]
        k = last[c]
        chosen = box_label[c]
        best = total[chosen]
        while k >= 0:
            other = columns.label[columns.row[start + k]]
            if total[other] > best:
                chosen, best = other, total[other]
            k = before[k]
        k = last[c]
        while k >= 0:
            total[columns.label[columns.row[start + k]]] = 0
            k = before[k]
        box_label[c] = chosen


@compiled
def _confidence(
    rule: int, setting: Setting, sums: Array, c: int, models: int, whole: float
) -> float:
    """Score of a cluster; whole: sum of all models' weights."""
    if rule == MAX or setting.method != WBF:
        return sums[c, _HIGHEST] / setting.divisor
    if rule == BOX_AND_MODEL_AVG:
        share = min(sums[c, _MODEL_WEIGHTS] / whole, 1.0)
        return sums[c, _TOTAL] / sums[c, _BOX_WEIGHTS] * share
    once = sums[c, _COUNTED_WEIGHTS]
    if rule == ABSENT_MODEL_AWARE_AVG:
        absent = max(whole - sums[c, _MODEL_WEIGHTS], 0.0)
        return sums[c, _TOTAL] * (once / sums[c, _BOX_WEIGHTS]) / (once + absent)
    if setting.overflow:
        return sums[c, _TOTAL] * (sums[c, _COUNTED] / sums[c, _BOXES]) / whole
    return sums[c, _TOTAL] / sums[c, _BOXES] * min(float(models), sums[c, _COUNTED]) / whole
