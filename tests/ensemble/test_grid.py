from itertools import product

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.ensemble import FusionConfig, Grid, default_settings, default_weights, parse_grid
from smallobj.ensemble.grid import looks_unsuppressed
from smallobj.ensemble.heatmap import heatmap_of


def _run(seed: int, *, overlapping: bool = False) -> BoxTable:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1000, (40, 2))
    if overlapping:
        corner[20:] = corner[:20] + 0.5
    return BoxTable.build(
        images=Images.of(["a.png"]),
        classes=Classes.of(["cat"]),
        image_index=np.zeros(40, np.int64),
        xyxy=np.concatenate([corner, corner + 20], axis=1),
        label=np.zeros(40, np.int32),
        score=rng.random(40),
    )


def test_default_weights_are_combinations_of_at_least_two_runs() -> None:
    assert default_weights(1) == ((1,),)
    assert {(1, 1), (1, 2), (2, 1)} <= set(default_weights(2))
    three = default_weights(3)
    assert (2, 2, 2) not in three
    assert three[0] == (1, 1, 1)
    assert {(0, 1, 1), (2, 1, 1), (2, 1, 0)} <= set(three)
    assert all(sum(weight > 0 for weight in weights) > 1 for weights in three)
    assert len(default_weights(5)) == len(set(default_weights(5))) == 1 + 5 + 5 + 10
    assert len(default_weights(20)) == 41


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
    "option",
    [
        "iou",
        "uoi=1",
        "votes=1.5",
        "method=wfb",
        "skip=inf",
        "iou=a",
        "iou=0.4:0.8",
        "iou=0.8:0.4:0.1",
        "conf_type=mean",
    ],
)
def test_faulty_grid_options_are_named(option: str) -> None:
    with pytest.raises(InputError, match="field grid") as caught:
        parse_grid([option])
    assert repr(caught.value.value) in repr(option)


@pytest.mark.parametrize("runs", [2, 3, 4, 5, 7, 12, 20])
def test_the_default_grid_is_of_about_a_thousand_settings(runs: int) -> None:
    settings = default_settings([_run(run) for run in range(runs)])
    assert 600 <= len(settings) <= 1200
    assert len(set(settings)) == len(settings)
    assert {setting.method for setting in settings} == {"wbf", "nms", "soft_nms", "nmw"}
    assert {setting.min_votes for setting in settings} == {1, 2}
    assert {setting.nms_iou for setting in settings} == {None}


def test_runs_before_suppression_are_suppressed_in_some_settings() -> None:
    raw, clean = _run(0, overlapping=True), _run(1)
    assert looks_unsuppressed(raw)
    assert not looks_unsuppressed(clean)
    found = {setting.nms_iou for setting in default_settings([raw, clean])}
    assert {None, (0.55, 0.55)} <= found


def test_a_setting_that_a_method_does_not_know_is_not_repeated() -> None:
    grid = parse_grid(
        ["method=wbf,nms,soft_nms", "conf_type=avg,max", "sigma=0.3,0.5", "iou=0.5", "skip=0.01"]
    )
    settings = grid.settings(1)
    assert len(settings) == 2 + 1 + 2
    votes = parse_grid(["votes=1,2", "shift=0,2", "nms=0.5,1", "iou=0.5", "skip=0.01"]).settings(2)
    assert len(votes) == 2 * 2 * 2 * len(default_weights(2)) * len(Grid().conf_type)
    assert {setting.nms_iou for setting in votes} == {(0.5, 0.5), (1, 1)}


def test_a_cell_of_the_heat_map_is_the_best_of_its_settings() -> None:
    configs = [
        FusionConfig(iou=iou, skip=skip, conf_type=rule)
        for iou, skip, rule in product((0.4, 0.6), (0.01, 0.1), ("avg", "max"))
    ]
    scores = np.array([0.1, 0.2, 0.3, np.nan, 0.5, 0.4, 0.7, 0.8])
    cells = heatmap_of(configs, scores, chosen=configs[4])
    assert cells.values.tolist() == [[0.2, 0.3], [0.5, 0.8]]
    assert (cells.iou, cells.skip, cells.chosen) == ((0.4, 0.6), (0.01, 0.1), (1, 0))


def test_many_values_share_cells_of_the_heat_map() -> None:
    rng = np.random.default_rng(0)
    configs = [
        FusionConfig(iou=float(iou), skip=float(10**power))
        for iou, power in rng.uniform((0.3, -4), (0.8, -1), (200, 2))
    ]
    cells = heatmap_of(configs, np.arange(200.0), chosen=None)
    assert len(cells.iou) <= 11
    assert set(cells.skip) <= {0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1}
    assert np.nanmax(cells.values) == 199
