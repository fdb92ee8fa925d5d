from dataclasses import replace

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.evaluation import (
    bootstrap_interval,
    bootstrap_scores,
    interval_of,
    map_score,
    match,
    paired_bootstrap,
    prepare_truth,
)


def found_or_not(found):
    """One class, one true box an image; images where it is found, without a false box."""
    count = len(found)
    known = {"images": Images.of([str(i) for i in range(count)]), "classes": Classes.of(["thing"])}
    box = np.array([[0.0, 0, 10, 10]])
    truth = BoxTable.build(
        **known, image_index=np.arange(count), xyxy=box.repeat(count, 0), label=np.zeros(count)
    )
    hits = np.flatnonzero(found)
    predictions = BoxTable.build(
        **known,
        image_index=hits,
        xyxy=box.repeat(len(hits), 0),
        label=np.zeros(len(hits)),
        score=np.full(len(hits), 0.5),
    )
    return truth, predictions


def test_the_interval_is_that_of_a_proportion():
    """Without false boxes the score is the share of images found, a binomial proportion."""
    truth, predictions = found_or_not(np.arange(400) < 300)
    low, high = bootstrap_interval(truth, predictions, samples=2000)
    spread = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - spread, abs=0.005)
    assert high == pytest.approx(0.75 + spread, abs=0.005)


def noisy_pair(seed, images=40):
    """Half of the true boxes found, and so many false boxes that chance lifts the envelope."""
    rng = np.random.default_rng(seed)
    truth, _ = found_or_not(np.ones(images, bool))
    image = np.concatenate([np.flatnonzero(rng.random(images) < 0.5), np.repeat(range(images), 4)])
    xyxy = np.full((len(image), 4), [50.0, 50, 60, 60])
    xyxy[: -4 * images] = [0, 0, 10, 10]
    predictions = BoxTable.build(
        images=truth.images,
        classes=truth.classes,
        image_index=image,
        xyxy=xyxy,
        label=np.zeros(len(image)),
        score=rng.random(len(image)),
    )
    return truth, predictions


def test_intervals_hold_the_mean_score_of_other_images_19_times_in_20():
    pairs = [noisy_pair(seed) for seed in range(100)]
    expected = np.mean([map_score(truth, predictions) for truth, predictions in pairs])
    intervals = [bootstrap_interval(*pair, samples=200) for pair in pairs]
    assert 0.88 <= np.mean([low <= expected <= high for low, high in intervals]) <= 0.99


def test_draws_depend_on_the_seed_and_not_on_the_threads(random_pair):
    truth, predictions = random_pair(np.random.default_rng(0), images=20)
    matches = match(prepare_truth(truth), predictions, [0.5, 0.75])
    alone = bootstrap_scores(matches, samples=30, seed=1, threads=1)
    assert alone.shape == (30, 2)
    np.testing.assert_array_equal(alone, bootstrap_scores(matches, samples=30, seed=1, threads=3))
    assert (alone != bootstrap_scores(matches, samples=30, seed=2)).any()


def test_a_pair_is_closer_than_its_members():
    found = np.arange(200) < 100
    truth, b = found_or_not(found)
    found[100:110] = True
    _, a = found_or_not(found)
    difference = paired_bootstrap(truth, a, b, samples=500)
    assert difference.low > 0
    assert difference.mean == pytest.approx(0.05)
    interval = bootstrap_interval(truth, a, samples=500)
    assert difference.high - difference.low < (interval.high - interval.low) / 2
    assert interval.low < map_score(truth, a) < interval.high
    assert paired_bootstrap(truth, a, a, samples=20) == (0, 0, 0)


def test_draws_without_a_true_box_are_left_out():
    truth, predictions = found_or_not([True, False, False])
    lonely = truth.filter_rows(np.array([True, False, False]))
    scores = bootstrap_scores(match(prepare_truth(lonely), predictions, [0.5]), samples=50)
    assert 0 < np.isnan(scores).sum() < 50
    assert interval_of(scores[:, 0], 1.0) == (1, 1)
    nothing = replace(lonely, ignore=np.array([True]))
    assert np.isnan(bootstrap_interval(nothing, predictions, samples=10)).all()
