"""Whatever is fused: what is accepted gives boxes that can be handed in, the rest a ValueError."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.ensemble import (
    CONFIDENCE_RULES,
    METHODS,
    SOFT_DECAYS,
    FusionConfig,
    clip_scores,
    fuse,
    fuse_traced,
)

CLASSES = Classes.of(["a", "b", "c"])
MANY = settings(max_examples=400, deadline=None)
VERY_MANY = settings(max_examples=12_000, deadline=None)

# few values, so that boxes are identical, touch, have no area or are inverted
ODD = [-5.0, -0.0, 0.0, 1.0, 7.0, 8.0, 30.0, 100.0, 1e9, -1e80, 1e99, 1e-300, 5e-324]
ODD_SCORES = [0.0, 5e-324, 1e-200, 0.001, 0.5, 1.0]
COORDINATE = st.one_of(st.sampled_from(ODD), st.floats(-50, 150))
SCORE = st.one_of(st.sampled_from(ODD_SCORES), st.floats(0, 1))
ROW = st.tuples(st.integers(0, 2), st.integers(0, 2), SCORE, *[COORDINATE] * 4)
ROWS = st.lists(ROW, max_size=10)

# the same in bytes, drawn at once: what many thousands of cases can be drawn in
_BETWEEN = np.random.default_rng(0).uniform(-50, 150, 128)
_COORDINATES = np.concatenate([np.resize(ODD, 128), _BETWEEN])
_SCORES = np.concatenate([np.resize(ODD_SCORES, 64), np.linspace(0, 1, 192)])


def _rows_of(drawn: bytes) -> np.ndarray:
    """Rows [n, 7] as `ROW` has them, each from seven bytes."""
    byte = np.frombuffer(drawn[: len(drawn) // 7 * 7], np.uint8).reshape(-1, 7)
    score, corners = _SCORES[byte[:, 2]], _COORDINATES[byte[:, 3:]]
    return np.column_stack([byte[:, :2] % 3, score, corners])


QUICK_ROWS = st.binary(max_size=70).map(_rows_of)


def _tables(
    runs: Sequence[Sequence[tuple] | np.ndarray], sizes: list[tuple[int, int]]
) -> list[BoxTable]:
    tables = []
    for rows in runs:
        values = np.array(rows, np.float64).reshape(-1, 7)
        tables.append(
            BoxTable.build(
                images=Images.of(["a", "b", "c"], sizes),
                classes=CLASSES,
                image_index=values[:, 0].astype(np.int64),
                label=values[:, 1].astype(np.int32),
                score=values[:, 2],
                xyxy=values[:, 3:],
            )
        )
    return tables


@st.composite
def cases(draw: st.DrawFn, rows: st.SearchStrategy = ROWS) -> tuple[list[BoxTable], FusionConfig]:
    runs = draw(st.lists(rows, min_size=1, max_size=4))
    sizes = draw(st.lists(st.sampled_from([(0, 0), (100, 40), (1, 9)]), min_size=3, max_size=3))
    method = draw(st.sampled_from(METHODS))
    weight = st.one_of(st.sampled_from([0.0, 5e-324, 1.0, 1e300]), st.floats(0.1, 9))
    weights = draw(st.none() | st.tuples(*[weight] * len(runs)).filter(any))
    config = FusionConfig(
        method=method,
        iou=draw(st.floats(0, 1)),
        skip=draw(st.sampled_from([0.0, 0.001, 0.5])),
        weights=weights,
        conf_type=draw(st.sampled_from(CONFIDENCE_RULES)),
        max_detections=draw(st.none() | st.integers(1, 6)),
        allows_overflow=draw(st.booleans()),
        class_agnostic=draw(st.booleans()),
        shift_px=draw(st.sampled_from([0.0, 1.0, 1e5])),
        min_votes=1 if method == "soft_nms" else draw(st.integers(1, 2)),
        soft=draw(st.sampled_from(SOFT_DECAYS)),
        sigma=draw(st.sampled_from([1e-300, 0.5, 1e300])),
        nms_iou=draw(st.none() | st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * len(runs))),
        models=draw(st.none() | st.tuples(*[st.integers(0, 2)] * len(runs))),
    )
    return _tables(runs, sizes), config


def _check(case: tuple[list[BoxTable], FusionConfig], order: list[int]) -> None:
    tables, config = case
    fused, trace = fuse_traced(tables, config)
    assert fused == fuse(tables, config)
    clipped, _ = clip_scores(fused)
    assert clipped.score is not None
    assert np.isfinite(fused.xyxy).all()
    assert ((clipped.score >= 0) & (clipped.score <= 1)).all()
    size = np.column_stack([fused.images.width, fused.images.height])[fused.image_index]
    inside = (fused.xyxy[:, :2] >= 0) & (fused.xyxy[:, 2:] <= size)
    assert inside[(size > 0).all(axis=1)].all()
    counts = np.diff(fused.offsets)
    assert (counts <= (config.max_detections or np.inf)).all()
    for image in range(3):
        assert (np.diff(fused.score[fused.rows(image)]) <= 0).all()
    assert (np.diff(trace.offsets) >= 1).all()
    # equal weights: the order of the runs changes nothing, not even where scores are equal
    equal = replace(config, weights=None)
    turned = [run for run in order if run < len(tables)]
    assert fuse([tables[run] for run in turned], _turn(equal, turned)) == fuse(tables, equal)


def _turn(config: FusionConfig, order: list[int]) -> FusionConfig:
    """The settings for the runs in another order."""
    by_run = {name: getattr(config, name) for name in ("nms_iou", "models")}
    return replace(
        config,
        **{
            name: None if values is None else tuple(values[run] for run in order)
            for name, values in by_run.items()
        },
    )


@MANY
@given(cases(), st.permutations(range(4)))
def test_what_is_accepted_can_be_handed_in(
    case: tuple[list[BoxTable], FusionConfig], order: list[int]
) -> None:
    _check(case, order)


@pytest.mark.slow
@VERY_MANY
@given(cases(QUICK_ROWS), st.permutations(range(4)))
def test_what_is_accepted_can_be_handed_in_very_often(
    case: tuple[list[BoxTable], FusionConfig], order: list[int]
) -> None:
    _check(case, order)


@MANY
@given(
    cases(),
    st.sampled_from([np.nan, np.inf, -np.inf, 1e101]),
    st.integers(0, 4),
)
def test_what_is_not_a_number_or_no_probability_is_refused(
    case: tuple[list[BoxTable], FusionConfig], value: float, column: int
) -> None:
    tables, config = case
    row = [0.5, 1.0, 2.0, 3.0, 4.0]
    row[column] = value
    bad = _tables([[(0, 0, *row)]], [(0, 0)] * 3)
    bad = [replace(bad[0], images=tables[0].images)]
    with pytest.raises(ValueError, match=r"not finite|outside 0\.\.1"):
        fuse([*bad, *tables[1:]], config)


@pytest.mark.parametrize("method", METHODS)
def test_a_million_boxes_in_one_image_are_fused(method: str) -> None:
    rng = np.random.default_rng(0)
    boxes = 500_000
    tables = []
    for _ in range(2):
        corner = rng.random((boxes, 2)) * 60_000
        tables.append(
            BoxTable(
                images=Images.of(["a"]),
                classes=Classes.of(["a"]),
                offsets=np.array([0, boxes]),
                xyxy=np.c_[corner, corner + rng.uniform(10, 100, (boxes, 2))],
                label=np.zeros(boxes, np.int32),
                score=rng.integers(1, 1000, boxes) / 1000,
            )
        )
    fused = fuse(tables, FusionConfig(method=method))
    assert len(fused) == 100
    assert np.isfinite(fused.xyxy).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_hundred_thousand_identical_boxes_are_one(method: str) -> None:
    boxes = 50_000
    table = BoxTable(
        images=Images.of(["a"]),
        classes=Classes.of(["a"]),
        offsets=np.array([0, boxes]),
        xyxy=np.tile([5.0, 5.0, 25.0, 30.0], (boxes, 1)),
        label=np.zeros(boxes, np.int32),
        score=np.full(boxes, 0.5),
    )
    fused = fuse([table, table], FusionConfig(method=method, soft="linear"))
    assert fused.xyxy.tolist() == [[5, 5, 25, 30]]
    assert fused.score == pytest.approx([0.5])
