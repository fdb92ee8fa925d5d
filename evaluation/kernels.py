# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""The compiled kernels of the room, all in this file: the cache of one is renewed with its file.

A detection's outcome at up to 31 IoU thresholds is two bit fields: bit t of `hit` where it found a
true box at threshold t, bit t of `skip` where it counts neither as found nor as false.
"""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled

_DIGIT_BITS, _DIGITS = 11, 6
_BASE = 1 << _DIGIT_BITS


@compiled
def order_by_falling_score(score: Array) -> NDArray[np.int64]:
    """Row numbers by falling score, equal scores by rising row: a radix sort; [M] to [M]."""
    rows = len(score)
    key = np.empty(rows, np.uint64)
    sign = np.uint64(1) << np.uint64(63)
    bits = (score + 0.0).view(np.uint64)  # adding 0 makes -0 equal to 0
    for row in range(rows):
        key[row] = bits[row] if bits[row] & sign else ~(bits[row] | sign)
    count = np.zeros((_DIGITS, _BASE), np.int64)
    mask = np.uint64(_BASE - 1)
    for row in range(rows):
        for digit in range(_DIGITS):
            count[digit, (key[row] >> np.uint64(digit * _DIGIT_BITS)) & mask] += 1
    order = np.arange(rows)
    next_key, next_order = np.empty_like(key), np.empty_like(order)
    for digit in range(_DIGITS):
        if count[digit].max() == rows:  # the digit is the same everywhere
            continue
        start = np.cumsum(count[digit]) - count[digit]
        for k in range(rows):
            value = (key[k] >> np.uint64(digit * _DIGIT_BITS)) & mask
            next_key[start[value]] = key[k]
            next_order[start[value]] = order[k]
            start[value] += 1
        key, next_key = next_key, key
        order, next_order = next_order, order
    return order


@compiled
def order_detections(
    offsets: NDArray[np.int64],
    label: NDArray[np.int32],
    score: Array,
    per_image: int,
    classes: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Detections by image and by class, best first, at most `per_image` of an image kept.

    offsets [N + 1], label [M], score [M]. Returns in_image [M], the rows of each image best first;
    place [M], where a row stands among the K kept rows ordered by class and falling score, -1 where
    it is not kept; image [K] of the kept rows; class_offsets [classes + 1] into them.
    """
    rows = len(score)
    falling = order_by_falling_score(score)
    image_of = np.empty(rows, np.int32)
    for image in range(len(offsets) - 1):
        image_of[offsets[image] : offsets[image + 1]] = image
    filled = offsets[:-1].copy()
    in_image = np.empty(rows, np.int64)
    place = np.full(rows, -1, np.int64)
    class_offsets = np.zeros(classes + 1, np.int64)
    for row in falling:
        image = image_of[row]
        in_image[filled[image]] = row
        filled[image] += 1
        if filled[image] - offsets[image] <= per_image:
            place[row] = 0
            class_offsets[label[row] + 1] += 1
    for c in range(classes):
        class_offsets[c + 1] += class_offsets[c]
    following = class_offsets[:-1].copy()
    kept_image = np.empty(class_offsets[-1], np.int32)
    for row in falling:
        if place[row] == 0:
            place[row] = following[label[row]]
            following[label[row]] += 1
            kept_image[place[row]] = image_of[row]
    return in_image, place, kept_image, class_offsets


@compiled
def _label_start(label: NDArray[np.int32], start: int, stop: int, wanted: int) -> int:
    """First of the rows start to stop, ordered by label, whose label is not below `wanted`."""
    while start < stop:
        middle = (start + stop) // 2
        if label[middle] < wanted:
            start = middle + 1
        else:
            stop = middle
    return start


@compiled
def _near_boxes(
    box: tuple[float, float, float, float],
    label: int,
    truth_xyxy: Array,
    truth_label: NDArray[np.int32],
    truth_crowd: NDArray[np.bool_],
    span: tuple[int, int],
    loosest: float,
    near: NDArray[np.int64],
    overlap: Array,
) -> int:
    """True boxes of a label within the rows `span` whose IoU with a box is `loosest` or more.

    Of a crowd it is the part of the box inside it. Fills near and overlap, returns how many.
    """
    x1, y1, x2, y2 = box
    area = (x2 - x1) * (y2 - y1)
    found = 0
    g = _label_start(truth_label, span[0], span[1], label)
    while g < span[1] and truth_label[g] == label:
        left, top = truth_xyxy[g, 0], truth_xyxy[g, 1]
        right, bottom = truth_xyxy[g, 2], truth_xyxy[g, 3]
        width, height = min(x2, right) - max(x1, left), min(y2, bottom) - max(y1, top)
        if width > 0 and height > 0:
            shared = width * height
            joint = area if truth_crowd[g] else area + (right - left) * (bottom - top) - shared
            if shared / joint >= loosest:
                near[found], overlap[found] = g, shared / joint
                found += 1
        g += 1
    return found


@compiled
def _best_free(
    near: NDArray[np.int64],
    overlap: Array,
    found: int,
    counted: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    taken: NDArray[np.int32],
    area_range: int,
    first: int,
    bit: int,
    threshold: float,
) -> int:
    """Of the `found` near boxes, the free one of highest overlap, the later of equals; else -1.

    Boxes that count come first; only without one of them is an ignored one taken.
    """
    for wanted in (True, False):
        best, best_overlap = -1, threshold
        for k in range(found):
            g = near[k]
            free = crowd[g] or not taken[area_range, g - first] & bit
            if free and overlap[k] >= best_overlap and counted[area_range, g] == wanted:
                best, best_overlap = g, overlap[k]
        if best >= 0:
            return best
    return -1


@compiled
def match_images(
    start: int,
    stop: int,
    truth_offsets: NDArray[np.int64],
    truth_label: NDArray[np.int32],
    truth_xyxy: Array,
    truth_crowd: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    label: NDArray[np.int32],
    xyxy: Array,
    in_image: NDArray[np.int64],
    place: NDArray[np.int64],
    classes: int,
    per_class: int,
    thresholds: Array,
    area_low: Array,
    area_high: Array,
    hit: NDArray[np.int32],
    skip: NDArray[np.int32],
    rank: NDArray[np.int32],
) -> None:
    """Match the kept detections of images start to stop; fills hit, skip [R, K] and rank [K].

    Truth [G] is ordered by image and label; counted [R, G] says what is to be found in each area
    range. thresholds [T]; area_low and area_high [R], square pixels, low <= area < high. in_image
    and place are those of `order_detections`. rank is the position among the detections of an
    image and class; from `per_class` on they are skipped.
    """
    steps, loosest = len(thresholds), thresholds.min()
    all_steps = (1 << steps) - 1
    most = 0
    for i in range(start, stop):
        most = max(most, truth_offsets[i + 1] - truth_offsets[i])
    near, overlap = np.empty(most, np.int64), np.empty(most, np.float64)
    taken = np.empty((len(area_low), most), np.int32)
    seen, seen_in = np.zeros(classes, np.int64), np.full(classes, -1, np.int64)
    for i in range(start, stop):
        span = truth_offsets[i], truth_offsets[i + 1]
        taken[:, : span[1] - span[0]] = 0
        for k in range(offsets[i], offsets[i + 1]):
            row = in_image[k]
            at, c = place[row], label[row]
            if at < 0:  # over the cap, as are all that follow
                break
            if seen_in[c] != i:
                seen_in[c], seen[c] = i, 0
            rank[at] = seen[c]
            seen[c] += 1
            if rank[at] >= per_class:
                hit[:, at], skip[:, at] = 0, all_steps
                continue
            box = xyxy[row, 0], xyxy[row, 1], xyxy[row, 2], xyxy[row, 3]
            area = (box[2] - box[0]) * (box[3] - box[1])
            found = _near_boxes(
                box, c, truth_xyxy, truth_label, truth_crowd, span, loosest, near, overlap
            )
            for r in range(len(area_low)):
                hits, skips = 0, (0 if area_low[r] <= area < area_high[r] else all_steps)
                for t in range(steps if found else 0):
                    bit = 1 << t
                    best = _best_free(
                        near, overlap, found, counted, truth_crowd, taken, r, span[0], bit,
                        thresholds[t],
                    )  # fmt: skip
                    if best >= 0:
                        taken[r, best - span[0]] |= bit
                        if counted[r, best]:
                            hits, skips = hits | bit, skips & ~bit
                        else:
                            skips |= bit
                hit[r, at], skip[r, at] = hits, skips
