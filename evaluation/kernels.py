"""The compiled kernels of the room, all in this file: the cache of one is renewed with its file.

A detection's outcome at up to 31 IoU thresholds is two bit fields: bit t of `hit` where it found a
truth box at threshold t, bit t of `skip` where it counts neither as found nor as false.
"""

import numpy as np

from smallobj.boxes.compiled import compiled

_DIGIT_BITS = 11
_DIGITS = 6
_BASE = 1 << _DIGIT_BITS


@compiled
def order_by_falling_score(score):  # type: ignore[no-untyped-def]
    """Row numbers by falling score, equal scores by rising row: a radix sort; [M] to int64 [M]."""
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
def order_detections(offsets, label, score, per_image, classes):  # type: ignore[no-untyped-def]
    """Detections by image and by class, best first, at most `per_image` of an image kept.

    offsets [N + 1], label [M], score [M]. Returns in_image [M], the rows of each image best first;
    place [M], where a row stands among the K kept rows ordered by class and falling score, -1 where
    it is not kept; image int32 [K] of the kept rows; class_offsets [classes + 1] into them.
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
    for label_index in range(classes):
        class_offsets[label_index + 1] += class_offsets[label_index]
    following = class_offsets[:-1].copy()
    kept_image = np.empty(class_offsets[-1], np.int32)
    for row in falling:
        if place[row] == 0:
            place[row] = following[label[row]]
            following[label[row]] += 1
            kept_image[place[row]] = image_of[row]
    return in_image, place, kept_image, class_offsets


@compiled
def _label_start(label, start, stop, wanted):  # type: ignore[no-untyped-def]
    """First of the rows start to stop, ordered by label, whose label is not below `wanted`."""
    while start < stop:
        middle = (start + stop) // 2
        if label[middle] < wanted:
            start = middle + 1
        else:
            stop = middle
    return start


@compiled
def _overlap(box, area, truth, crowd):  # type: ignore[no-untyped-def]
    """IoU of a detection and a truth box; of a crowd, the part of the detection inside it."""
    width = min(box[2], truth[2]) - max(box[0], truth[0])
    height = min(box[3], truth[3]) - max(box[1], truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    if crowd:
        return shared / area
    return shared / (area + (truth[2] - truth[0]) * (truth[3] - truth[1]) - shared)


@compiled
def _best_free(near, overlap, counted, crowd, taken, bit, threshold):  # type: ignore[no-untyped-def]
    """Of the truth boxes `near`, the free one of highest overlap, the later of equals; else -1.

    Boxes that count come first; only without one of them is an ignored one taken.
    """
    for wanted in (True, False):
        best, best_overlap = -1, threshold
        for k in range(len(near)):
            g = near[k]
            free = crowd[g] or not taken[g] & bit
            if counted[g] == wanted and free and overlap[k] >= best_overlap:
                best, best_overlap = g, overlap[k]
        if best >= 0:
            return best
    return -1


@compiled
def match_images(  # type: ignore[no-untyped-def]
    start,
    stop,
    truth_offsets,
    truth_label,
    truth_xyxy,
    truth_crowd,
    truth_counted,
    offsets,
    label,
    xyxy,
    in_image,
    place,
    classes,
    per_class,
    thresholds,
    area_low,
    area_high,
    hit,
    skip,
    rank,
):
    """Match the kept detections of images start to stop; fills hit, skip and rank.

    Truth [G] is ordered by image and label; truth_counted [R, G] says what counts in each area
    range. thresholds [T]; area_low and area_high [R], square pixels, low <= area < high. in_image
    and place are those of `order_detections`. hit and skip int32 [R, K]; rank int32 [K] is the
    position among the detections of an image and class; from `per_class` on they are skipped.
    """
    ranges, steps = len(area_low), len(thresholds)
    loosest = thresholds.min()
    all_steps = (1 << steps) - 1
    most = 0
    for i in range(start, stop):
        most = max(most, truth_offsets[i + 1] - truth_offsets[i])
    near, overlap = np.empty(most, np.int64), np.empty(most, np.float64)
    seen, seen_in = np.zeros(classes, np.int64), np.full(classes, -1, np.int64)
    taken = np.empty((ranges, most), np.int32)
    for i in range(start, stop):
        first, last = truth_offsets[i], truth_offsets[i + 1]
        counted, crowd = truth_counted[:, first:last], truth_crowd[first:last]
        taken[:, : last - first] = 0
        for k in range(offsets[i], offsets[i + 1]):
            row = in_image[k]
            at, wanted = place[row], label[row]
            if at < 0:  # over the cap, as are all that follow
                break
            if seen_in[wanted] != i:
                seen_in[wanted], seen[wanted] = i, 0
            rank[at] = seen[wanted]
            seen[wanted] += 1
            if rank[at] >= per_class:
                hit[:, at], skip[:, at] = 0, all_steps
                continue
            box = xyxy[row]
            area = (box[2] - box[0]) * (box[3] - box[1])
            found = 0
            g = _label_start(truth_label, first, last, wanted)
            while g < last and truth_label[g] == wanted:
                shared = _overlap(box, area, truth_xyxy[g], truth_crowd[g])
                if shared >= loosest:
                    near[found], overlap[found] = g - first, shared
                    found += 1
                g += 1
            for r in range(ranges):
                hits = 0
                skips = 0 if area_low[r] <= area < area_high[r] else all_steps
                if found:
                    for t in range(steps):
                        bit = 1 << t
                        best = _best_free(
                            near[:found], overlap, counted[r], crowd, taken[r], bit, thresholds[t]
                        )
                        if best >= 0:
                            taken[r, best] |= bit
                            if counted[r, best]:
                                hits |= bit
                                skips &= ~bit
                            else:
                                skips |= bit
                hit[r, at], skip[r, at] = hits, skips


@compiled
def precision_by_class(  # type: ignore[no-untyped-def]
    class_offsets,
    image,
    hit,
    skip,
    truth_image,
    truth_label,
    truth_counted,
    weight,
    steps,
    recall_points,
    epsilon,
):
    """Average precision of every class and threshold, every image counted `weight` times.

    Detections [K] as ordered and matched above, in one area range; truth columns [G]; weight int64
    [N]. recall_points rising, in 0..1: the envelope's mean there; empty: the area under it. epsilon
    is added to the number of detections (pycocotools does). Returns average precision and final
    recall [C, T], NaN where a class has no truth, and the truth boxes int64 [C].
    """
    classes, points = len(class_offsets) - 1, len(recall_points)
    positives = np.zeros(classes, np.int64)
    for g in range(len(truth_image)):
        if truth_counted[g]:
            positives[truth_label[g]] += weight[truth_image[g]]
    precision = np.full((classes, steps), np.nan)
    recall = np.full((classes, steps), np.nan)
    found, skipped = np.empty(steps, np.int64), np.empty(steps, np.int64)
    envelope, total = np.empty(steps), np.empty(steps)
    point = np.empty(steps, np.int64)
    for c in range(classes):
        if positives[c] == 0:
            continue
        found[:], skipped[:], envelope[:], total[:], point[:] = 0, 0, 0.0, 0.0, points - 1
        seen = 0
        for k in range(class_offsets[c], class_offsets[c + 1]):
            times = weight[image[k]]
            seen += times
            if hit[k] | skip[k]:
                for t in range(steps):
                    found[t] += times * (hit[k] >> t & 1)
                    skipped[t] += times * (skip[k] >> t & 1)
        for t in range(steps):
            recall[c, t] = found[t] / positives[c]
            while point[t] >= 0 and recall_points[point[t]] > recall[c, t]:
                point[t] -= 1
        # From the last detection back, the best precision so far is the envelope; it changes and
        # counts at hits alone, and whole numbers leave no rounding behind.
        for k in range(class_offsets[c + 1] - 1, class_offsets[c] - 1, -1):
            times = weight[image[k]]
            if times and hit[k] | skip[k]:
                for t in range(steps):
                    if hit[k] >> t & 1:
                        here = found[t] / (seen - skipped[t] + epsilon)
                        envelope[t] = max(envelope[t], here)
                        found[t] -= times
                        if points == 0:
                            total[t] += times * envelope[t]
                        before = found[t] / positives[c]
                        while point[t] >= 0 and recall_points[point[t]] > before:
                            total[t] += envelope[t]
                            point[t] -= 1
                    elif skip[k] >> t & 1:
                        skipped[t] -= times
            seen -= times
        for t in range(steps):
            if points:  # what is left is recall 0
                precision[c, t] = (total[t] + envelope[t] * (point[t] + 1)) / points
            else:
                precision[c, t] = total[t] / positives[c]
    return precision, recall, positives
