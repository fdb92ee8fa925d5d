# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled: greedy suppression of a table, and soft suppression of several.

Soft suppression follows Bodla et al., "Soft-NMS", arXiv:1704.04503: a box that overlaps a better
one keeps its place and loses score.
"""

from heapq import heapify, heappop, heapreplace

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled
from smallobj.ensemble.kernels_cells import (
    Cells,
    enter,
    highest_nearby,
    lay,
    make_cells,
    overlapping,
)
from smallobj.ensemble.kernels_cluster import Columns, Fused, Setting, class_end, emit
from smallobj.ensemble.kernels_overlap import LIMIT, borders, cut, highest_overlap, iou_with, put
from smallobj.ensemble.kernels_sort import best_first


@compiled
def suppress_images(
    first: int,
    last: int,
    offsets: NDArray[np.int64],
    row: NDArray[np.int64],
    xyxy: Array,
    label: NDArray[np.int32],
    iou: float,
    agnostic: bool,
    keep: NDArray[np.bool_],
) -> None:
    """Mark in keep [M] the boxes that greedy suppression leaves, of images first to last.

    row [M]: the rows of image i, ordered by class and falling score, from offsets[i] on.
    """
    longest = 0
    for image in range(first, last):
        longest = max(longest, offsets[image + 1] - offsets[image])
    kept = np.empty((longest, 6))
    cells = make_cells(longest)
    for image in range(first, last):
        count = 0
        end = offsets[image]
        dense = False
        for place in range(offsets[image], offsets[image + 1]):
            m = row[place]
            if place == end:  # the first of its class
                count = 0
                end = class_end(place, offsets[image + 1], row, label, agnostic)
                dense = lay(cells, place, end, row, xyxy)
            x1, y1, x2, y2 = xyxy[m, 0], xyxy[m, 1], xyxy[m, 2], xyxy[m, 3]
            if dense:
                match = highest_nearby(cells, kept, x1, y1, x2, y2, iou)
            else:
                match = highest_overlap(kept, 0, count, x1, y1, x2, y2, iou)
            if match < 0:
                keep[m] = True
                put(kept, count, x1, y1, x2, y2, iou, 0.0)
                dense = dense and enter(cells, kept, count)
                count += 1


@compiled
def soften_images(first: int, last: int, columns: Columns, setting: Setting, out: Fused) -> None:
    """Fuse images first to last by soft suppression."""
    offsets, counts, row, _, key, xyxy, label, score, width, height = columns
    longest = 0
    for image in range(first, last):
        longest = max(longest, counts[image])
    boxes = np.empty((longest, 6))  # see kernels_overlap
    confidence = np.empty(longest)
    waiting = np.empty(longest, np.bool_)
    box_label = np.empty(longest, np.int32)
    member = np.empty(longest, np.int32)
    best = np.empty(longest, np.int64)
    spare = np.empty(longest, np.int64)
    value = np.empty(longest)
    cells = make_cells(longest)
    for image in range(first, last):
        across, down = borders(width[image]), borders(height[image])
        count = 0
        place, stop = offsets[image], offsets[image] + counts[image]
        while place < stop:
            begin = count
            end = class_end(place, stop, row, label, setting.agnostic)
            dense = lay(cells, place, end, row, xyxy)
            while place < end:
                m = row[place]
                member[place - offsets[image]] = -1
                x1, y1 = cut(xyxy[m, 0], across), cut(xyxy[m, 1], down)
                x2, y2 = cut(xyxy[m, 2], across), cut(xyxy[m, 3], down)
                if score[m] >= setting.skip and x2 > x1 and y2 > y1:
                    put(boxes, count, x1, y1, x2, y2, setting.iou, setting.shift)
                    confidence[count] = key[place] / setting.divisor
                    waiting[count] = True
                    box_label[count] = label[m]
                    member[place - offsets[image]] = count
                    dense = dense and enter(cells, boxes, count)
                    count += 1
                place += 1
            if dense:
                _soften_crowd(boxes, confidence, waiting, begin, count, setting, cells)
            else:
                _soften(boxes, confidence, waiting, begin, count, setting)
        if len(out.member):
            out.member[offsets[image] : stop] = member[: counts[image]]
        kept = 0
        for c in range(count):
            if confidence[c] > setting.skip:
                best[kept] = c
                kept += 1
        kept = best_first(confidence, best, spare, value, kept, setting.cap)
        emit(0, image, kept, best, boxes, box_label, confidence, across, down, out)


@compiled
def _soften(
    boxes: Array,
    confidence: Array,
    waiting: NDArray[np.bool_],
    begin: int,
    end: int,
    setting: Setting,
) -> None:
    """Take boxes[begin:end] by falling score, of equal ones the first, and lower what waits.

    What has fallen to `skip` is left out in the end, and lowers nothing that is not.
    """
    while True:
        c = -1
        for other in range(begin, end):
            if waiting[other] and (c < 0 or confidence[other] > confidence[c]):
                c = other
        if c < 0 or confidence[c] <= setting.skip:
            return
        waiting[c] = False
        while begin < end and not waiting[begin]:
            begin += 1
        for other in range(begin, end):
            if waiting[other]:
                confidence[other] *= _decay(boxes, c, other, setting)


@compiled
def _soften_crowd(
    boxes: Array,
    confidence: Array,
    waiting: NDArray[np.bool_],
    begin: int,
    end: int,
    setting: Setting,
    cells: Cells,
) -> None:
    """`_soften` of many boxes: neighbours from the cells, the next box from a heap.

    Scores only fall, so a box whose place in the heap is out of date goes back to where it belongs.
    """
    heap = [(-confidence[c], c) for c in range(begin, end)]
    heapify(heap)
    while heap:
        negative, c = heap[0]
        if -confidence[c] > negative:
            heapreplace(heap, (-confidence[c], c))
            continue
        if confidence[c] <= setting.skip:
            return
        heappop(heap)
        waiting[c] = False
        for k in range(overlapping(cells, boxes, c)):
            other = cells.near[k]
            if waiting[other] and confidence[other] > setting.skip:
                confidence[other] *= _decay(boxes, c, other, setting)


@compiled
def _decay(boxes: Array, c: int, other: int, setting: Setting) -> float:
    """The factor by which box c lowers the score of another."""
    overlap = iou_with(boxes, c, boxes[other, 0], boxes[other, 1], boxes[other, 2], boxes[other, 3])
    if overlap <= 0:
        return 1.0
    if setting.sigma > 0:
        return np.exp(-overlap * overlap / setting.sigma)
    return 1.0 - overlap if overlap > min(boxes[c, LIMIT], boxes[other, LIMIT]) else 1.0
