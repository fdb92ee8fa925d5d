from dataclasses import replace

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.evaluation import METRICS, SIZE_BINS, evaluate, map_score, score_runs


def squares(sides, *, scored):
    """One image and class, squares of these sides in a row."""
    left = np.cumsum([0, *(side + 10 for side in sides)])[:-1]
    side = np.array(sides, float)
    return BoxTable.build(
        images=Images.of(["a"]),
        classes=Classes.of(["thing"]),
        image_index=np.zeros(len(sides), np.int64),
        xyxy=np.stack([left, 0 * side, left + side, side], axis=1),
        label=np.zeros(len(sides), np.int32),
        score=np.full(len(sides), 0.5) if scored else None,
    )


def test_the_whole_agrees_with_map_score_and_its_parts(random_pair):
    truth, predictions = random_pair(np.random.default_rng(0), images=30, side=150)
    result = evaluate(truth, predictions, max_detections=7)
    for metric in METRICS:
        assert getattr(result, metric) == map_score(truth, predictions, metric, 7)
        parts = [getattr(score, metric) for score in result.by_class]
        assert np.nanmean(parts) == pytest.approx(getattr(result, metric))
    assert sum(score.boxes for score in result.by_class) == result.overall.boxes
    assert sum(score.boxes for score in result.by_size) == result.overall.boxes
    assert result.overall.boxes + result.ignored_boxes == len(truth)
    assert result.detections + result.dropped == len(predictions)
    assert result.dropped > 0
    assert np.isnan(result.by_class[-1].map50)


def test_bins_part_at_16_32_64_and_above_100_px():
    sides = [15.5, 16, 31, 32, 63, 64, 100, 101]
    result = evaluate(squares(sides, scored=False), squares(sides, scored=True))
    assert [score.name for score in result.by_size] == [area.name for area in SIZE_BINS]
    assert [score.boxes for score in result.by_size] == [1, 2, 2, 2, 1]


def test_a_bin_ignores_true_boxes_and_unmatched_detections_of_other_sizes():
    truth = squares([20, 40], scored=False)
    found = squares([20, 40, 200, 50], scored=True)
    small, medium = evaluate(truth, found).by_size[1:3]
    assert small.map50 == 1.0  # neither the 40 px hit nor the false boxes count here
    assert medium.map50 == 1.0  # the false 50 px box comes after the hit of equal score
    first_false = replace(found, score=np.array([0.5, 0.5, 0.9, 0.9]))
    assert evaluate(truth, first_false).by_size[2].map50 == 0.5


def test_nothing_is_measured_by_masks(random_pair):
    truth = squares([20], scored=False)
    masked = replace(truth, area=np.array([100.0]))
    assert evaluate(masked, squares([20], scored=True)).by_size[1].boxes == 1


def test_numbers_that_are_unknown_become_none_in_json():
    values = evaluate(squares([20], scored=False), squares([20], scored=True)).as_dict()
    assert values["overall"]["map50"] == 1.0
    assert values["by_size"][0]["map50"] is None


def test_runs_are_scored_on_the_same_draws(random_pair):
    truth, a = random_pair(np.random.default_rng(1), images=30)
    worse = replace(a, score=a.score[::-1].copy())
    first, same, other = score_runs(truth, [a, a, worse], samples=50, coco=True)
    assert first.above_first == {}
    assert same.above_first["map50"] == (0, 0, 0)
    assert same.intervals == first.intervals
    assert other.above_first["map50"].mean != 0
    assert first.coco is not None
    plain = score_runs(truth, [a], samples=0)[0].as_dict()
    assert plain["intervals"] == {}
    assert plain["coco"] is None
