# ruff: noqa: PLR0917 - compiled code takes its columns by position
"""The compiled kernels of average precision, all in this file: a cache is renewed with its file.

A detection's outcome at up to 31 IoU thresholds is two bit fields: bit t of `hit` where it found a
true box at threshold t, bit t of `skip` where it counts neither as found nor as false.
"""

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.boxes.compiled import compiled


@compiled
def precision_by_class(
    class_offsets: NDArray[np.int64],
    image: NDArray[np.int32],
    hit: NDArray[np.int32],
    skip: NDArray[np.int32],
    truth_image: NDArray[np.int32],
    truth_label: NDArray[np.int32],
    counted: NDArray[np.bool_],
    weight: NDArray[np.int64],
    steps: int,
    recall_points: Array,
    epsilon: float,
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Average precision of every class and threshold, every image counted `weight` times.

    Detections [K] by class and falling score, with their outcomes in one area range; truth columns
    [G]; weight [N]. recall_points rising, in 0..1: the envelope's mean there; empty: the area under
    it. epsilon is added to the number of detections (pycocotools does). Returns average precision
    and final recall [C, T], NaN where a class has nothing to find, and what it has to find [C].
    """
    classes, points = len(class_offsets) - 1, len(recall_points)
    positives = np.zeros(classes, np.int64)
    for g in range(len(truth_image)):
        if counted[g]:
            positives[truth_label[g]] += weight[truth_image[g]]
    precision, recall = np.full((classes, steps), np.nan), np.full((classes, steps), np.nan)
    found, skipped = np.empty(steps, np.int64), np.empty(steps, np.int64)
    most = 0
    for c in range(classes):
        most = max(most, class_offsets[c + 1] - class_offsets[c])
    event, seen = np.empty((most, 2), np.int32), np.empty(most, np.int64)
    times = np.empty(most, np.int64)
    for c in range(classes):
        if positives[c] == 0:
            continue
        span = class_offsets[c], class_offsets[c + 1]
        events = _collect_events(span, image, hit, skip, weight, event, seen, times, found, skipped)
        for t in range(steps):
            recall[c, t] = found[t] / positives[c]
            precision[c, t] = _precision(
                t, event[:events], seen, times, found[t], skipped[t], positives[c],
                recall_points, epsilon,
            ) / (points if points else positives[c])  # fmt: skip
    return precision, recall, positives


@compiled
def _collect_events(
    span: tuple[int, int],
    image: NDArray[np.int32],
    hit: NDArray[np.int32],
    skip: NDArray[np.int32],
    weight: NDArray[np.int64],
    event: NDArray[np.int32],
    seen: NDArray[np.int64],
    times: NDArray[np.int64],
    found: NDArray[np.int64],
    skipped: NDArray[np.int64],
) -> int:
    """Of a class's detections those that found or skip anything, and the totals [T] of both.

    Fills event with their outcomes (hit, skip), seen with the detections up to each, times with how
    often each counts; returns how many. What is skipped at every threshold might as well not be
    there: it is not even seen.
    """
    steps, events, so_far = len(found), 0, 0
    all_steps = (1 << steps) - 1
    found[:], skipped[:] = 0, 0
    for k in range(span[0], span[1]):
        count = weight[image[k]]
        outcome = hit[k] | skip[k]
        if outcome == 0:
            so_far += count
            continue
        if skip[k] == all_steps:
            continue
        so_far += count
        if count:
            event[events, 0], event[events, 1] = hit[k], skip[k]
            seen[events], times[events] = so_far, count
            events += 1
            for t in range(steps):
                found[t] += count * (hit[k] >> t & 1)
                skipped[t] += count * (skip[k] >> t & 1)
    return events


@compiled
def _precision(
    t: int,
    event: NDArray[np.int32],
    seen: NDArray[np.int64],
    times: NDArray[np.int64],
    found: int,
    skipped: int,
    positives: int,
    recall_points: Array,
    epsilon: float,
) -> float:
    """Sum of the envelope over a class's true boxes found, or over the recall points.

    From the last event back, the best precision so far is the envelope; it changes and counts at
    hits alone, and whole numbers leave no rounding behind.
    """
    envelope, total = 0.0, 0.0
    point = len(recall_points) - 1
    while point >= 0 and recall_points[point] > found / positives:
        point -= 1
    for e in range(len(event) - 1, -1, -1):
        if event[e, 0] >> t & 1:
            envelope = max(envelope, found / (seen[e] - skipped + epsilon))
            found -= times[e]
            if len(recall_points) == 0:
                total += times[e] * envelope
            elif point >= 0 and recall_points[point] > found / positives:
                total += envelope
                point -= 1
                while point >= 0 and recall_points[point] > found / positives:
                    total += envelope
                    point -= 1
        elif event[e, 1] >> t & 1:
            skipped -= times[e]
    return total + envelope * (point + 1)  # what is left is recall 0


@compiled
def areas_by_weight(
    class_offsets: NDArray[np.int64],
    image: NDArray[np.int32],
    hit: NDArray[np.int32],
    skip: NDArray[np.int32],
    truth_image: NDArray[np.int32],
    truth_label: NDArray[np.int32],
    counted: NDArray[np.bool_],
    weights: NDArray[np.int32],
    steps: int,
) -> Array:
    """Area under the envelope of every class and threshold, for W weightings of the images at once.

    weights [N, W]; the other columns as for `precision_by_class`, and equal results, [W, C, T]. The
    innermost loops run over the weightings, which the processor does several of at a time.
    """
    classes, width = len(class_offsets) - 1, weights.shape[1]
    positives = np.zeros((classes, width), np.int32)
    for g in range(len(truth_image)):
        if counted[g]:
            positives[truth_label[g]] += weights[truth_image[g]]
    result = np.full((width, classes, steps), np.nan)
    for c in range(classes):
        span = class_offsets[c], class_offsets[c + 1]
        event, seen = _weighted_events(span, image, hit, skip, weights, steps)
        for t in range(steps):
            total = _areas(t, event, seen, image, hit, skip, weights)
            for p in range(width):
                if positives[c, p]:
                    result[p, c, t] = total[p] / positives[c, p]
    return result


@compiled
def _weighted_events(
    span: tuple[int, int],
    image: NDArray[np.int32],
    hit: NDArray[np.int32],
    skip: NDArray[np.int32],
    weights: NDArray[np.int32],
    steps: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Rows [E] of a class's detections as `_collect_events` has them, and those seen up to each.

    weights [N, W]. What is seen is [E, W].
    """
    width, events, all_steps = weights.shape[1], 0, (1 << steps) - 1
    for k in range(span[0], span[1]):
        events += (hit[k] | skip[k]) != 0 and skip[k] != all_steps
    event, seen = np.empty(events, np.int64), np.empty((events, width), np.int32)
    so_far, at = np.zeros(width, np.int32), 0
    for k in range(span[0], span[1]):
        if skip[k] == all_steps:
            continue
        i = image[k]
        for p in range(width):
            so_far[p] += weights[i, p]
        if hit[k] | skip[k]:
            event[at] = k
            for p in range(width):
                seen[at, p] = so_far[p]
            at += 1
    return event, seen


@compiled
def _areas(
    t: int,
    event: NDArray[np.int64],
    seen: NDArray[np.int32],
    image: NDArray[np.int32],
    hit: NDArray[np.int32],
    skip: NDArray[np.int32],
    weights: NDArray[np.int32],
) -> Array:
    """Sum of a class's envelope over the true boxes found at threshold t, for each weighting [W].

    As `_precision`; an event of weight 0 changes nothing, for what it would put into the envelope
    the hit before it surpasses.
    """
    width = weights.shape[1]
    found, skipped = np.zeros(width, np.int32), np.zeros(width, np.int32)
    for k in event:
        if hit[k] >> t & 1:
            for p in range(width):
                found[p] += weights[image[k], p]
        elif skip[k] >> t & 1:
            for p in range(width):
                skipped[p] += weights[image[k], p]
    envelope, total = np.zeros(width), np.zeros(width)
    for e in range(len(event) - 1, -1, -1):
        k = event[e]
        i = image[k]
        if hit[k] >> t & 1:
            for p in range(width):
                counting = max(seen[e, p] - skipped[p], np.int32(1))  # 0 where nothing was found
                here = found[p] / counting
                envelope[p] = here if here > envelope[p] else envelope[p]
                total[p] += weights[i, p] * envelope[p]
                found[p] -= weights[i, p]
        elif skip[k] >> t & 1:
            for p in range(width):
                skipped[p] -= weights[i, p]
    return total


@compiled
def count_hits(
    class_offsets: NDArray[np.int64],
    hit: NDArray[np.int32],
    rank: NDArray[np.int32],
    best: int,
    steps: int,
) -> NDArray[np.int64]:
    """Hits of every class at every threshold [C, T] among detections of a rank below `best`."""
    found = np.zeros((len(class_offsets) - 1, steps), np.int64)
    for c in range(len(class_offsets) - 1):
        for k in range(class_offsets[c], class_offsets[c + 1]):
            if hit[k] and rank[k] < best:
                for t in range(steps):
                    found[c, t] += hit[k] >> t & 1
    return found
