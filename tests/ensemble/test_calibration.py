import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, minimize

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.ensemble.calibration import Calibration, cross_calibrated, fit_calibration
from smallobj.ensemble.calibration_curves import (
    METHODS,
    Knots,
    LogitLine,
    fit_knots,
    logistic,
    logit,
)
from smallobj.evaluation.reliability import reliability

SIDES_PX = np.array([10.0, 24, 48, 80, 150])  # one in each size bin


def tables_of(score, hit, *, label=None, size=None, classes=1, images=None):
    """Truth and predictions, one box an image; a hit lies on a true box, a miss far from it."""
    count = len(score)
    label = np.zeros(count, np.int32) if label is None else np.asarray(label)
    side = SIDES_PX[np.zeros(count, int) if size is None else np.asarray(size)]
    known = {
        "images": images or Images.of([f"{i}.png" for i in range(count)]),
        "classes": Classes.of([f"c{c}" for c in range(classes)]),
        "image_index": np.arange(count),
        "label": label,
    }
    box = np.stack([0 * side, 0 * side, side, side], axis=1)
    away = box + np.where(hit, 0, 1000)[:, None]
    return BoxTable.build(**known, xyxy=box), BoxTable.build(**known, xyxy=away, score=score)


def overconfident(rng, count, slope=0.5, offset=-1.0):
    """Scores, and outcomes whose log odds are a line on theirs."""
    score = rng.beta(0.7, 1.5, count)
    return score, rng.random(count) < logistic(slope * logit(score) + offset)


def only_curve(calibration):
    assert len(calibration.parts) == 1
    return calibration.parts[0].curve


def test_platt_is_the_minimum_that_scipy_finds():
    score, hit = overconfident(np.random.default_rng(0), 3000)
    score[:3] = 0, 1, 1
    line = only_curve(fit_calibration(*tables_of(score, hit), method="platt"))
    hits = hit.sum()
    target = np.where(hit, (hits + 1) / (hits + 2), 1 / (len(hit) - hits + 2))

    def loss(parameters):
        value = parameters[0] * logit(score) + parameters[1]
        return np.sum(np.logaddexp(0, value) - target * value)

    found = minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose([line.slope, line.offset], found.x, atol=1e-5)


def test_temperature_is_the_minimum_that_scipy_finds_and_one_half_stays():
    score, hit = overconfident(np.random.default_rng(1), 3000, slope=0.4, offset=0)
    calibration = fit_calibration(*tables_of(score, hit), method="temperature")
    line = only_curve(calibration)
    likelihood = [
        np.log(np.where(hit, p, 1 - p)).sum()
        for p in (logistic(t * logit(score)) for t in (line.slope, 0.99 * line.slope))
    ]
    assert line.slope == pytest.approx(0.4, abs=0.05)
    assert likelihood[0] > likelihood[1]
    assert line(np.array([0.5])) == 0.5


def test_isotonic_goes_through_the_centres_of_the_blocks_of_scipy():
    score, hit = overconfident(np.random.default_rng(2), 20_000)
    knots = fit_knots(score, hit.astype(float), np.ones(len(score)))
    order = np.argsort(score)
    steps = isotonic_regression(hit[order].astype(float))
    assert len(knots.score) <= 64
    blocks = [slice(*ends) for ends in zip(steps.blocks[:-1], steps.blocks[1:], strict=True)]
    large = [b for b in blocks if b.stop - b.start >= 500]
    assert len(large) > 5
    for block in large:  # one more box of the overall rate moves a block of 500 by 1/500
        centre = score[order][block].mean()
        assert knots(np.array([centre]))[0] == pytest.approx(steps.x[block.start], abs=0.004)


def test_isotonic_makes_no_two_scores_equal():
    score, hit = overconfident(np.random.default_rng(3), 5000)
    truth, table = tables_of(score, hit)
    calibrated = fit_calibration(truth, table, method="isotonic").apply(table)
    order = np.argsort(score)
    assert (np.diff(calibrated.score[order]) > 0).all()
    steps = isotonic_regression(hit[order].astype(float)).x
    assert len(np.unique(steps)) < 100


@pytest.mark.parametrize("method", METHODS)
def test_calibrating_brings_scores_to_the_share_of_hits_on_other_images(method):
    rng = np.random.default_rng(4)
    fitted = fit_calibration(*tables_of(*overconfident(rng, 20_000, 0.4, 0)), method=method)
    truth, table = tables_of(*overconfident(rng, 20_000, 0.4, 0))
    assert reliability(truth, table).error > 0.1
    assert reliability(truth, fitted.apply(table)).error < 0.02


def test_the_order_within_a_part_stays_and_ties_stay_ties():
    score = np.array([0, 0, 0.2, 0.2, 0.6, 0.9, 1, 1])
    truth, table = tables_of(score, np.array([0, 0, 1, 0, 0, 1, 1, 1], bool))
    for method in METHODS:
        found = fit_calibration(truth, table, method=method).apply(table).score
        assert (np.diff(found)[np.diff(score) > 0] > 0).all()
        assert (np.diff(found)[np.diff(score) == 0] == 0).all()


def test_scores_that_fall_with_the_truth_keep_their_order():
    score, hit = overconfident(np.random.default_rng(5), 1000)
    truth, table = tables_of(score, ~hit)
    for method in METHODS:
        found = fit_calibration(truth, table, method=method).apply(table).score
        assert (np.diff(found[np.argsort(score)]) > 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outcome", [True, False])
def test_boxes_all_right_or_all_wrong_give_the_smoothed_rate(method, outcome):
    score = np.random.default_rng(6).random(200)
    truth, table = tables_of(score, np.full(200, outcome))
    calibration = fit_calibration(truth, table, method=method)
    assert calibration.degenerate
    found = calibration.apply(table).score
    assert (np.diff(found[np.argsort(score)]) > 0).all()
    if method != "temperature":  # which has no offset to move
        assert found.mean() == pytest.approx(201 / 202 if outcome else 1 / 202, abs=0.005)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_score_becomes_its_share_of_hits(method):
    truth, table = tables_of(np.full(100, 0.8), np.arange(100) < 30)
    calibration = fit_calibration(truth, table, method=method)
    assert calibration.degenerate
    expected = 0.5 if method == "temperature" else 0.3  # a slope alone never crosses one half
    np.testing.assert_allclose(calibration.apply(table).score, expected, atol=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_no_boxes_to_fit_on_change_nothing(method):
    truth, table = tables_of(np.array([0.2, 0.7]), np.array([True, False]))
    nothing = np.zeros(2, bool)
    calibration = fit_calibration(truth, table, method=method, by=("class", "size"), images=nothing)
    assert calibration.degenerate
    np.testing.assert_allclose(calibration.apply(table).score, table.score)


def test_each_size_and_class_has_its_own_curve():
    rng = np.random.default_rng(7)
    label, size = rng.integers(0, 2, 40_000), rng.integers(0, 5, 40_000)
    score = rng.random(40_000)
    probability = logistic(logit(score) - 2.0 * label - 0.5 * size)
    truth, table = tables_of(
        score, rng.random(40_000) < probability, label=label, size=size, classes=2
    )
    calibration = fit_calibration(truth, table, method="platt", by=("size", "class"))
    assert calibration.by == ("class", "size")
    assert len(calibration.parts) == 1 + 2 + 10
    error = np.abs(calibration.apply(table).score - probability)
    assert error.max() < 0.06
    assert error.mean() < 0.01
    alone = fit_calibration(truth, table, method="platt").apply(table)
    assert np.abs(alone.score - probability).mean() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_a_part_with_few_boxes_leans_on_the_wider_one_the_more_the_fewer_it_has(method):
    rng = np.random.default_rng(8)
    score, hit = overconfident(rng, 4000, 1.0, 0.0)
    wide = tables_of(score, hit)
    alone = fit_calibration(*wide, method=method).parts[0].curve(np.array([0.3]))[0]
    far = []
    for count in (4, 40, 400, 4000):  # of a second class, whose scores say less
        few, right = overconfident(np.random.default_rng(9), count, 0.2, 0.0)
        truth, table = tables_of(
            np.concatenate([score, few]),
            np.concatenate([hit, right]),
            label=np.repeat([0, 1], [4000, count]),
            classes=2,
        )
        calibration = fit_calibration(truth, table, method=method, by=("class",))
        part = next(p for p in calibration.parts if p.class_name == "c1")
        assert part.boxes == count
        far.append(part.curve(np.array([0.3]))[0] - alone)
    assert far[0] == pytest.approx(0, abs=0.03)
    assert far[1] < far[2] < far[3]
    assert far[3] == pytest.approx(logistic(0.2 * logit(np.array([0.3])))[0] - 0.3, abs=0.04)


def test_a_class_is_known_by_its_name_and_an_unknown_one_has_the_curve_of_all():
    rng = np.random.default_rng(10)
    label = rng.integers(0, 2, 4000)
    score = rng.random(4000)
    truth, table = tables_of(
        score, rng.random(4000) < np.where(label, 0.2, score), label=label, classes=2
    )
    calibration = fit_calibration(truth, table, by=("class",))
    turned = replace(table, classes=Classes.of(["c1", "c0"]), label=1 - table.label)
    np.testing.assert_array_equal(calibration.apply(table).score, calibration.apply(turned).score)
    foreign = replace(table, classes=Classes.of(["other", "more"]))
    np.testing.assert_array_equal(
        calibration.apply(foreign).score, calibration.parts[0].curve(score)
    )


def test_ignored_regions_are_left_out_of_the_fit():
    score, hit = overconfident(np.random.default_rng(11), 500)
    truth, table = tables_of(score, hit)
    crowd = np.arange(500) < 100
    marked = replace(truth, ignore=crowd)
    calibration = fit_calibration(marked, table)
    assert calibration.parts[0].boxes == 500 - (crowd & hit).sum()
    assert calibration.parts[0].hits == hit[100:].sum()


def test_a_fold_has_no_say_in_its_own_scores():
    rng = np.random.default_rng(12)
    score, hit = overconfident(rng, 2000)
    fold = rng.integers(0, 4, 2000)
    truth, table = tables_of(score, hit)
    for method in METHODS:
        before = cross_calibrated(truth, table, fold, method=method)
        turned, _ = tables_of(score, hit)
        far = np.where((fold == 1)[:, None], turned.xyxy + 5000, turned.xyxy)
        after = cross_calibrated(replace(turned, xyxy=far), table, fold, method=method)
        np.testing.assert_array_equal(before.score[fold == 1], after.score[fold == 1])
        assert (before.score != after.score)[fold != 1].any()
        one = fit_calibration(truth, table, method=method, images=fold != 2).apply(table)
        np.testing.assert_array_equal(before.score[fold == 2], one.score[fold == 2])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by", [(), ("class",), ("size",), ("class", "size")])
def test_toml_gives_back_an_equal_calibration(method, by):
    rng = np.random.default_rng(13)
    score, hit = overconfident(rng, 2000)
    truth, table = tables_of(
        score, hit, label=rng.integers(0, 3, 2000), size=rng.integers(0, 5, 2000), classes=3
    )
    calibration = fit_calibration(truth, table, method=method, by=by)
    again = Calibration.from_dict(tomllib.loads(tomli_w.dumps(calibration.as_dict())))
    assert again == calibration
    assert again.apply(table) == calibration.apply(table)


def good() -> dict:
    truth, table = tables_of(np.linspace(0, 1, 50), np.arange(50) > 25)
    return fit_calibration(truth, table).as_dict()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.pop("method"), "calibration.method"),
        (lambda d: d.update(method="magic"), "calibration"),
        (lambda d: d.update(by="size"), "calibration.by"),
        (lambda d: d.update(by=["colour"]), "calibration"),
        (lambda d: d.update(iou="half"), "calibration.iou"),
        (lambda d: d.update(iou=0.0), "calibration"),
        (lambda d: d.update(part=[]), "calibration"),
        (lambda d: d.update(part=[3]), "calibration.part"),
        (lambda d: d["part"][0].update(slope=float("nan")), "part[0].slope"),
        (lambda d: d["part"][0].update(slope=-1.0), "part[0]"),
        (lambda d: d["part"][0].pop("offset"), "part[0].offset"),
        (lambda d: d["part"][0].update(boxes=-1), "part[0].boxes"),
        (lambda d: d["part"][0].update(boxes=True), "part[0].boxes"),
        (lambda d: d["part"][0].update(size="huge"), "part[0]"),
        (lambda d: d["part"][0].update(score=[0.5, 0.1], probability=[0.1, 0.2]), "part[0]"),
        (lambda d: d["part"][0].update(score=[0.5]), "part[0].probability"),
        (lambda d: d["part"][0].update(score=["a"], probability=[0.1]), "part[0].score"),
        (lambda d: d["part"].append(d["part"][0]), "calibration"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_by_its_field(change, field):
    content = good()
    change(content)
    with pytest.raises(InputError) as caught:
        Calibration.from_dict(content)
    assert caught.value.field == field


def test_what_a_program_asks_wrongly_is_refused():
    truth, table = tables_of(np.array([0.5, 0.6]), np.array([True, False]))
    with pytest.raises(ValueError, match="magic"):
        fit_calibration(truth, table, method="magic")
    with pytest.raises(ValueError, match="colour"):
        fit_calibration(truth, table, by=("colour",))
    with pytest.raises(ValueError, match="outside"):
        fit_calibration(truth, replace(table, score=np.array([0.5, np.nan])))
    with pytest.raises(ValueError, match="without scores"):
        fit_calibration(truth, table).apply(truth)
    with pytest.raises(ValueError, match="rises"):
        Knots(score=(0.1, 0.1), probability=(0.1, 0.2))
    with pytest.raises(ValueError, match="slope"):
        LogitLine(slope=0.0, offset=0.0)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5, 1e-300, 1 - 1e-16])),
            st.booleans(),
            st.integers(0, 2),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(METHODS),
    st.sampled_from([(), ("class",), ("size",), ("class", "size")]),
)
def test_any_scores_and_outcomes_give_probabilities_that_never_fall_with_the_score(
    rows, method, by
):
    score, hit, label, size = (np.array(column) for column in zip(*rows, strict=True))
    truth, table = tables_of(score, hit, label=label, size=size, classes=3)
    calibration = fit_calibration(truth, table, method=method, by=by)
    found = calibration.apply(table).score
    assert ((found >= 0) & (found <= 1)).all()
    assert Calibration.from_dict(calibration.as_dict()) == calibration
    line = np.linspace(0, 1, 200)
    for part in calibration.parts:
        assert (np.diff(part.curve(line)) >= 0).all()


def test_the_example_of_the_documentation_runs():
    page = Path(__file__).parents[2] / "docs" / "calibration.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    rng = np.random.default_rng(14)
    truth, table = tables_of(*overconfident(rng, 3000))
    known = {"truth": truth, "table": table, "other": table, "fused": table}
    exec(example, known | {"fold": rng.integers(0, 5, 3000)}, known)
    assert reliability(truth, known["judged"]).error < reliability(truth, table).error
    assert len(known["answer"]) == known["thresholds"].overall.kept > 0
