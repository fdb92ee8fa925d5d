import tomllib
from dataclasses import replace

import numpy as np
import pytest
import tomli_w
from scipy.optimize import minimize

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.ensemble import learnt_confidence
from smallobj.ensemble.calibration_curves import logistic, logit
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import fuse_traced
from smallobj.ensemble.learnt_confidence import (
    LearntConfidence,
    _features,
    feature_count,
    fit_confidence,
    fuse_learnt,
)
from smallobj.evaluation import map_score
from smallobj.evaluation.reliability import outcomes

CONFIG = FusionConfig(skip=0.0, max_detections=None)


def unequal_runs(rng, images=3000):
    """One place an image. Run 0 is to be believed, run 1 says anything, run 2 what run 0 says."""
    right = rng.random(images) < 0.4
    known = {
        "images": Images.of([f"{i}.png" for i in range(images)]),
        "classes": Classes.of(["thing"]),
    }
    box = np.tile([0.0, 0, 20, 20], (images, 1))
    odds = np.where(right, 1.5, -1.5) + rng.normal(0, 1, images)
    saw = [rng.random(images) < 0.9, rng.random(images) < 0.7, rng.random(images) < 0.9]
    said = [logistic(odds), rng.random(images), logistic(odds + rng.normal(0, 0.2, images))]

    def table(rows, **score):
        return BoxTable.build(
            **known, image_index=rows, xyxy=box[rows], label=np.zeros(len(rows)), **score
        )

    runs = [
        table(np.flatnonzero(s), score=p[s] + 1e-3 * k * p[s] * (1 - p[s]))
        for k, (s, p) in enumerate(zip(saw, said, strict=True))
    ]
    return table(np.flatnonzero(right)), runs


def learnt(seed):
    truth, runs = unequal_runs(np.random.default_rng(seed))
    fused, trace = fuse_traced(runs, CONFIG)
    return truth, runs, fused, trace


def test_learning_whom_to_believe_helps_on_other_images():
    truth, runs, fused, trace = learnt(0)
    fitted = fit_confidence(truth, fused, trace, runs)
    truth, runs, fused, trace = learnt(1)
    better = fitted.apply(fused, trace, runs)
    assert map_score(truth, better) > map_score(truth, fused) + 0.05
    assert ((better.score > 0) & (better.score < 1)).all()
    np.testing.assert_array_equal(better.xyxy, fused.xyxy)


def test_the_line_is_the_minimum_that_scipy_finds():
    truth, runs, fused, trace = learnt(2)
    fitted = fit_confidence(truth, fused, trace, runs)
    raw = _features(fused, trace, runs)
    spread = np.where(raw.std(axis=0) < 1e-9, 1, raw.std(axis=0))
    x = np.c_[(raw - raw.mean(axis=0)) / spread, np.ones(len(raw))]
    hit, base = outcomes(truth, fused).hit, logit(fused.score)
    ridge = np.r_[np.full(raw.shape[1], 10.0), 1e-3]

    def loss(line):
        value = base + x @ line
        slope = x.T @ (logistic(value) - hit) + ridge * line
        return np.sum(np.logaddexp(0, value) - hit * value) + ridge @ line**2 / 2, slope

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-5})
    np.testing.assert_allclose([*fitted.slope, fitted.offset], found.x, atol=1e-4)


def test_no_images_leave_the_rule_its_score_and_few_move_it_little():
    truth, runs, fused, trace = learnt(3)
    none = fit_confidence(truth, fused, trace, runs, images=np.zeros(3000, bool))
    np.testing.assert_allclose(none.apply(fused, trace, runs).score, fused.score, atol=2e-6)
    moved = []
    for count in (5, 50, 3000):
        fitted = fit_confidence(truth, fused, trace, runs, images=np.arange(3000) < count)
        moved.append(np.abs(fitted.slope).sum())
    assert moved[0] < moved[1] < moved[2]


def test_images_that_are_not_fitted_on_have_no_say():
    truth, runs, fused, trace = learnt(4)
    images = np.arange(3000) < 1500
    fitted = fit_confidence(truth, fused, trace, runs, images=images)
    blind = truth.filter_rows(truth.image_index < 1500)
    assert fit_confidence(blind, fused, trace, runs, images=images) == fitted
    assert fit_confidence(truth, fused, trace, runs) != fitted


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_features_are_as_many_as_said_and_finite(random_tables, runs):
    tables = random_tables(np.random.default_rng(runs), runs=runs)
    fused, trace = fuse_traced(tables, CONFIG)
    found = _features(fused, trace, tables)
    assert found.shape == (len(fused), feature_count(runs))
    assert np.isfinite(found).all()
    empty = [table.filter_rows(np.zeros(len(table), bool)) for table in tables]
    nothing, trace = fuse_traced(empty, CONFIG)
    fitted = fit_confidence(nothing, nothing, trace, empty)
    assert len(fitted.apply(nothing, trace, empty)) == 0


def test_toml_gives_back_an_equal_one_and_tells_what_is_wrong():
    truth, runs, fused, trace = learnt(5)
    fitted = fit_confidence(truth, fused, trace, runs)
    content = fitted.as_dict()
    assert LearntConfidence.from_dict(tomllib.loads(tomli_w.dumps(content))) == fitted
    for change in ({"runs": 2}, {"spread": [0.0] * feature_count(3)}):
        with pytest.raises(InputError, match="confidence"):
            LearntConfidence.from_dict(content | change)
    with pytest.raises(InputError, match=r"confidence\.slope"):
        LearntConfidence.from_dict(content | {"slope": ["a"]})
    with pytest.raises(ValueError, match="3 runs"):
        fitted.apply(fused, trace, runs[:2])
    assert replace(fitted, offset=1.0) != fitted


def test_the_cap_keeps_the_best_by_what_was_learnt_and_their_origins():
    truth, runs, fused, trace = learnt(3)
    fitted = fit_confidence(truth, fused, trace, runs)
    # all boxes in one image, so that the cap must choose
    one = Images.of(["all.png"])
    runs = [replace(run, images=one, offsets=np.array([0, len(run)])) for run in runs]
    moved = [
        replace(run, xyxy=run.xyxy + 50.0 * np.arange(len(run))[:, None] % 4000) for run in runs
    ]
    config = FusionConfig(skip=0.0, max_detections=50)
    kept, origin = fuse_learnt(moved, config, fitted)
    every, every_origin = fuse_learnt(moved, CONFIG, fitted)
    assert len(kept) == 50
    assert (np.diff(every.score) <= 0).all()
    np.testing.assert_array_equal(kept.xyxy, every.xyxy[:50])
    np.testing.assert_array_equal(kept.score, every.score[:50])
    np.testing.assert_array_equal(origin.row, every_origin.row[: len(origin.row)])
    for box in range(50):  # the mean of its members by score x weight
        entries = slice(origin.offsets[box], origin.offsets[box + 1])
        rows = list(zip(origin.run[entries], origin.row[entries], strict=True))
        score = np.array([moved[run].score[row] for run, row in rows])
        corners = np.array([moved[run].xyxy[row] for run, row in rows])
        np.testing.assert_allclose(kept.xyxy[box], score @ corners / score.sum())


def test_a_share_of_the_misses_stands_for_all(monkeypatch):
    truth, runs, fused, trace = learnt(4)
    whole = fit_confidence(truth, fused, trace, runs)
    monkeypatch.setattr(learnt_confidence, "_MOST_MISSES", 900)
    share = fit_confidence(truth, fused, trace, runs)
    scores = [fitted.apply(fused, trace, runs).score for fitted in (whole, share)]
    assert np.corrcoef(*scores)[0, 1] > 0.99
    assert np.mean(scores[1]) == pytest.approx(np.mean(scores[0]), abs=0.01)


def test_many_runs_have_features_without_pairs():
    assert feature_count(42) == 5 * 42 + 2
    truth, runs = unequal_runs(np.random.default_rng(5), images=200)
    many = runs * 3
    fused, trace = fuse_traced(many, CONFIG)
    fitted = fit_confidence(truth, fused, trace, many)
    assert np.isfinite(fitted.apply(fused, trace, many).score).all()
