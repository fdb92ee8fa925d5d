from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from smallobj.boxes import BoxTable, InputError
from smallobj.ensemble import (
    Grid,
    Plan,
    ScoreStore,
    Tuning,
    fuse,
    score_settings,
    scorer,
    tune,
    write_grid,
)
from smallobj.ensemble.calibration import fit_calibration
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import fuse_traced
from smallobj.ensemble.learnt_confidence import LearntConfidence, fit_confidence, fuse_learnt
from smallobj.ensemble.operating_point import choose_thresholds
from smallobj.ensemble.recipe import config_of
from smallobj.evaluation import map_score

MODELS = ("a", "b", "noise")
SMALL = Grid(
    iou=(0.4, 0.6),
    skip=(0.001, 0.2),
    conf_type=("avg", "max"),
    weights=((1, 1, 1), (2, 2, 1), (1, 1, 0), (1, 2, 0), (2, 0, 1)),
)


@pytest.fixture(scope="module")
def data(random_tables: Callable[..., list[BoxTable]]) -> tuple[BoxTable, list[BoxTable]]:
    """Truth, two runs that see it half and apart, and a run of noise."""
    rng = np.random.default_rng(5)
    seen = random_tables(rng, images=40, runs=1, noise=6)[0]
    truth = replace(seen, score=None)
    noise = replace(random_tables(rng, images=40, runs=1)[0], images=truth.images)
    runs = []
    for _ in range(2):
        shifted = replace(
            seen,
            xyxy=seen.xyxy + rng.normal(0, 4, seen.xyxy.shape),
            score=rng.uniform(0.3, 1, len(seen)),
        )
        runs.append(shifted.filter_rows(rng.random(len(seen)) < 0.6))
    return truth, [*runs, noise]


def test_scores_are_those_of_fusing_and_evaluating_one_by_one(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    settings = SMALL.settings(3, max_detections=20)[::3]
    for metric in ("map50", "map50_95"):
        scores = score_settings(truth, tables, settings, metric=metric)
        singly = [map_score(truth, fuse(tables, config), metric) for config in settings]
        assert scores[:, 0] == pytest.approx(singly)


def test_folds_are_scored_as_if_they_were_all_there_is(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    part = np.arange(40) % 3 == 0
    settings = SMALL.settings(3)[:4]
    scores = score_settings(truth, tables, settings, parts=part[None].astype(np.int64))
    index = np.flatnonzero(part)
    own = [table.take_images(index) for table in tables]
    alone = score_settings(truth.take_images(index), own, settings)
    assert scores == pytest.approx(alone)


@pytest.fixture(scope="module")
def tuning(data: tuple[BoxTable, list[BoxTable]]) -> Tuning:
    """The steps on that data, with thresholds."""
    truth, tables = data
    return tune(truth, tables, MODELS, Plan(grid=SMALL, folds=4, seed=3, goal="f1"))


def test_tuning_gains_out_of_fold_where_runs_complement_each_other(
    data: tuple[BoxTable, list[BoxTable]], tuning: Tuning
) -> None:
    truth, tables = data
    assert not tuning.single_is_chosen
    assert tuning.out_of_fold > tuning.fold_mean(tuning.best_single) + 0.1
    assert tuning.gain.low > 0
    assert tuning.gain.mean == pytest.approx(
        tuning.out_of_fold - tuning.fold_mean(tuning.best_single)
    )
    recipe = tuning.recipe()
    assert recipe.config.weights is not None
    assert recipe.config.weights[2] == 0
    index, _ = recipe.choose(MODELS)
    fused = recipe.fuse([tables[place] for place in index])
    assert map_score(truth, fused) == pytest.approx(recipe.scores["all_images"], abs=1e-6)


def test_every_fit_chooses_on_its_own_images_and_is_judged_on_the_others(
    data: tuple[BoxTable, list[BoxTable]], tuning: Tuning
) -> None:
    truth, tables = data
    for step in tuning.steps:
        for fit, candidate in enumerate(step.chosen[1:], start=1):
            inside = np.flatnonzero(tuning.fold == fit - 1)
            outside = np.flatnonzero(tuning.fold != fit - 1)
            own = [table.take_images(outside) for table in tables]
            held = [table.take_images(inside) for table in tables]
            kind = candidate.calibration
            if kind is not None:
                fitted = [
                    fit_calibration(
                        truth.take_images(outside), table, method=kind.method, by=kind.by
                    )
                    for table in own
                ]
                own = [c.apply(table) for c, table in zip(fitted, own, strict=True)]
                held = [c.apply(table) for c, table in zip(fitted, held, strict=True)]
            config, confidence = candidate.config, None
            if candidate.learnt:
                used = [run for run, weight in enumerate(config.weights or ()) if weight]
                own, held = ([part[run] for run in used] for part in (own, held))
                config = config_of(config, used, 3)
                free = replace(config, max_detections=None)
                traced = fuse_traced(own, free)
                confidence = fit_confidence(truth.take_images(outside), *traced, own)
            scores = [
                map_score(truth.take_images(index), _fused(part, config, confidence))
                for index, part in ((outside, own), (inside, held))
            ]
            assert scores == pytest.approx([step.own[fit], step.judged.every.scores[fit - 1]])


def _fused(
    tables: list[BoxTable], config: FusionConfig, confidence: LearntConfidence | None
) -> BoxTable:
    return fuse_learnt(tables, config, confidence)[0] if confidence else fuse(tables, config)


def test_a_step_is_accepted_where_it_gains_out_of_fold_alone(tuning: Tuning) -> None:
    before = tuning.steps[0]
    for step in tuning.steps[1:]:
        assert step.gain.mean == pytest.approx(step.out_of_fold - before.out_of_fold)
        assert all(own >= was for own, was in zip(step.own, before.own, strict=True))
        if step.accepted:
            assert step.gain.mean > 0
            before = step
        else:
            assert step.reason
    assert tuning.final is before
    assert tuning.final.all_images >= max(tuning.scores[:3])


def test_the_settings_step_takes_the_best_of_the_grid_for_every_fit(tuning: Tuning) -> None:
    step = tuning.steps[1]
    for fold in range(4):
        best = tuning.others[:, fold].max()
        assert step.own[fold + 1] == pytest.approx(best)
    assert step.own[0] == pytest.approx(tuning.scores.max())


def test_what_a_run_brings_is_its_loss_when_left_out(
    data: tuple[BoxTable, list[BoxTable]], tuning: Tuning
) -> None:
    brings = {run.model: run for run in tuning.brings}
    assert brings["a"].gain > 0.05
    assert brings["b"].gain > 0.05
    assert abs(brings["noise"].gain) < 0.02
    assert brings["noise"].weight == 0


def test_calibration_lowers_the_error_out_of_fold(tuning: Tuning) -> None:
    assert [run.model for run in tuning.reliability] == list(MODELS)
    assert all(run.after < run.before for run in tuning.reliability)


def test_thresholds_are_of_the_fused_boxes_and_judged_out_of_fold(
    data: tuple[BoxTable, list[BoxTable]], tuning: Tuning
) -> None:
    truth, tables = data
    recipe, point = tuning.recipe(), tuning.working_point
    assert point is not None
    index, _ = recipe.choose(MODELS)
    fused = recipe.fuse([tables[place] for place in index])
    assert recipe.operating_point == choose_thresholds(truth, fused, goal="f1")
    assert point.overall.positives == len(truth)
    assert 0.5 < point.overall.f1 < point.thresholds.overall.f1 + 0.05


def test_a_run_alone_is_chosen_as_it_is_where_the_others_only_harm(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    good = replace(truth, score=np.ones(len(truth)))
    tuning = tune(
        truth, [tables[2], good], ("noise", "good"), Plan(grid=Grid(iou=(0.5, 0.6)), folds=3)
    )
    assert tuning.single_is_chosen
    config = tuning.recipe().config
    assert config.weights == (0, 1)
    capped = fuse([tables[2], good], config)
    assert sorted(capped.xyxy.tolist()) == sorted(good.xyxy.tolist())


def test_tuning_is_the_same_every_time_and_scores_on_disk_are_not_computed_again(
    data: tuple[BoxTable, list[BoxTable]],
    tuning: Tuning,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, tables = data
    plan = Plan(grid=SMALL, folds=4, seed=3, goal="f1")
    first = ScoreStore(tmp_path / "a.part.jsonl", inputs="x")
    again = tune(truth, tables, MODELS, plan, store=first)
    assert again.as_dict() == tuning.as_dict()
    assert again.recipe() == tuning.recipe()
    first.close()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(scorer, "score_settings", fail)
    store = ScoreStore(tmp_path / "a.part.jsonl", inputs="x")
    assert tune(truth, tables, MODELS, plan, store=store).as_dict() == tuning.as_dict()
    store.remove()
    assert not (tmp_path / "a.part.jsonl").exists()


def test_runs_of_one_model_count_as_one_vote(data: tuple[BoxTable, list[BoxTable]]) -> None:
    truth, tables = data
    plan = Plan(grid=SMALL, views_of=(0, 0, 2), calibrate="none", folds=2)
    chosen = tune(truth, tables, MODELS, plan).chosen.config
    assert chosen.models == (0, 0, 2)


def test_every_row_is_written(tuning: Tuning, tmp_path: Path) -> None:
    write_grid(tmp_path / "recipe.grid.parquet", tuning)
    rows = pq.read_table(tmp_path / "recipe.grid.parquet").to_pylist()
    assert len(rows) == len(tuning.settings)
    scores = [row["all images"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    (untuned,) = [row for row in rows if row["what"] == "untuned default"]
    assert (untuned["iou"], untuned["skip"], untuned["weight noise"]) == (0.55, 0.001, 1)
    assert untuned["fold 2"] == tuning.held_out[3, 2]
    assert untuned["others 2"] == tuning.others[3, 2]


def test_labels_without_boxes_cannot_be_tuned_on(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    empty = BoxTable.empty(truth.images, truth.classes, scored=False)
    with pytest.raises(InputError, match="no boxes"):
        tune(empty, tables, MODELS)
    with pytest.raises(ValueError, match="unknown metric"):
        Plan(metric="map")


@pytest.mark.slow
def test_tuning_three_face_detectors_beats_untuned_fusion_and_keeps_small_faces(
    real_data: Callable[[str], Path], benchmark_module: Callable[[str], ModuleType]
) -> None:
    wider = benchmark_module("wider")
    truth, tables = wider.read_wider(real_data("wider_predictions"))
    tuning = tune(truth, tables, wider.DETECTORS, Plan(max_detections=1000))
    assert tuning.gain.low > 0
    assert tuning.final.above_untuned.mean >= 0.01
    assert tuning.final.above_untuned.low > 0
    assert tuning.final.judged.small.mean >= tuning.single.small.mean
