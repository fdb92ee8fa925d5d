# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""Compiled sorting of row numbers by falling keys, equal keys in the order they had."""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled

_INSERTION = 24  # shorter stretches are sorted by insertion, longer ones merged
MANY = 64  # numbers in order from which on they are dealt into buckets before they are sorted
_RANKED = 128  # shorter stretches of numbers in order are sorted by counting what is higher


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
def sort_numbers(
    key: Array, order: NDArray[np.int64], spare: NDArray[np.int64], low: int, high: int
) -> None:
    """Fill order[low:high] with the numbers low to high so that key[order] falls, ties in order.

    Counting the higher keys takes more comparisons than sorting, and none that a branch hangs on.
    """
    if high - low > _RANKED:
        for k in range(low, high):
            order[k] = k
        sort_falling(key, order, spare, low, high)
        return
    stretch = key[low:high]
    for k in range(high - low):
        own = stretch[k]
        rank = np.int64(low)
        for other in range(high - low):
            rank += np.int64(stretch[other] > own)
        for other in range(k):
            rank += np.int64(stretch[other] == own)
        order[rank] = low + k


@compiled
def spread_falling(
    key: Array, order: NDArray[np.int64], spare: NDArray[np.int64], low: int, high: int
) -> bool:
    """`sort_numbers` by as many buckets as keys; False, with nothing done, where they are unfit.

    The buckets are even in the root of the key, as low scores are many. `order` and `spare` are two
    arrays.
    """
    lowest, highest = key[low], key[low]
    for k in range(low, high):
        lowest, highest = min(lowest, key[k]), max(highest, key[k])
        spare[k] = 0
    if not 1e-100 < highest - lowest < 1e100:
        return False
    last, scale = high - low - 1, 1 / (highest - lowest)
    for k in range(low, high):
        spare[high - 1 - int(min(np.sqrt((key[k] - lowest) * scale), 1.0) * last)] += 1
    before, fullest = low, 0
    for k in range(low, high):
        count = spare[k]
        spare[k] = before
        before += count
        fullest = max(fullest, count)
    for k in range(low, high):
        bucket = high - 1 - int(min(np.sqrt((key[k] - lowest) * scale), 1.0) * last)
        order[spare[bucket]] = k
        spare[bucket] += 1
    if fullest > _INSERTION:
        sort_falling(key, order, spare, low, high)
        return True
    for i in range(low + 1, high):
        moved = order[i]
        j = i
        while j > low and key[order[j - 1]] < key[moved]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = moved
    return True


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


@compiled
def best_first(
    key: Array,
    order: NDArray[np.int64],
    spare: NDArray[np.int64],
    value: Array,
    count: int,
    cap: int,
) -> int:
    """Bring the `cap` highest of order[:count] to its front, sorted as above; returns how many.

    order[:count] rises, so that equal keys stand by rising number. value: room for as many keys.
    """
    if count > cap:
        for k in range(count):
            value[k] = key[order[k]]
        limit = _nth_highest(value, count, cap)
        above = 0
        for k in range(count):
            above += key[order[k]] > limit
        equal, kept = cap - above, 0
        for k in range(count):
            c = order[k]
            if key[c] > limit:
                order[kept] = c
                kept += 1
            elif key[c] == limit and equal > 0:
                order[kept] = c
                kept += 1
                equal -= 1
        count = cap
    if count > _RANKED:
        sort_falling(key, order, spare, 0, count)
        return count
    for k in range(count):
        value[k] = key[order[k]]
    sort_numbers(value, spare, spare, 0, count)
    for k in range(count):
        spare[k] = order[spare[k]]
    for k in range(count):
        order[k] = spare[k]
    return count


@compiled
def _nth_highest(value: Array, count: int, nth: int) -> float:
    """The nth highest of value[:count], by quickselect in place."""
    low, high, wanted = 0, count - 1, nth - 1
    while low < high:
        pivot = value[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while value[i] > pivot:
                i += 1
            while value[j] < pivot:
                j -= 1
            if i <= j:
                value[i], value[j] = value[j], value[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return value[wanted]
