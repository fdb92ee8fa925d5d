"""What runs found and how different they are: by hand, by brute force, against scipy and numpy."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from smallobj.boxes import BoxTable, Classes, Images, iou_matrix
from smallobj.evaluation import (
    Overlap,
    compare_runs,
    comparison_record,
    found_boxes,
    map_score,
    match,
    objects_csv,
    paired_bootstrap,
    prepare_truth,
    rank_correlation,
    shared_boxes,
    working_point,
)

KNOWN = {"images": Images.of(["a", "b"]), "classes": Classes.of(["nut", "bolt"])}
TRUE = [(0, 0, 0, 10), (0, 1, 20, 20), (1, 0, 0, 40), (1, 0, 50, 40)]  # image, class, corner, side
NAMES = ("first", "second", "third")


def table(rows, scores=None):
    """Squares as (image, class, corner, side)."""
    corner = np.array([row[2] for row in rows], float)
    side = np.array([row[3] for row in rows], float)
    return BoxTable.build(
        **KNOWN,
        image_index=np.array([row[0] for row in rows], np.int64),
        xyxy=np.stack([corner, corner, corner + side, corner + side], axis=1),
        label=np.array([row[1] for row in rows], np.int32),
        score=None if scores is None else np.array(scores, float),
    )


FAR = 200  # a corner where there is no true box
FIRST = table([*TRUE[:3], (0, 0, FAR, 10)], [0.9, 0.8, 0.3, 0.5])
SECOND = table([TRUE[0], TRUE[3], (0, 0, FAR, 11), (1, 1, FAR, 9)], [0.7, 0.6, 0.65, 0.1])
THIRD = table([TRUE[0], (1, 0, FAR, 10)], [0.4, 0.2])


def test_counts_of_a_case_worked_out_by_hand():
    compared = compare_runs(table(TRUE), [FIRST, SECOND, THIRD], samples=0)
    # the first is best at score 0.3: three of four found, one false alarm
    assert [run.at.threshold for run in compared.runs] == [0.3, 0.6, 0.2]
    assert [run.at.found for run in compared.runs] == [3, 2, 1]
    assert [run.at.false_alarms for run in compared.runs] == [1, 1, 1]
    assert compared.runs[0].best_f1.f1 == pytest.approx(2 * 3 / (4 + 4))
    pair = compared.pair(1, 0)
    assert pair.at == Overlap(both=1, only_first=2, only_second=1, neither=0)
    assert (pair.at.jaccard, pair.at.gain, pair.at.together) == (1 / 4, 1, 4)
    assert pair.at.yule_q == -1
    assert (pair.alarms_of_first, pair.alarms_of_second) == (1, 1)
    assert compared.pair(0, 2).alarms_of_first == 0
    every, smallest = compared.at[0], compared.at[1]
    assert (every.boxes, every.every, every.none, every.only) == (4, 1, 0, (2, 1, 0))
    assert (smallest.size, smallest.boxes, smallest.only) == ("<16 px", 1, (0, 0, 0))
    assert pair.at_by_size["32-64 px"] == Overlap(both=0, only_first=1, only_second=1, neither=0)
    assert (compared.best_pair(), compared.best_alone()) == (pair, 0)
    assert compared.runs[0].intervals == pair.above == {}


def test_every_run_can_stand_at_its_own_best_f1():
    compared = compare_runs(table(TRUE), [SECOND, FIRST], fairness="f1", samples=0)
    for run in compared.runs:
        assert run.at == run.best_f1
    strict = compare_runs(table(TRUE), [THIRD, FIRST], samples=0)
    # the third is best at 0.4 without a false alarm: so the first is cut above its own at 0.5
    assert [run.at.threshold for run in strict.runs] == [0.4, 0.8]


def filtered_counts(truth, predictions, threshold):
    """Found and false alarms of only the boxes at or above a threshold, matched from scratch."""
    kept = predictions.filter_rows(predictions.score >= threshold)
    matches = match(prepare_truth(truth), kept, [0.5], max_detections=None)
    hit, skip = matches.hit[0] & 1, matches.skip[0] & 1
    return int(hit.sum()), int((1 - (hit | skip)).sum())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 10, None]))
def test_a_working_point_is_the_best_of_all_thresholds_tried_one_by_one(random_pair, seed, levels):
    truth, predictions = random_pair(np.random.default_rng(seed), score_levels=levels, side=60)
    matches = match(prepare_truth(truth), predictions, [0.5], max_detections=None)
    total = int(matches.counted[0].sum())
    tried = {s: filtered_counts(truth, predictions, s) for s in np.unique(predictions.score)}
    best = working_point(matches, predictions)
    f1 = {s: 2 * found / max(found + alarms + total, 1) for s, (found, alarms) in tried.items()}
    assert 2 * best.found / max(best.found + best.false_alarms + total, 1) == max([*f1.values(), 0])
    for most in (0, 3, 10):
        allowed = [s for s, (_, alarms) in tried.items() if alarms <= most]
        # a lower threshold never makes fewer false alarms
        point = working_point(matches, predictions, most_false_alarms=most)
        assert point.threshold == min(allowed, default=np.inf)
        if allowed:
            assert (point.found, point.false_alarms) == tried[point.threshold]
            at = found_boxes(matches, predictions).found_at(point.threshold)
            assert at.sum() == point.found


@pytest.mark.parametrize("seed", range(5))
def test_found_boxes_hold_the_score_and_iou_of_a_box_of_their_image_and_class(random_pair, seed):
    truth, predictions = random_pair(np.random.default_rng(seed), side=60)
    matches = match(prepare_truth(truth), predictions, [0.5])
    found, true = found_boxes(matches, predictions), matches.truth
    rows = found.row[found.found]
    assert len(set(rows)) == len(rows) == (matches.hit[0] & 1).sum() > 0
    np.testing.assert_array_equal(predictions.image_index[rows], true.image[found.found])
    np.testing.assert_array_equal(predictions.label[rows], true.label[found.found])
    overlap = np.diagonal(iou_matrix(predictions.xyxy[rows], true.xyxy[found.found]))
    np.testing.assert_allclose(found.iou[found.found], overlap)
    assert np.isnan(found.score[~found.found]).all()


@pytest.mark.parametrize("seed", range(5))
def test_shared_boxes_are_those_of_all_pairs_tried(random_pair, seed):
    rng = np.random.default_rng(seed)
    b, a = random_pair(rng, images=20, side=20)
    a_kept, b_kept = rng.random(len(a)) < 0.7, rng.random(len(b)) < 0.7
    alike = iou_matrix(a.xyxy, b.xyxy) >= 0.5
    alike &= a.label[:, None] == b.label[None]
    alike &= a.image_index[:, None] == b.image_index[None]
    alike &= a_kept[:, None] & b_kept[None]
    a_shared, b_shared = shared_boxes(a, a_kept, b, b_kept)
    assert 0 < a_shared.sum() < a_kept.sum()
    np.testing.assert_array_equal(a_shared, alike.any(axis=1))
    np.testing.assert_array_equal(b_shared, alike.any(axis=0))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_measures_are_symmetric_and_phi_is_the_correlation(pairs):
    first, second = np.array(pairs, bool).reshape(-1, 2).T
    overlap, swapped = Overlap.of(first, second), Overlap.of(second, first)
    for name in ("jaccard", "phi", "yule_q", "gain", "together", "boxes"):
        np.testing.assert_equal(getattr(overlap, name), getattr(swapped, name))
    assert overlap.boxes == len(pairs)
    assert overlap.gain == (first | second).sum() - max(first.sum(), second.sum())
    if first.any() and second.any() and not first.all() and not second.all():
        assert overlap.phi == pytest.approx(np.corrcoef(first, second)[0, 1])
        np.testing.assert_equal(Overlap.of(first, first).phi, 1.0)
    else:
        assert np.isnan(overlap.phi)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40))
def test_rank_correlation_is_spearmans(pairs):
    a, b = np.array(pairs, float).T
    value = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(spearmanr(a, b).statistic)


def random_runs(random_pair, seed):
    rng = np.random.default_rng(seed)
    truth, a = random_pair(rng, images=20, score_levels=None)
    _, b = random_pair(rng, images=20, score_levels=None)
    return truth, a, b.filter_rows(rng.random(len(b)) < 0.9)


def test_a_run_beside_itself_differs_in_nothing(random_pair):
    truth, run, _ = random_runs(random_pair, 0)
    compared = compare_runs(truth, [run, run], samples=20)
    pair = compared.pairs[0]
    assert set(pair.above.values()) == {(0, 0, 0)}
    for overlap in (pair.any_score, pair.at):
        assert overlap.only_first == overlap.only_second == overlap.gain == 0
        assert overlap.jaccard == overlap.phi == 1
    assert pair.score_correlation == pytest.approx(1)
    assert pair.alarms_of_first == pair.alarms_of_second == 1
    for one in (*compared.any_score, *compared.at):
        assert one.only == (0, 0)
        assert one.every + one.none == one.boxes


@pytest.mark.parametrize("seed", range(3))
def test_differences_are_those_of_the_paired_bootstrap_either_way(random_pair, seed):
    truth, a, b = random_runs(random_pair, seed)
    compared = compare_runs(truth, [a, b], samples=50, seed=4)
    for metric in ("map50", "map75", "map50_95"):
        expected = paired_bootstrap(truth, b, a, metric, samples=50, seed=4)
        assert compared.above(1, 0)[metric] == pytest.approx(expected)
        back = compared.above(0, 1)[metric]
        assert back == pytest.approx((-expected.mean, -expected.high, -expected.low))
        assert getattr(compared.runs[0].evaluation, metric) == pytest.approx(
            map_score(truth, a, metric)
        )
    assert compared.runs[0].by_iou.mean() == pytest.approx(map_score(truth, a, "map50_95"))


def test_sizes_add_up_to_all(random_pair):
    truth, *runs = random_runs(random_pair, 1)
    compared = compare_runs(truth, runs, samples=0)
    for every, *bins in (compared.any_score, compared.at):
        for name in ("boxes", "every", "none"):
            assert getattr(every, name) == sum(getattr(one, name) for one in bins)
        assert every.only == tuple(np.sum([one.only for one in bins], axis=0))
    for pair in compared.pairs:
        for name in ("both", "only_first", "only_second", "neither"):
            assert getattr(pair.at, name) == sum(
                getattr(one, name) for one in pair.at_by_size.values()
            )


def test_records_are_json_and_rows_hold_every_true_box_to_find(random_pair):
    truth, a, b = random_runs(random_pair, 2)
    nothing = a.filter_rows(np.zeros(len(a), bool))
    compared = compare_runs(truth, [a, b, nothing], samples=10)
    record = json.loads(json.dumps(comparison_record(compared, NAMES), allow_nan=False))
    assert [run["name"] for run in record["runs"]] == list(NAMES)
    assert record["runs"][2]["at"]["threshold"] is None
    assert set(record["best_pair"]) == {"first", "second"}
    rows = list(csv.DictReader(io.StringIO(objects_csv(compared, NAMES))))
    assert len(rows) == (~truth.ignore).sum()
    for name, run in zip(NAMES, compared.runs, strict=True):
        assert sum(row[name] == "found" for row in rows) == run.at.found
        assert (
            sum(row[name] != "missed" for row in rows) == (run.found.found & compared.to_find).sum()
        )
        for row in rows:
            assert (row[name] == "missed") == (row[f"{name} score"] == row[f"{name} iou"] == "")
            assert row[name] != "found" or float(row[f"{name} score"]) >= run.at.threshold
    assert sum(int(row["found by"]) for row in rows) == sum(run.at.found for run in compared.runs)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="two runs or more"):
        compare_runs(table(TRUE), [FIRST])
    with pytest.raises(ValueError, match="unknown fairness 'equal'; known: alarms, f1"):
        compare_runs(table(TRUE), [FIRST, SECOND], fairness="equal")
