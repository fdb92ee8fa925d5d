"""Our own metric against a plain implementation that shares nothing with it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.evaluation import (
    METRICS,
    average_precision,
    map_score,
    match,
    mean_precision,
    mean_precisions,
    prepare_truth,
    thresholds_of,
)

THRESHOLDS = {
    "map50": [0.5],
    "map75": [0.75],
    "map50_95": [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
}


def plain_overlap(a, b, crowd):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return shared / area_a if crowd else shared / (area_a + area_b - shared)


def plain_outcomes(truth, predictions, label, threshold, cap):
    """Every kept detection of a class as (score, "hit" | "miss" | "ignored"), in no order."""
    outcomes = []
    for i in range(len(truth.images)):
        rows = sorted(range(*predictions.offsets[i : i + 2]), key=lambda r: -predictions.score[r])
        true = [g for g in range(*truth.offsets[i : i + 2]) if truth.label[g] == label]
        taken = set()
        for row in [r for r in rows[:cap] if predictions.label[r] == label]:
            choices = []
            for g in true:
                crowd = truth.ignore is not None and bool(truth.ignore[g])
                overlap = plain_overlap(predictions.xyxy[row], truth.xyxy[g], crowd)
                if overlap >= threshold and (crowd or g not in taken):
                    choices.append((not crowd, overlap, g))
            if choices:
                counts, _, g = max(choices)
                taken.add(g)
                outcomes.append((predictions.score[row], "hit" if counts else "ignored"))
            else:
                outcomes.append((predictions.score[row], "miss"))
    return outcomes


def plain_average_precision(outcomes, positives):
    """The area under the envelope, by its definition: at each recall the best precision beyond."""
    ordered = sorted(outcomes, key=lambda one: -one[0])  # stable: ties stay by image and row
    points = []
    hits = misses = 0
    for _, outcome in ordered:
        hits += outcome == "hit"
        misses += outcome == "miss"
        if outcome != "ignored":
            points.append((hits / positives, hits / (hits + misses)))
    area, last = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points}):
        area += (recall - last) * max(p for r, p in points if r >= recall)
        last = recall
    return area


def plain_map(truth, predictions, metric, cap):
    values = []
    for label in range(len(truth.classes)):
        wanted = truth.label == label
        if truth.ignore is not None:
            wanted &= ~truth.ignore
        for threshold in THRESHOLDS[metric] if wanted.any() else ():
            outcomes = plain_outcomes(truth, predictions, label, threshold, cap)
            values.append(plain_average_precision(outcomes, wanted.sum()))
    return float(np.mean(values)) if values else float("nan")


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(METRICS),
    cap=st.sampled_from([1, 3, 100]),
    shape=st.fixed_dictionaries(
        {
            "score_levels": st.sampled_from([2, 10, None]),
            "side": st.sampled_from([8, 60]),
            "crowds": st.booleans(),
        }
    ),
)
def test_equals_a_plain_implementation(random_pair, seed, metric, cap, shape):
    truth, predictions = random_pair(np.random.default_rng(seed), **shape)
    expected = plain_map(truth, predictions, metric, cap)
    assert map_score(truth, predictions, metric, cap) == pytest.approx(
        expected, abs=1e-12, nan_ok=True
    )


def table(images, boxes, scores=None, ignore=None):
    """One class; boxes as (image, x1, y1, x2, y2)."""
    return BoxTable.build(
        images=Images.of([str(i) for i in range(images)]),
        classes=Classes.of(["thing"]),
        image_index=np.array([b[0] for b in boxes], np.int64),
        xyxy=np.array([b[1:] for b in boxes], float).reshape(-1, 4),
        label=np.zeros(len(boxes), np.int32),
        score=None if scores is None else np.array(scores, float),
        ignore=None if ignore is None else np.array(ignore),
    )


def test_perfect_none_and_nothing_to_find():
    boxes = [(0, 0, 0, 10, 10), (0, 20, 20, 30, 30)]
    truth = table(2, boxes)
    assert map_score(truth, table(2, boxes, [0.5, 0.5]), "map50_95") == 1.0
    assert map_score(truth, table(2, [], [])) == 0.0
    assert np.isnan(map_score(table(2, []), table(2, boxes, [0.5, 0.5])))
    assert np.isnan(map_score(table(0, []), table(0, [], [])))


def test_a_second_detection_of_one_box_is_false():
    truth = table(1, [(0, 0, 0, 10, 10), (0, 50, 0, 60, 10)])
    twice = table(1, [(0, 0, 0, 10, 10)] * 2 + [(0, 50, 0, 60, 10)], [0.9, 0.8, 0.7])
    assert map_score(truth, twice) == pytest.approx((1 + 2 / 3) / 2)


def test_a_detection_takes_the_free_box_where_the_best_is_taken():
    truth = table(1, [(0, 0, 0, 10, 10), (0, 0, 2, 10, 12)])
    both_on_the_first = table(1, [(0, 0, 0, 10, 10), (0, 0, 0, 10, 10)], [0.9, 0.8])
    assert map_score(truth, both_on_the_first) == 1.0


def test_ignored_regions_count_neither_for_nor_against():
    truth = table(1, [(0, 0, 0, 10, 10), (0, 40, 40, 80, 80)], ignore=[False, True])
    inside = table(
        1, [(0, 45, 45, 55, 55), (0, 60, 60, 70, 70), (0, 0, 0, 10, 10)], [0.9, 0.8, 0.7]
    )
    assert map_score(truth, inside) == 1.0


def test_the_cap_keeps_the_best_of_an_image_and_the_first_of_equals():
    truth = table(1, [(0, 0, 0, 10, 10)])
    boxes = [(0, 50, 50, 60, 60), (0, 0, 0, 10, 10)]
    assert map_score(truth, table(1, boxes, [0.4, 0.5]), max_detections=1) == 1.0
    assert map_score(truth, table(1, boxes, [0.5, 0.5]), max_detections=1) == 0.0
    assert map_score(truth, table(1, boxes[::-1], [0.5, 0.5]), max_detections=1) == 1.0
    assert map_score(truth, table(1, boxes, [0.5, 0.5]), max_detections=None) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_weights_of_0_and_1_score_a_subset_of_images(random_pair, seed):
    rng = np.random.default_rng(seed)
    truth, predictions = random_pair(rng, images=12)
    chosen = np.flatnonzero(rng.random(12) < 0.5)
    matches = match(prepare_truth(truth), predictions, thresholds_of("map50_95"))
    weight = np.isin(np.arange(12), chosen)
    expected = map_score(truth.take_images(chosen), predictions.take_images(chosen), "map50_95")
    assert mean_precision(matches, weight=weight) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("ap", ["area", "coco101", "voc11"])
@pytest.mark.parametrize("seed", range(3))
def test_a_weight_is_as_many_copies_of_the_image(random_pair, seed, ap):
    rng = np.random.default_rng(seed)
    truth, predictions = random_pair(rng, images=8, score_levels=None)
    weight = rng.integers(0, 4, 8)
    index = np.repeat(np.arange(8), weight)
    images = Images.of([str(i) for i in range(len(index))])
    copies = [
        BoxTable.build(
            images=images,
            classes=t.classes,
            image_index=np.concatenate(
                [np.full(len(t.xyxy[t.rows(i)]), k) for k, i in enumerate(index)]
            ),
            **{
                name: np.concatenate([getattr(t, name)[t.rows(i)] for i in index])
                for name in ("xyxy", "label", "score", "ignore")
                if getattr(t, name) is not None
            },
        )
        for t in (truth, predictions)
    ]
    levels = thresholds_of("map50_95")
    weighted = average_precision(
        match(prepare_truth(truth), predictions, levels), weight=weight, ap=ap
    )
    copied = average_precision(match(prepare_truth(copies[0]), copies[1], levels), ap=ap)
    np.testing.assert_array_equal(weighted.positives, copied.positives)
    np.testing.assert_allclose(weighted.recall, copied.recall, atol=1e-12)
    np.testing.assert_allclose(weighted.average, copied.average, atol=1e-12)


def test_eleven_points_of_a_known_curve():
    """Hits at rank 1 and 3 of two true boxes: envelope 1 up to recall 0.5, then 2/3."""
    truth = table(1, [(0, 0, 0, 10, 10), (0, 50, 0, 60, 10)])
    boxes = [(0, 0, 0, 10, 10), (0, 90, 90, 99, 99), (0, 50, 0, 60, 10)]
    matches = match(prepare_truth(truth), table(1, boxes, [0.9, 0.8, 0.7]), [0.5])
    value = average_precision(matches, ap="voc11").average[0, 0]
    assert value == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_row_order_does_not_matter_where_scores_differ(random_pair):
    rng = np.random.default_rng(5)
    truth, predictions = random_pair(rng, score_levels=None, images=20)
    shuffled = rng.permutation(len(predictions))
    again = BoxTable.build(
        images=predictions.images,
        classes=predictions.classes,
        image_index=predictions.image_index[shuffled],
        xyxy=predictions.xyxy[shuffled],
        label=predictions.label[shuffled],
        score=predictions.score[shuffled],
    )
    assert map_score(truth, again, "map50_95") == map_score(truth, predictions, "map50_95")


def test_threads_and_read_only_columns_change_nothing(random_pair):
    truth, predictions = random_pair(np.random.default_rng(6), images=50)
    prepared, levels = prepare_truth(truth), thresholds_of("map50_95")
    alone = match(prepared, predictions, levels, threads=1)
    for column in ("offsets", "xyxy", "label", "score"):
        getattr(predictions, column).flags.writeable = False
    together = match(prepared, predictions, levels, threads=3)
    for column in ("hit", "skip", "rank", "image", "class_offsets"):
        np.testing.assert_array_equal(getattr(alone, column), getattr(together, column))


def test_what_does_not_fit_together_is_refused(random_pair):
    truth, predictions = random_pair(np.random.default_rng(7))
    with pytest.raises(ValueError, match="images differ"):
        map_score(truth, predictions.images_slice(0, 3))
    with pytest.raises(ValueError, match="classes differ"):
        map_score(truth, replace(predictions, classes=Classes.of(["x", "y", "z"])))
    with pytest.raises(ValueError, match="no score"):
        map_score(truth, truth)
    with pytest.raises(ValueError, match=r"unknown metric 'map'; known: map50, map75, map50_95"):
        map_score(truth, predictions, "map")
    matches = match(prepare_truth(truth), predictions, [0.5])
    with pytest.raises(ValueError, match="unknown interpolation"):
        average_precision(matches, ap="all")
    with pytest.raises(ValueError, match="whole numbers"):
        average_precision(matches, weight=np.ones(6))
    with pytest.raises(ValueError, match="whole numbers"):
        average_precision(matches, weight=np.ones(5, np.int64))
    with pytest.raises(ValueError, match="thresholds"):
        match(prepare_truth(truth), predictions, [])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    parts=st.sampled_from([0, 1, 4, 7, 130]),
    levels=st.sampled_from(list(THRESHOLDS)),
)
def test_many_weightings_at_once_score_as_one_by_one(random_pair, seed, parts, levels):
    rng = np.random.default_rng(seed)
    truth, predictions = random_pair(rng, images=10, classes=4)
    matches = match(prepare_truth(truth), predictions, thresholds_of(levels), max_detections=6)
    weights = rng.integers(0, 3, (parts, 10)) * rng.integers(0, 2, (parts, 1))
    expected = [mean_precision(matches, weight=weight) for weight in weights]
    for threads in (1, 3):
        together = mean_precisions(matches, weights, threads=threads)
        assert together.shape == (parts,)
        np.testing.assert_allclose(together, expected, rtol=0, atol=1e-15)


def test_weights_too_large_to_count_together_are_scored_one_by_one(random_pair):
    truth, predictions = random_pair(np.random.default_rng(3))
    matches = match(prepare_truth(truth), predictions, [0.5])
    weights = np.full((5, 6), 2**40)
    assert mean_precisions(matches, weights).tolist() == [mean_precision(matches)] * 5
    with pytest.raises(ValueError, match="weight is not 5 x 6 whole numbers"):
        mean_precisions(matches, weights[:, :5])
