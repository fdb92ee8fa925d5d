"""What the fusion methods do beyond ensemble-boxes, against plain Python and numbers by hand."""

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, iou_matrix
from smallobj.ensemble import CONFIDENCE_RULES, METHODS, FusionConfig, fuse, fuse_traced, nms
from smallobj.ensemble.reference import fuse_reference

BOX = (10.0, 10.0, 30.0, 30.0)
ELSEWHERE = (50.0, 50.0, 60.0, 60.0)


def _table(*rows: tuple, classes: int = 3) -> BoxTable:
    """Rows of score, box, and label where it is not 0, in one image of unknown size."""
    return BoxTable.build(
        images=Images.of(["a.png"]),
        classes=Classes.of([f"class {c}" for c in range(classes)]),
        image_index=np.zeros(len(rows), np.int64),
        label=np.array([row[2] if len(row) > 2 else 0 for row in rows], np.int32),
        score=np.array([row[0] for row in rows], np.float64),
        xyxy=np.array([row[1] for row in rows], np.float64).reshape(-1, 4),
    )


# --- views of one model


@pytest.mark.parametrize("rule", CONFIDENCE_RULES)
def test_forty_two_views_of_a_model_do_not_drown_a_box_that_one_of_them_saw(rule: str) -> None:
    views = [_table((0.9, BOX)), *[_table()] * 41]
    own = FusionConfig(conf_type=rule, models=(7,) * 42)
    assert fuse(views, own).score == pytest.approx([0.9])
    apart = fuse(views, FusionConfig(conf_type=rule)).score
    assert apart == pytest.approx([0.9 if rule == "max" else 0.9 / 42])


@pytest.mark.parametrize("rule", CONFIDENCE_RULES)
@pytest.mark.parametrize(
    ("scores", "fused", "highest"),
    [
        ((0.9, None, None), 0.45, 0.9),  # one view of two models: half of 0.9
        ((0.9, 0.6, None), 0.375, 0.9),  # two views of one model: half of their mean
        ((0.9, 0.6, 0.6), 0.7, 0.9),  # both models: the mean of three boxes
        ((None, None, 0.6), 0.3, 0.6),
    ],
)
def test_views_count_once_a_model_in_every_rule(
    rule: str, scores: tuple, fused: float, highest: float
) -> None:
    tables = [_table() if score is None else _table((score, BOX)) for score in scores]
    for overflow in (False, True):
        config = FusionConfig(conf_type=rule, models=(0, 0, 5), allows_overflow=overflow)
        wanted = highest if rule == "max" else fused
        assert fuse(tables, config).score == pytest.approx([wanted])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(CONFIDENCE_RULES), st.sampled_from(METHODS))
def test_models_of_one_view_each_are_runs(
    random_tables: Callable[..., list[BoxTable]], seed: int, rule: str, method: str
) -> None:
    tables = random_tables(np.random.default_rng(seed), images=2, runs=3)
    plain = FusionConfig(conf_type=rule, method=method, weights=(1, 2, 3))
    assert fuse(tables, replace(plain, models=(4, 0, 2))) == fuse(tables, plain)


# --- votes


def test_fewer_votes_than_asked_for_leave_a_box_out() -> None:
    tables = [_table((0.9, BOX), (0.8, ELSEWHERE), (0.7, ELSEWHERE)), _table((0.6, BOX)), _table()]
    for method in ("wbf", "nms", "nmw"):
        kept = fuse(tables, FusionConfig(method=method, min_votes=2))
        assert kept.xyxy.tolist() == [list(BOX)]
        assert not len(fuse(tables, FusionConfig(method=method, min_votes=3)))
        views = FusionConfig(method=method, min_votes=2, models=(0, 0, 1))
        assert not len(fuse(tables, views))
    with pytest.raises(ValueError, match="min_votes"):
        FusionConfig(method="soft_nms", min_votes=2)


# --- across classes


def test_across_classes_the_class_of_most_weighted_score_names_the_box() -> None:
    tables = [_table((0.9, BOX, 2)), _table((0.5, BOX, 1)), _table((0.5, BOX, 1))]
    for method, label in (("wbf", 1), ("nmw", 1), ("nms", 2)):
        fused = fuse(tables, FusionConfig(method=method, class_agnostic=True))
        assert fused.label.tolist() == [label]
        assert len(fuse(tables, FusionConfig(method=method))) == 2
    heavy = FusionConfig(class_agnostic=True, weights=(2, 1, 1))
    assert fuse(tables, heavy).label.tolist() == [2]


def test_across_classes_a_score_is_lowered_by_a_box_of_another_class() -> None:
    tables = [_table((0.9, BOX, 2), (0.5, BOX, 1))]
    config = FusionConfig(method="soft_nms", class_agnostic=True)
    assert fuse(tables, config).score == pytest.approx([0.9, 0.5 * np.exp(-2)])
    assert fuse(tables, replace(config, class_agnostic=False)).score == pytest.approx([0.9, 0.5])


# --- the limit for small boxes


@pytest.mark.parametrize("method", ["wbf", "nms", "nmw"])
@pytest.mark.parametrize("side", [3.0, 10.0, 12.0, 100.0])
def test_a_small_box_joins_as_far_as_the_shift_and_no_further(method: str, side: float) -> None:
    config = FusionConfig(method=method, iou=0.8, shift_px=1)

    def boxes(shift: float) -> int:
        moved = (20 + shift, 20 + shift, 20 + shift + side, 20 + shift + side)
        return len(
            fuse([_table((0.9, (20, 20, 20 + side, 20 + side))), _table((0.8, moved))], config)
        )

    assert boxes(1.0) == 1
    assert boxes(1.001) == (1 if side == 100 else 2)  # 100 px are judged by 0.8
    assert boxes(max(0.2 * side, 2)) == 2


def _brute_force(tables: list[BoxTable], config: FusionConfig) -> np.ndarray:
    """Corners of all fused boxes of one image and class, by the words of the documentation."""
    rows = [
        (score * weight, tuple(xyxy))
        for table, weight in zip(tables, config.weights_of(len(tables)), strict=True)
        for score, xyxy in zip(table.score, table.xyxy.tolist(), strict=True)
        if score >= config.skip
    ]
    main: list[np.ndarray] = []
    mean: list[np.ndarray] = []
    mass: list[float] = []
    for key, corners in sorted(rows, key=lambda row: (-row[0], row[1])):
        box = np.array(corners)
        overlaps = iou_matrix(box[None], np.array(main).reshape(-1, 4))[0]
        joined = np.flatnonzero(overlaps > _limits(box, np.array(main).reshape(-1, 4), config))
        if not len(joined):
            main.append(box)
            mean.append(box)
            mass.append(key)
            continue
        c = max(joined, key=lambda c: overlaps[c])
        load = key if config.method == "wbf" else key * overlaps[c]
        mass[c] += load
        if mass[c] > 0:
            mean[c] = mean[c] + (box - mean[c]) * load / mass[c]
        if config.method == "wbf":
            main[c] = mean[c]
    return np.array(main if config.method == "nms" else mean).reshape(-1, 4)


def _limits(box: np.ndarray, others: np.ndarray, config: FusionConfig) -> np.ndarray:
    area = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    side = np.sqrt(np.minimum(area, (box[2] - box[0]) * (box[3] - box[1])))
    inner = np.maximum(side - config.shift_px, 0) ** 2
    floor = 0.05 if config.shift_px else 0.0
    return np.minimum(config.iou, np.maximum(floor, inner / (2 * side**2 - inner)))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["wbf", "nms", "nmw"]),
    st.floats(0.1, 0.9),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from([8, 40, 300]),
)
def test_joining_is_what_plain_python_does(
    seed: int, method: str, iou: float, shift: float, boxes: int
) -> None:
    rng = np.random.default_rng(seed)
    tables = []
    for _ in range(2):
        corner = rng.random((boxes, 2)) * 12 * sqrt(boxes)
        corners = np.c_[corner, corner + rng.uniform(2, 30, (boxes, 2))]
        tables.append(_table(*zip(rng.random(boxes), corners, strict=True)))
    config = FusionConfig(
        method=method, iou=iou, shift_px=shift, weights=(2, 1), max_detections=None
    )
    ours, wanted = fuse(tables, config).xyxy, _brute_force(tables, config)
    assert ours[np.lexsort(ours.T)] == pytest.approx(wanted[np.lexsort(wanted.T)])


# --- suppression inside the runs, and what the library does not know


def test_suppression_inside_a_run_is_nms_before_fusing(
    random_tables: Callable[..., list[BoxTable]],
) -> None:
    tables = random_tables(np.random.default_rng(5), runs=3)
    before = [nms(tables[0], 0.3), tables[1], nms(tables[2], 0.6)]
    for method in METHODS:
        config = FusionConfig(method=method, nms_iou=(0.3, 1, 0.6))
        assert fuse(tables, config) == fuse(before, replace(config, nms_iou=None))


def test_weights_are_relative() -> None:
    tables = [_table((0.9, BOX)), _table((0.6, BOX))]
    for method in METHODS:
        for huge in (1e-200, 1.0, 1e200):
            config = FusionConfig(method=method, weights=(2 * huge, huge))
            wanted = fuse(tables, FusionConfig(method=method, weights=(4, 2)))
            assert fuse(tables, config).xyxy == pytest.approx(wanted.xyxy)
            assert fuse(tables, config).score == pytest.approx(wanted.score)


@pytest.mark.parametrize(
    "changed", [{"class_agnostic": True}, {"shift_px": 1.0}, {"min_votes": 2}, {"models": (0,)}]
)
def test_the_library_is_not_asked_for_what_it_does_not_know(changed: dict) -> None:
    with pytest.raises(ValueError, match=f"knows no {next(iter(changed))}"):
        fuse_reference([_table((0.9, BOX))], FusionConfig(**changed))


# --- the trace


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(METHODS), st.booleans())
def test_a_fused_box_is_made_of_the_rows_its_trace_names(
    random_tables: Callable[..., list[BoxTable]], seed: int, method: str, agnostic: bool
) -> None:
    tables = random_tables(np.random.default_rng(seed), images=3, runs=3, sized=False)
    weights = (1.0, 3.0, 0.5)
    config = FusionConfig(
        method=method, iou=0.4, weights=weights, class_agnostic=agnostic, max_detections=15
    )
    fused, trace = fuse_traced(tables, config)
    assert fused == fuse(tables, config)
    assert fused.score is not None
    assert trace.offsets[-1] == len(trace.run) == len(trace.row)
    assert len({*zip(trace.run.tolist(), trace.row.tolist(), strict=True)}) == len(trace.run)
    for k, image in enumerate(fused.image_index):
        entries = slice(trace.offsets[k], trace.offsets[k + 1])
        runs, rows = trace.run[entries], trace.row[entries]
        assert len(runs)
        assert all(tables[r].image_index[m] == image for r, m in zip(runs, rows, strict=True))
        boxes = np.array([tables[r].xyxy[m] for r, m in zip(runs, rows, strict=True)])
        keys = np.array([tables[r].score[m] * weights[r] for r, m in zip(runs, rows, strict=True)])
        assert keys[0] == keys.max()
        if method == "wbf":
            assert fused.xyxy[k] == pytest.approx(np.average(boxes, axis=0, weights=keys + 1e-300))
        elif method == "nmw":
            load = keys * iou_matrix(boxes[:1], boxes)[0] + 1e-300
            assert fused.xyxy[k] == pytest.approx(np.average(boxes, axis=0, weights=load))
        else:
            assert fused.xyxy[k].tolist() == boxes[0].tolist()
            assert (iou_matrix(boxes[:1], boxes)[0][1:] > config.iou).all()
        assert method != "soft_nms" or len(rows) == 1
