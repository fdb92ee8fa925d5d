from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from smallobj.boxes import BoxTable, InputError
from smallobj.ensemble import (
    FusionConfig,
    Grid,
    default_weights,
    fuse,
    parse_grid,
    score_settings,
    tune,
    write_grid,
)
from smallobj.evaluation import map_score

SMALL = Grid(iou=(0.4, 0.6), skip=(0.001, 0.2), conf_type=("avg", "max"))


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


def test_tuning_gains_out_of_fold_where_runs_complement_each_other(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    tuning = tune(truth, tables, ("a", "b", "noise"), SMALL)
    assert not tuning.single_is_chosen
    assert tuning.out_of_fold > tuning.fold_mean(tuning.best_single) + 0.1
    assert tuning.gain.low > 0
    assert tuning.gain.mean == pytest.approx(
        tuning.out_of_fold - tuning.fold_mean(tuning.best_single)
    )
    recipe = tuning.recipe()
    assert recipe.config.weights is not None
    assert recipe.config.weights[2] == 0
    fused = fuse(tables, recipe.config)
    assert map_score(truth, fused) == pytest.approx(recipe.scores["all_images"], abs=1e-6)


def test_what_is_chosen_on_other_folds_is_scored_on_one(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    tuning = tune(truth, tables, ("a", "b", "noise"), SMALL, folds=4, seed=3)
    assert tuning.held_out.shape == (3 + 1 + 8 * len(default_weights(3)), 4)
    chosen = [tuning.others[:, fold].argmax() for fold in range(4)]
    expected = np.mean([tuning.held_out[setting, fold] for fold, setting in enumerate(chosen)])
    assert tuning.out_of_fold == pytest.approx(expected)


def test_a_run_alone_is_chosen_as_it_is_where_the_others_only_harm(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    good = replace(truth, score=np.ones(len(truth)))
    tuning = tune(truth, [tables[2], good], ("noise", "good"), SMALL)
    assert tuning.single_is_chosen
    config = tuning.recipe().config
    assert config.weights == (0, 1)
    capped = fuse([tables[2], good], config)
    assert sorted(capped.xyxy.tolist()) == sorted(good.xyxy.tolist())


def test_tuning_is_the_same_every_time(data: tuple[BoxTable, list[BoxTable]]) -> None:
    truth, tables = data
    first, again = (tune(truth, tables, ("a", "b", "c"), SMALL) for _ in range(2))
    assert np.array_equal(first.held_out, again.held_out)
    assert first.gain == again.gain


def test_every_row_is_written(data: tuple[BoxTable, list[BoxTable]], tmp_path: Path) -> None:
    truth, tables = data
    tuning = tune(truth, tables, ("a", "b", "c"), SMALL)
    write_grid(tmp_path / "recipe.grid.csv", tuning)
    head, *rows = (tmp_path / "recipe.grid.csv").read_text().splitlines()
    assert head.startswith("what,iou,skip,conf_type,weight a,weight b,weight c,map50,mean over")
    assert len(rows) == len(tuning.settings)
    scores = [float(row.split(",")[7]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert sum(row.startswith("untuned default,0.55,0.001") for row in rows) == 1


def test_labels_without_boxes_cannot_be_tuned_on(
    data: tuple[BoxTable, list[BoxTable]],
) -> None:
    truth, tables = data
    empty = BoxTable.empty(truth.images, truth.classes, scored=False)
    with pytest.raises(InputError, match="no boxes"):
        tune(empty, tables, ("a", "b", "c"))
    with pytest.raises(ValueError, match="unknown metric"):
        tune(truth, tables, ("a", "b", "c"), metric="map")


def test_default_weights_are_combinations_of_at_least_two_runs() -> None:
    assert default_weights(1) == ((1,),)
    assert default_weights(2) == ((1, 1), (1, 2), (2, 1))
    three = default_weights(3)
    assert (2, 2, 2) not in three
    assert three[0] == (1, 1, 1)
    assert {(0, 1, 1), (2, 1, 1), (2, 1, 0)} <= set(three)
    assert all(sum(weight > 0 for weight in weights) > 1 for weights in three)
    assert len(default_weights(6)) == 13


def test_grid_options_are_read() -> None:
    grid = parse_grid(["iou=0.4:0.8:0.1", "weights=1,1|2,1", "conf_type=avg,max"])
    assert grid.iou == (0.4, 0.5, 0.6, 0.7, 0.8)
    assert grid.weights == ((1, 1), (2, 1))
    assert grid.conf_type == ("avg", "max")
    assert grid.skip == Grid().skip
    assert len(grid.settings(2)) == 5 * 2 * 2 * len(grid.skip)
    with pytest.raises(ValueError, match="2 weights for 3 runs"):
        grid.settings(3)


@pytest.mark.parametrize(
    "option", ["iou", "nms=1", "iou=a", "iou=0.4:0.8", "iou=0.8:0.4:0.1", "conf_type=mean"]
)
def test_faulty_grid_options_are_named(option: str) -> None:
    with pytest.raises(InputError, match="field grid") as caught:
        parse_grid([option])
    assert repr(caught.value.value) in repr(option)


@pytest.mark.slow
def test_tuning_three_face_detectors_beats_the_best_of_them(
    real_data: Callable[[str], Path], benchmark_module: Callable[[str], ModuleType]
) -> None:
    wider = benchmark_module("wider")
    truth, tables = wider.read_wider(real_data("wider_predictions"))
    grid = Grid(iou=(0.55, 0.65), skip=(0.001,), conf_type=("box_and_model_avg",))
    tuning = tune(truth, tables, wider.DETECTORS, grid)
    assert tuning.gain.low > 0
    assert tuning.out_of_fold > tuning.fold_mean(tuning.untuned)
    assert tuning.settings[tuning.chosen] != FusionConfig()
