import tomllib
from dataclasses import replace

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.ensemble.operating_point import (
    apply_thresholds,
    choose_thresholds,
    thresholds_out_of_fold,
    wilson_lower,
)
from smallobj.ensemble.operating_records import (
    Goal,
    Rates,
    Thresholds,
    parse_goal,
    total_rates,
)
from smallobj.evaluation.reliability import outcomes

GOALS = ["f1", "precision=0.8", "recall=0.5"]


def tables_of(score, hit, *, label=None, missed=0, classes=1):
    """Truth and predictions, one box an image; then `missed` images with a true box alone."""
    count = len(score)
    label = np.zeros(count, np.int32) if label is None else np.asarray(label)
    known = {
        "images": Images.of([f"{i}.png" for i in range(count + missed)]),
        "classes": Classes.of([f"c{c}" for c in range(classes)]),
    }
    box = np.tile([0.0, 0, 10, 10], (count + missed, 1))
    true = np.concatenate([np.flatnonzero(hit), np.arange(count, count + missed)])
    truth = BoxTable.build(
        **known,
        image_index=true,
        label=np.concatenate([label[np.asarray(hit, bool)], np.zeros(missed, np.int32)]),
        xyxy=box[true],
    )
    table = BoxTable.build(
        **known, image_index=np.arange(count), label=label, xyxy=box[:count], score=score
    )
    return truth, table


def only(truth, table, goal, **options):
    return choose_thresholds(truth, table, goal=goal, **options).classes[0]


SCORE = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
HIT = np.array([1, 0, 1, 1, 0, 0, 1, 0], bool)


def test_f1_is_the_highest_of_all_thresholds():
    # kept 1 to 8: hits 1 1 2 3 3 3 4 4 of 5 true boxes; 2 x 3 of 4 + 5 is the most, then 8 of 12
    chosen = only(*tables_of(SCORE, HIT, missed=1), "f1")
    assert chosen.threshold == 0.6
    assert chosen.rates == Rates(4, 3, 5)
    assert chosen.rates.f1 == pytest.approx(6 / 9)
    assert chosen.rates.precision == 0.75
    assert chosen.rates.recall == 0.6


def test_a_precision_is_kept_at_the_lowest_threshold_that_has_it():
    truth, table = tables_of(SCORE, HIT, missed=1)
    assert only(truth, table, "precision=0.75").threshold == 0.6
    assert only(truth, table, "precision=0.76").threshold == 0.9
    assert only(truth, table, "precision=0.5").rates == Rates(8, 4, 5)
    assert only(truth, table, ("precision", 0.75)).threshold == 0.6


def test_a_recall_is_reached_at_the_highest_threshold():
    truth, table = tables_of(SCORE, HIT, missed=1)
    assert only(truth, table, "recall=0.6").threshold == 0.6
    assert only(truth, table, "recall=0.61").threshold == 0.3
    assert only(truth, table, "recall=0.2").threshold == 0.9


def test_equal_scores_are_kept_together():
    truth, table = tables_of(np.array([0.5, 0.5, 0.5, 0.2]), np.array([1, 1, 0, 1], bool))
    chosen = only(truth, table, "precision=0.9")
    assert not chosen.reached
    assert chosen.threshold == 0.2
    assert chosen.rates == Rates(4, 3, 3)


def test_a_goal_out_of_reach_is_told_with_the_nearest_to_it():
    truth, table = tables_of(SCORE, ~HIT, missed=1)
    thresholds = choose_thresholds(truth, table, goal="precision=0.95")
    assert thresholds.out_of_reach == ("c0",)
    assert thresholds.classes[0].threshold == 0.2
    assert thresholds.classes[0].rates.precision == 0.5
    recall = only(truth, table, "recall=0.95")
    assert (recall.reached, recall.threshold, recall.rates.recall) == (False, 0.2, 0.8)


@pytest.mark.parametrize("goal", GOALS)
def test_a_class_without_a_hit_keeps_no_box(goal):
    truth, table = tables_of(SCORE, HIT, label=np.where(HIT, 0, 2), classes=4)
    thresholds = choose_thresholds(truth, table, goal=goal)
    assert [chosen.threshold is None for chosen in thresholds.classes] == [False, True, True, True]
    assert thresholds.out_of_reach == ("c1", "c2", "c3")
    assert set(apply_thresholds(table, thresholds).label) == {0}


def test_a_lucky_box_is_not_enough_for_the_cautious():
    hit = np.r_[True, np.zeros(20, bool), np.ones(10, bool)]
    truth, table = tables_of(np.linspace(0.9, 0.1, 31), hit)
    assert only(truth, table, "precision=0.9").rates == Rates(1, 1, 11)
    assert not only(truth, table, "precision=0.9", cautious=True).reached
    many = tables_of(np.linspace(0.9, 0.1, 60), np.arange(60) < 50)
    plain = only(*many, "precision=0.9").rates
    assert only(*many, "precision=0.9", cautious=True).rates.kept < plain.kept


def test_wilson_is_the_root_of_its_equation():
    hits, kept = np.array([0, 1, 10, 100, 37]), np.array([3, 1, 10, 100, 50])
    low = wilson_lower(hits, kept)
    np.testing.assert_allclose(hits / kept - low, 1.6448536 * np.sqrt(low * (1 - low) / kept))


def test_classes_have_their_own_thresholds_and_are_added_up():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 600)
    score = rng.random(600)
    hit = rng.random(600) < score ** (1 + label)
    truth, table = tables_of(score, hit, label=label, classes=3, missed=7)
    thresholds = choose_thresholds(truth, table, goal="precision=0.8")
    found = [chosen.threshold for chosen in thresholds.classes]
    assert found[0] < found[1] < found[2]
    kept = apply_thresholds(table, thresholds)
    assert thresholds.overall == Rates(len(kept), outcomes(truth, kept).hit.sum(), len(truth))
    for label in range(3):
        only_this = tables_of(score, hit & (table.label == label), missed=7 * (label == 0))
        alone = table.label == label
        one = only(only_this[0], only_this[1].filter_rows(alone), "precision=0.8")
        assert one.rates == thresholds.classes[label].rates


def test_out_of_fold_rates_are_those_of_thresholds_of_the_other_folds():
    rng = np.random.default_rng(1)
    score, label = rng.random(400), rng.integers(0, 2, 400)
    truth, table = tables_of(score, rng.random(400) < score, label=label, classes=2, missed=20)
    fold = rng.integers(0, 3, 420)
    for goal in GOALS:
        found = thresholds_out_of_fold(truth, table, fold, goal=goal)
        kept, hits = np.zeros(2, int), np.zeros(2, int)
        for number in range(3):
            thresholds = choose_thresholds(truth, table, goal=goal, images=fold != number)
            inside = np.flatnonzero(fold == number)
            there = apply_thresholds(table.take_images(inside), thresholds)
            right = outcomes(truth.take_images(inside), there).hit
            kept += np.bincount(there.label, minlength=2)
            hits += np.bincount(there.label[right], minlength=2)
        assert [rates.kept for rates in found] == kept.tolist()
        assert [rates.hits for rates in found] == hits.tolist()
        assert total_rates(found).positives == len(truth)


def test_ignored_regions_are_neither_kept_nor_wanted():
    truth, table = tables_of(SCORE, HIT)
    crowd = np.zeros(len(truth), bool)
    crowd[0] = True  # the box of score 0.9 lies in it
    chosen = only(replace(truth, ignore=crowd), table, "recall=1")
    assert chosen.rates == Rates(6, 3, 3)


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("f1", Goal("f1")),
        ("precision=0.95", Goal("precision", 0.95)),
        ("recall=1", Goal("recall", 1.0)),
    ],
)
def test_a_goal_is_read_from_its_text(text, goal):
    assert parse_goal(text) == goal
    assert parse_goal(str(goal)) == goal


@pytest.mark.parametrize(
    "text",
    [
        *("", "f2", "f1=0.5", "f1=", "=0.5", "precision", "precision=", "precision=0"),
        *("precision=x", "precision=inf", "precision=0.5=0.6", "recall=1.1", "recall=nan"),
    ],
)
def test_nonsense_is_no_goal(text):
    with pytest.raises(InputError, match="working point"):
        parse_goal(text)


@pytest.mark.parametrize("goal", [("f1", 0.5), ("precision", None), ("recall", 2.0), ("f2", None)])
def test_a_program_cannot_ask_for_nonsense_either(goal):
    truth, table = tables_of(SCORE, HIT)
    with pytest.raises(ValueError, match="no working point"):
        choose_thresholds(truth, table, goal=goal)


@pytest.mark.parametrize("goal", [*GOALS, "precision=0.123456789012345"])
def test_toml_gives_back_equal_thresholds(goal):
    truth, table = tables_of(SCORE / 3, HIT, label=[0, 1] * 4, classes=3, missed=2)
    thresholds = choose_thresholds(truth, table, goal=goal)
    again = Thresholds.from_dict(tomllib.loads(tomli_w.dumps(thresholds.as_dict())))
    assert again == thresholds
    assert apply_thresholds(table, again) == apply_thresholds(table, thresholds)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.update(goal="f3"), "operating_point"),
        (lambda d: d.pop("goal"), "operating_point.goal"),
        (lambda d: d.update(iou=[]), "operating_point.iou"),
        (lambda d: d.update({"class": {}}), "operating_point.class"),
        (lambda d: d["class"][0].update(threshold="0.5"), "operating_point.class[0].threshold"),
        (lambda d: d["class"][0].update(threshold=np.inf), "operating_point.class[0].threshold"),
        (lambda d: d["class"][0].update(hits=99), "operating_point.class[0].hits"),
        (lambda d: d["class"][0].update(name=3), "operating_point.class[0].name"),
        (lambda d: d["class"][0].update(reached=1), "operating_point.class[0].reached"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_by_its_field(change, field):
    content = choose_thresholds(*tables_of(SCORE, HIT), goal="f1").as_dict()
    change(content)
    with pytest.raises(InputError) as caught:
        Thresholds.from_dict(content)
    assert caught.value.field == field


def test_a_class_without_a_threshold_is_refused():
    truth, table = tables_of(SCORE, HIT)
    thresholds = choose_thresholds(truth, table, goal="f1")
    with pytest.raises(InputError, match="c9"):
        apply_thresholds(replace(table, classes=Classes.of(["c9"])), thresholds)
    with pytest.raises(ValueError, match="without scores"):
        apply_thresholds(truth, thresholds)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0.1, 0.3, 0.5, 0.9, 1]), st.booleans()), max_size=25),
    st.integers(0, 4),
    st.sampled_from(["f1", "precision=0.6", "precision=1", "recall=0.3", "recall=1"]),
)
def test_no_other_threshold_serves_the_goal_better(rows, missed, goal):
    score = np.array([row[0] for row in rows], float)
    hit = np.array([row[1] for row in rows], bool)
    chosen = only(*tables_of(score, hit, missed=missed), goal)
    others = [
        Rates(int((score >= t).sum()), int(hit[score >= t].sum()), int(hit.sum()) + missed)
        for t in sorted(set(score))
    ]
    if chosen.threshold is None:
        assert not hit.any()
        return
    assert chosen.rates in others
    wanted = parse_goal(goal)
    if wanted.value is None:
        assert chosen.rates.f1 == max(rates.f1 for rates in others)
        return
    good = [rates for rates in others if getattr(rates, wanted.name) >= wanted.value - 1e-9]
    assert chosen.reached == bool(good)
    if good and wanted.name == "precision":
        assert chosen.rates.kept == max(rates.kept for rates in good)
    elif good:
        assert chosen.rates.kept == min(rates.kept for rates in good)
    else:
        best = max(getattr(rates, wanted.name) for rates in others)
        assert getattr(chosen.rates, wanted.name) == best
