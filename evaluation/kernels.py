# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""The compiled kernels of matching, all in this file: the cache of one is renewed with its file.

A detection's outcome at up to 31 IoU thresholds is two bit fields: bit t of `hit` where it found a
true box at threshold t, bit t of `skip` where it counts neither as found nor as false.
"""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled

_DIGIT_BITS = 11
_BASE = 1 << _DIGIT_BITS
_EXACT_DIGITS, _FEW_DIGITS = 6, 3  # of a score's 64 bits, and of those that nearly always suffice
_ROW_BITS = 31
_SHORT = 16  # a list that insertion sorts quickest


@compiled
def order_by_falling_score(score: Array) -> NDArray[np.int32]:
    """Row numbers by falling score, equal scores by rising row; [M] to [M], M below 2^31.

    A radix sort by the leading 33 bits in which the scores differ, then by insertion within those
    few that agree in them; where these are many, by all bits.
    """
    rows = len(score)
    if rows == 0:
        return np.empty(0, np.int32)
    key = np.empty(rows, np.uint64)
    _falling_keys(score, key)
    low, high = key[0], key[0]
    for k in range(rows):
        low, high = min(low, key[k]), max(high, key[k])
    spread, bits = high - low, 0
    while bits < 64 and spread >> np.uint64(bits):
        bits += 1
    left_out = max(0, bits - _FEW_DIGITS * _DIGIT_BITS)
    word = np.empty(rows, np.uint64)
    for k in range(rows):
        word[k] = (key[k] - low) >> np.uint64(left_out) << np.uint64(_ROW_BITS) | np.uint64(k)
    word = _sort_words(word, (bits - left_out + _DIGIT_BITS - 1) // _DIGIT_BITS)
    order = np.empty(rows, np.int32)
    for k in range(rows):
        order[k] = word[k] & np.uint64((1 << _ROW_BITS) - 1)
    if left_out and not _insert(order, word, key):
        return _sort_exactly(key)
    return order


@compiled
def _falling_keys(score: Array, key: NDArray[np.uint64]) -> None:
    """Whole numbers that rise as the scores fall."""
    sign = np.uint64(1) << np.uint64(63)
    bits = (score + 0.0).view(np.uint64)  # adding 0 makes -0 equal to 0
    for row in range(len(score)):
        key[row] = bits[row] if bits[row] & sign else ~(bits[row] | sign)


@compiled
def _sort_words(word: NDArray[np.uint64], digits: int) -> NDArray[np.uint64]:
    """Words by their digits above the row number, in the order given where these are equal."""
    rows, mask = len(word), np.uint64(_BASE - 1)
    count = np.zeros((digits, _BASE), np.int64)
    for k in range(rows):
        for digit in range(digits):
            count[digit, (word[k] >> np.uint64(_ROW_BITS + digit * _DIGIT_BITS)) & mask] += 1
    following = np.empty_like(word)
    for digit in range(digits):
        shift = np.uint64(_ROW_BITS + digit * _DIGIT_BITS)
        start = np.cumsum(count[digit]) - count[digit]
        for k in range(rows):
            value = (word[k] >> shift) & mask
            following[start[value]] = word[k]
            start[value] += 1
        word, following = following, word
    return word


@compiled
def _insert(order: NDArray[np.int32], word: NDArray[np.uint64], key: NDArray[np.uint64]) -> bool:
    """Put rows whose words agree above the row number in order of key; False: too many moves."""
    moves, allowed = 0, 4 * len(order)
    for k in range(1, len(order)):
        prefix = word[k] >> np.uint64(_ROW_BITS)
        row, at = order[k], k
        while (
            at > 0
            and word[at - 1] >> np.uint64(_ROW_BITS) == prefix
            and key[order[at - 1]] > key[row]
        ):
            order[at] = order[at - 1]
            at -= 1
            moves += 1
            if moves > allowed:
                return False
        order[at] = row
    return True


@compiled
def _sort_exactly(key: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Rows by rising key, equal keys by rising row."""
    rows, mask = len(key), np.uint64(_BASE - 1)
    key, order = key.copy(), np.arange(rows).astype(np.int32)
    next_key, next_order = np.empty_like(key), np.empty_like(order)
    for digit in range(_EXACT_DIGITS):
        shift = np.uint64(digit * _DIGIT_BITS)
        start = np.zeros(_BASE + 1, np.int64)
        for k in range(rows):
            start[((key[k] >> shift) & mask) + np.uint64(1)] += 1
        start = np.cumsum(start)
        for k in range(rows):
            value = (key[k] >> shift) & mask
            next_key[start[value]], next_order[start[value]] = key[k], order[k]
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
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Detections by class and falling score, at most the best `per_image` of an image.

    offsets [N + 1], label [M], score [M]. Returns the K rows kept, their images [K], and
    class_offsets [classes + 1] into both.
    """
    rows = len(score)
    falling = order_by_falling_score(score)
    image_of, crowded = np.empty(rows, np.int32), False
    for image in range(len(offsets) - 1):
        image_of[offsets[image] : offsets[image + 1]] = image
        crowded |= offsets[image + 1] - offsets[image] > per_image
    if crowded:
        falling = _best_of_each_image(falling, image_of, len(offsets) - 1, per_image)
    class_offsets = np.zeros(classes + 1, np.int64)
    for row in falling:
        class_offsets[label[row] + 1] += 1
    for c in range(classes):
        class_offsets[c + 1] += class_offsets[c]
    following = class_offsets[:-1].copy()
    kept, kept_image = np.empty_like(falling), np.empty_like(falling)
    for row in falling:
        at = following[label[row]]
        following[label[row]] = at + 1
        kept[at], kept_image[at] = row, image_of[row]
    return kept, kept_image, class_offsets


@compiled
def _best_of_each_image(
    falling: NDArray[np.int32], image_of: NDArray[np.int32], images: int, per_image: int
) -> NDArray[np.int32]:
    """Rows in the order given, of each image the first `per_image`."""
    kept, count, seen = np.empty_like(falling), 0, np.zeros(images, np.int64)
    for row in falling:
        image = image_of[row]
        seen[image] += 1
        if seen[image] <= per_image:
            kept[count] = row
            count += 1
    return kept[:count].copy()


@compiled
def group_by_image(
    image: NDArray[np.int32], images: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Detections by image, each image's in rising order.

    image [K]. Returns positions [K], and the images' offsets [N + 1] into them.
    """
    offsets = np.zeros(images + 1, np.int64)
    for i in image:
        offsets[i + 1] += 1
    for i in range(images):
        offsets[i + 1] += offsets[i]
    following, position = offsets[:-1].copy(), np.empty(len(image), np.int32)
    for k in range(len(image)):
        at = following[image[k]]
        following[image[k]] = at + 1
        position[at] = k
    return position, offsets


@compiled
def _fitting(thresholds: Array, near: NDArray[np.int64], overlap: Array, found: int) -> int:
    """Bits of the thresholds that the first of `found` near boxes satisfies; sorts them if several.

    The highest overlap comes first, of equal ones the later box.
    """
    if found > 1:
        _sort_by_overlap(near, overlap, found)
    return _bits(thresholds, overlap[0])


@compiled
def _bits(thresholds: Array, overlap: float) -> int:
    """The thresholds that an overlap satisfies."""
    bits = 0
    for t in range(len(thresholds)):
        bits |= (overlap >= thresholds[t]) << t
    return bits


@compiled
def _sort_by_overlap(near: NDArray[np.int64], overlap: Array, found: int) -> None:
    """The highest overlap first, equal ones in the order given."""
    if found > _SHORT:
        order = np.argsort(-overlap[:found], kind="mergesort")
        near[:found], overlap[:found] = near[:found][order], overlap[:found][order]
        return
    for k in range(1, found):
        g, value, at = near[k], overlap[k], k
        while at > 0 and overlap[at - 1] < value:
            near[at], overlap[at] = near[at - 1], overlap[at - 1]
            at -= 1
        near[at], overlap[at] = g, value


@compiled
def _take(
    near: NDArray[np.int64],
    overlap: Array,
    found: int,
    thresholds: Array,
    wanted: bool,
    counted: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    taken: NDArray[np.int32],
    area_range: int,
    first: int,
    open_bits: int,
    finder: NDArray[np.int32],
    detection: int,
) -> int:
    """Take at each threshold of open_bits the first near box that is free; the bits where one was.

    Only boxes that are counted as `wanted`; a crowd is always free. Marks them in taken [R, G], and
    those that count in finder [R, G] at the first threshold.
    """
    still = open_bits
    for k in range(found):
        if still == 0:
            break
        g = near[k]
        if counted[area_range, g] == wanted:
            now = still if k == 0 else still & _bits(thresholds, overlap[k])
            if not crowd[g]:
                now &= ~taken[area_range, g - first]
                taken[area_range, g - first] |= now
            if wanted and now & 1:
                finder[area_range, g] = detection
            still &= ~now
    return open_bits & ~still


@compiled
def match_images(  # noqa: C901, PLR0912 - calls in its innermost loop cost a third of its speed
    start: int,
    stop: int,
    position: NDArray[np.int32],
    offsets: NDArray[np.int64],
    truth_offsets: NDArray[np.int64],
    truth_label: NDArray[np.int32],
    truth_xyxy: Array,
    truth_crowd: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    row: NDArray[np.int32],
    label: NDArray[np.int32],
    xyxy: Array,
    per_class: int,
    thresholds: Array,
    area_low: Array,
    area_high: Array,
    hit: NDArray[np.int32],
    skip: NDArray[np.int32],
    rank: NDArray[np.int32],
    finder: NDArray[np.int32],
) -> None:
    """Match the detections of images start to stop; fills hit, skip [R, K], rank, finder [R, G].

    position and offsets are those of `group_by_image`, row [K] is that of `order_detections`; label
    [M] and xyxy [M, 4] are the table's. Truth [G] is ordered by image and label; counted [R, G]
    says what is to be found in each area range. thresholds [T]; area_low and area_high [R], square
    pixels, low <= area < high. rank is the position among the detections of an image and class;
    from `per_class` on they are skipped. finder is the detection that found a true box at the first
    threshold.
    """
    ranges, steps, loosest = len(area_low), len(thresholds), thresholds.min()
    all_steps = (1 << steps) - 1
    most = 0
    for i in range(start, stop):
        most = max(most, truth_offsets[i + 1] - truth_offsets[i])
    near, overlap = np.empty(most, np.int64), np.empty(most, np.float64)
    taken = np.empty((ranges, most), np.int32)
    for i in range(start, stop):
        first_row, last_row = truth_offsets[i], truth_offsets[i + 1]
        for a in range(ranges):
            for g in range(last_row - first_row):
                taken[a, g] = 0
        c, seen, low, high = -1, 0, first_row, first_row
        for m in range(offsets[i], offsets[i + 1]):
            k = position[m]
            r = row[k]
            if label[r] != c:  # its true boxes follow on those of the class before
                c, seen, low = label[r], 0, high
                while low < last_row and truth_label[low] < c:
                    low += 1
                high = low
                while high < last_row and truth_label[high] == c:
                    high += 1
            rank[k] = seen
            seen += 1
            if seen > per_class:
                for a in range(ranges):
                    hit[a, k], skip[a, k] = 0, all_steps
                continue
            x1, y1, x2, y2 = xyxy[r, 0], xyxy[r, 1], xyxy[r, 2], xyxy[r, 3]
            area = (x2 - x1) * (y2 - y1)
            found = 0
            for g in range(high - 1, low - 1, -1):
                left, top = truth_xyxy[g, 0], truth_xyxy[g, 1]
                right, bottom = truth_xyxy[g, 2], truth_xyxy[g, 3]
                width, height = min(x2, right) - max(x1, left), min(y2, bottom) - max(y1, top)
                if width > 0 and height > 0:
                    shared = width * height
                    joint = (
                        area if truth_crowd[g] else area + (right - left) * (bottom - top) - shared
                    )
                    if shared / joint >= loosest:
                        near[found], overlap[found] = g, shared / joint
                        found += 1
            open_bits = _fitting(thresholds, near, overlap, found) if found else 0
            for a in range(ranges):
                # without a branch, which the processor would guess wrongly
                hits, skips = 0, all_steps * ((area < area_low[a]) | (area >= area_high[a]))
                if open_bits:
                    hits = _take(
                        near, overlap, found, thresholds, True, counted, truth_crowd, taken, a,
                        first_row, open_bits, finder, k,
                    )  # fmt: skip
                    if hits != open_bits:
                        skips |= _take(
                            near, overlap, found, thresholds, False, counted, truth_crowd, taken,
                            a, first_row, open_bits & ~hits, finder, k,
                        )  # fmt: skip
                hit[a, k], skip[a, k] = hits, skips & ~hits
