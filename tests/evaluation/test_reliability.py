import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smallobj.boxes import BoxTable, Classes, Images, iou_matrix
from smallobj.evaluation import average_precision, match, prepare_truth
from smallobj.evaluation.reliability import outcomes, reliability, reliability_of


def matched_by_hand(truth: BoxTable, table: BoxTable) -> tuple[np.ndarray, np.ndarray]:
    """Hits and boxes that count, by plain loops over images and falling scores; no crowds."""
    hit = np.zeros(len(table), bool)
    for image in range(len(truth.images)):
        rows = np.arange(*table.rows(image).indices(len(table)))
        true = truth.rows(image)
        iou = iou_matrix(table.xyxy[rows], truth.xyxy[true])
        iou[table.label[rows][:, None] != truth.label[true]] = -1
        for row in np.argsort(-table.score[rows], kind="stable"):
            if iou.shape[1] and iou[row].max() >= 0.5:
                hit[rows[row]] = True
                iou[:, len(iou[row]) - 1 - np.argmax(iou[row][::-1])] = -1
    return hit


def test_outcomes_by_row_are_those_of_a_plain_loop(random_pair):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(30):
        truth, table = random_pair(rng, images=5, crowds=False, side=60)
        found = outcomes(truth, table)
        assert found.counted.all()
        np.testing.assert_array_equal(found.hit, matched_by_hand(truth, table))
        hits += found.hit.sum()
    assert hits > 100


def test_hits_and_false_boxes_add_up_to_what_average_precision_counts(random_pair):
    truth, table = random_pair(np.random.default_rng(1), images=40)
    found = outcomes(truth, table)
    matches = match(prepare_truth(truth), table, [0.5], max_detections=None)
    precision = average_precision(matches)
    recall = np.bincount(table.label[found.hit], minlength=len(table.classes))
    wanted = precision.positives > 0
    np.testing.assert_allclose(
        recall[wanted] / precision.positives[wanted], precision.recall[wanted, 0]
    )
    assert 0 < (~found.counted).sum() < len(table)
    assert not (found.hit & ~found.counted).any()


def test_the_error_is_that_of_a_direct_computation():
    rng = np.random.default_rng(2)
    score = rng.random(1000)  # no two are equal: 10 bins hold 100 each
    hit = rng.random(1000) < score**2
    found = reliability_of(score, hit, bins=10)
    order = np.argsort(score).reshape(10, 100)
    error = np.abs(score[order].mean(axis=1) - hit[order].mean(axis=1)).mean()
    assert found.error == pytest.approx(error)
    assert found.count.tolist() == [100] * 10
    width = np.floor(score * 10)
    parts = [
        (width == b).mean() * abs(score[width == b].mean() - hit[width == b].mean())
        for b in range(10)
    ]
    assert found.width_error == pytest.approx(sum(parts))
    assert found.brier == pytest.approx(((score - hit) ** 2).mean())
    likelihood = np.where(hit, score, 1 - score)
    assert found.log_loss == pytest.approx(-np.log(likelihood).mean(), abs=1e-6)


def test_scores_that_are_the_probability_have_no_error_and_those_moved_have_the_move():
    rng = np.random.default_rng(3)
    probability = rng.beta(0.5, 2, 200_000)
    hit = rng.random(200_000) < probability
    assert reliability_of(probability, hit).error < 0.004
    moved = reliability_of(probability * 0.5, hit)
    assert moved.error == pytest.approx(probability.mean() / 2, abs=0.004)
    assert moved.width_error == pytest.approx(probability.mean() / 2, abs=0.004)


def test_equal_scores_share_a_bin():
    found = reliability_of(np.full(50, 0.3), np.arange(50) < 20, bins=15)
    assert found.count.tolist() == [50]
    assert found.error == pytest.approx(0.1)


@given(
    hnp.arrays(float, st.integers(1, 60), elements=st.sampled_from([0, 0.1, 0.25, 0.5, 0.999, 1])),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
)
def test_the_curve_holds_every_box_once(score, bins, seed):
    hit = np.random.default_rng(seed).random(len(score)) < 0.5
    found = reliability_of(score, hit, bins=bins)
    assert found.count.sum() == found.boxes == len(score)
    assert found.rate @ found.count == pytest.approx(found.hits)
    assert found.score @ found.count == pytest.approx(score.sum())
    assert (np.diff(found.score) > 0).all()
    assert len(found.count) <= bins
    assert 0 <= found.error <= 1
    assert 0 <= found.width_error <= 1
    assert np.isfinite(found.log_loss)


def test_no_boxes_have_no_error_to_tell():
    images, classes = Images.of(["a"]), Classes.of(["x"])
    truth = BoxTable.empty(images, classes, scored=False)
    found = reliability(truth, BoxTable.empty(images, classes, scored=True))
    assert (found.boxes, len(found.score)) == (0, 0)
    assert np.isnan([found.error, found.width_error, found.brier, found.log_loss]).all()
    with pytest.raises(ValueError, match="no score"):
        reliability(truth, truth)
    with pytest.raises(ValueError, match="bin"):
        reliability_of(np.ones(1), np.ones(1, bool), bins=0)
