from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from smallobj.boxes import BoxTable
from smallobj.ensemble import CONFIDENCE_RULES, METHODS, FusionConfig, fuse, score_settings
from smallobj.evaluation import map_score

SETTINGS = [
    FusionConfig(iou=iou, skip=skip, weights=weights, conf_type=rule, min_votes=votes)
    for iou, skip, weights, rule, votes in product(
        (0.4, 0.6), (0.001, 0.2), (None, (2, 1, 0)), CONFIDENCE_RULES[1:3], (1, 2)
    )
] + [
    FusionConfig(method=method, **changed)
    for method in METHODS
    for changed in (
        {},
        {"conf_type": "max"},
        {"nms_iou": (0.4, 1, 0.5)},
        {"class_agnostic": True},
        {"shift_px": 2.0},
        {"models": (0, 0, 1)},
        {"max_detections": 4},
    )
]


@pytest.fixture
def truth_and_runs(
    random_tables: Callable[..., list[BoxTable]],
) -> tuple[BoxTable, list[BoxTable]]:
    tables = random_tables(np.random.default_rng(0), images=12, runs=4)
    return replace(tables[0], score=None), tables[1:]


@pytest.mark.parametrize("metric", ["map50", "map50_95"])
def test_every_setting_scores_what_it_scores_alone(
    truth_and_runs: tuple[BoxTable, list[BoxTable]], metric: str
) -> None:
    truth, tables = truth_and_runs
    rng = np.random.default_rng(1)
    order = rng.permutation(len(SETTINGS))  # what stands apart is grouped all the same
    told: list[int] = []
    scores = score_settings(
        truth, tables, [SETTINGS[k] for k in order], metric=metric, on_progress=told.append
    )
    wanted = [map_score(truth, fuse(tables, SETTINGS[k]), metric) for k in order]
    assert scores[:, 0] == pytest.approx(wanted, abs=1e-12)
    assert len(set(wanted)) > 20
    assert sum(told) == len(SETTINGS)


def test_parts_choose_images(truth_and_runs: tuple[BoxTable, list[BoxTable]]) -> None:
    truth, tables = truth_and_runs
    rng = np.random.default_rng(2)
    parts = rng.integers(0, 2, (8, 12))
    scores = score_settings(truth, tables, SETTINGS[:6], parts=parts)
    assert scores.shape == (6, 8)
    for part, column in zip(parts, scores.T, strict=True):
        index = np.flatnonzero(part)
        own = [table.take_images(index) for table in tables]
        wanted = [map_score(truth.take_images(index), fuse(own, s)) for s in SETTINGS[:6]]
        assert column == pytest.approx(wanted, abs=1e-12)
    doubled = score_settings(truth, tables, SETTINGS[:2], parts=2 * parts[:1])
    assert doubled[:, 0] == pytest.approx(scores[:2, 0], abs=1e-12)
