from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.ensemble import CONFIDENCE_RULES, FusionConfig, clip_scores, fuse, nms
from smallobj.ensemble.reference import fuse_reference

SIZE = 100


def _table(rows: list[tuple], *, images: int = 1, classes: int = 3, sized: bool = True) -> BoxTable:
    """Rows of image, label, score, x1, y1, x2, y2."""
    values = np.array(rows, np.float64).reshape(-1, 7)
    sizes = [(SIZE, SIZE)] * images if sized else None
    return BoxTable.build(
        images=Images.of([f"{i}.png" for i in range(images)], sizes),
        classes=Classes.of([f"class {c}" for c in range(classes)]),
        image_index=values[:, 0].astype(np.int64),
        label=values[:, 1].astype(np.int32),
        score=values[:, 2],
        xyxy=values[:, 3:],
    )


def _one(score: float, box: tuple = (10, 10, 30, 30)) -> tuple:
    return (0, 0, score, *box)


@st.composite
def runs(draw: st.DrawFn) -> list[BoxTable]:
    """One to four runs over two images, boxes partly outside, scores repeated or zero."""
    side = st.floats(-20, SIZE + 20, allow_subnormal=False)
    row = st.tuples(
        st.integers(0, 1), st.integers(0, 2), st.floats(0, 1), side, side, st.floats(0, 50)
    )
    tables = []
    for _ in range(draw(st.integers(1, 4))):
        rows = draw(st.lists(row, max_size=12))
        boxes = [(i, c, s, x, y, x + w, y + w / 2) for i, c, s, x, y, w in rows]
        tables.append(_table(boxes, images=2))
    return tables


@settings(max_examples=200, deadline=None)
@given(runs(), st.sampled_from(CONFIDENCE_RULES), st.integers(1, 5), st.floats(0, 1))
def test_fused_boxes_are_finite_inside_and_under_the_cap(
    tables: list[BoxTable], rule: str, cap: int, iou: float
) -> None:
    config = FusionConfig(iou=iou, skip=0, conf_type=rule, max_detections=cap)
    fused = fuse(tables, config)
    assert fused.score is not None
    assert np.isfinite(fused.xyxy).all()
    assert ((fused.score >= 0) & (fused.score <= 1 + 1e-12)).all()
    assert ((fused.xyxy >= 0) & (fused.xyxy <= SIZE)).all()
    assert (np.diff(fused.offsets) <= cap).all()
    for image in range(2):
        assert (np.diff(fused.score[fused.rows(image)]) <= 0).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(CONFIDENCE_RULES), st.permutations(range(4)))
def test_equal_weights_and_distinct_scores_make_the_order_of_runs_irrelevant(
    random_tables: Callable[..., list[BoxTable]], seed: int, rule: str, order: list[int]
) -> None:
    tables = random_tables(np.random.default_rng(seed), images=2, runs=4)
    config = FusionConfig(conf_type=rule)
    assert fuse([tables[i] for i in order], config) == fuse(tables, config)


def test_equal_scores_join_by_their_corners_whatever_their_run() -> None:
    left, middle, right = (0, 0, 20, 20), (7, 0, 27, 20), (14, 0, 34, 20)
    first = _table([_one(0.5, left), _one(0.5, right)])
    second = _table([_one(0.5, middle)])
    config = FusionConfig(iou=0.4, conf_type="max")
    assert fuse([first, second], config).xyxy[:, 0].tolist() == [3.5, 14]
    assert fuse([second, first], config).xyxy[:, 0].tolist() == [3.5, 14]
    backward = _table([_one(0.5, right), _one(0.5, left)])
    assert fuse([backward, second], config).xyxy[:, 0].tolist() == [3.5, 14]


@pytest.mark.parametrize(
    ("rule", "lonely", "twice"),
    [
        ("avg", 0.3, 0.75),
        ("absent_model_aware_avg", 0.3, 0.5),
        ("box_and_model_avg", 0.3, 0.375),
        ("max", 0.9, 0.9),
    ],
)
def test_confidence_rules_give_the_values_that_the_library_gave(
    rule: str, lonely: float, twice: float
) -> None:
    config, nothing = FusionConfig(conf_type=rule), _table([])
    for fusion in (fuse, fuse_reference):
        one = fusion([_table([_one(0.9)]), nothing, nothing], config)
        two = fusion([_table([_one(0.9), _one(0.6)]), nothing], config)
        assert one.score == pytest.approx([lonely])
        assert two.score == pytest.approx([twice])


def test_scores_lifted_above_one_are_cut_and_counted() -> None:
    tables = [_table([_one(1.0), _one(1.0)]), _table([])]
    fused = fuse(tables, FusionConfig(weights=(2, 1), conf_type="avg"))
    assert fused.score == pytest.approx([4 / 3])
    clipped, above = clip_scores(fused)
    assert (clipped.score, above) == (pytest.approx([1.0]), 1)
    assert clip_scores(clipped)[1] == 0


def test_iou_of_one_leaves_a_single_run_as_it_is() -> None:
    table = _table([_one(0.9), _one(0.9), _one(0.2, (50, 50, 60, 60))])
    config = FusionConfig(iou=1, skip=0, weights=(0, 1))
    assert fuse([_table([_one(0.5)]), table], config) == table


def test_a_run_of_weight_zero_changes_nothing(
    random_tables: Callable[..., list[BoxTable]],
) -> None:
    tables = random_tables(np.random.default_rng(3), runs=3)
    for rule in CONFIDENCE_RULES:
        with_it = fuse(tables, FusionConfig(weights=(2, 0, 1), conf_type=rule))
        without = fuse([tables[0], tables[2]], FusionConfig(weights=(2, 1), conf_type=rule))
        assert with_it == without


def test_classes_are_fused_apart() -> None:
    fused = fuse([_table([_one(0.9), (0, 1, 0.8, 10, 10, 30, 30)])])
    assert sorted(fused.label.tolist()) == [0, 1]


def test_skip_compares_the_raw_score() -> None:
    tables = [_table([_one(0.4)]), _table([_one(0.6, (50, 50, 60, 60))])]
    assert len(fuse(tables, FusionConfig(skip=0.5, weights=(9, 1)))) == 1


def test_one_known_size_is_enough_to_cut_boxes() -> None:
    rows = [_one(0.9, (-5, 10, 120, 30))]
    unsized = _table(rows, sized=False)
    assert fuse([unsized]).xyxy.tolist() == [[-5, 10, 120, 30]]
    assert fuse([unsized, _table([])]).xyxy.tolist() == [[0, 10, 100, 30]]


def test_many_boxes_of_a_class_stay_sorted() -> None:
    rng = np.random.default_rng(0)
    rows = [_one(s, (i * 3, 0, i * 3 + 2, 2)) for i, s in enumerate(rng.integers(0, 50, 500) / 50)]
    fused = fuse([_table(rows, sized=False)], FusionConfig(max_detections=None, skip=0))
    order = sorted(range(500), key=lambda i: -rows[i][2])
    assert fused.xyxy[:, 0].tolist() == [i * 3 for i in order]


def _crowd(seed: int, boxes: int, width: float, size: float) -> list[tuple]:
    """Boxes of one class across `width` px, of median half side e ** size, many scores equal."""
    rng = np.random.default_rng(seed)
    centre = rng.random((boxes, 2)) * width
    half = np.exp(rng.normal(size, 1.2, (boxes, 2)))
    corners = np.concatenate([centre - half, centre + half], axis=1).clip(-width, 2 * width)
    if seed % 4 < 2:
        corners = np.round(corners / 8) * 8  # so that several overlap a box by the same
    scores = 0.5 + rng.integers(0, 100, boxes) / 200
    return [(0, 0, s, *box) for s, box in zip(scores, corners.tolist(), strict=True)]


@pytest.mark.parametrize(("width", "size"), [(30, 1), (800, 1), (800, 3), (300, 7)])
@pytest.mark.parametrize(
    ("iou", "settings"),
    [
        (0, {}),
        (0.3, {}),
        (0.6, {"shift_px": 1.5}),
        (0.99, {"shift_px": 4, "class_agnostic": True}),
        (0.5, {"method": "nms"}),
        (0.6, {"method": "nmw", "shift_px": 1.5}),
        (0.3, {"method": "soft_nms"}),
        (0.5, {"method": "soft_nms", "soft": "linear", "shift_px": 2}),
    ],
)
def test_a_crowd_is_fused_and_suppressed_like_few(
    width: float, size: float, iou: float, settings: dict
) -> None:
    # below them, at lower scores, others make the few a crowd, which is looked up by cells
    others = [(0, 0, 0.1, x, 3 * width, x + 1, 3.1 * width) for x in np.linspace(0, width, 600)]
    config = FusionConfig(iou=iou, max_detections=None, **settings)
    for seed in range(0, 10, 2):
        few = [_crowd(seed + run, 240, width, size) for run in range(2)]
        alone = [_table(rows, sized=False) for rows in few]
        crowded = [_table(rows + others, sized=False) for rows in few]
        for a, b in (
            (fuse(alone, config), fuse(crowded, config)),
            (nms(alone[0], iou), nms(crowded[0], iou)),
        ):
            assert a.score is not None
            assert b.score is not None
            upper = b.xyxy[:, 1] < 2.9 * width
            assert np.array_equal(b.xyxy[upper], a.xyxy)
            assert np.array_equal(b.score[upper], a.score)


def test_images_without_a_box_stay() -> None:
    fused = fuse([_table([], images=3), _table([(1, 0, 0.5, 0, 0, 9, 9)], images=3)])
    assert np.diff(fused.offsets).tolist() == [0, 1, 0]
    assert fuse_reference([_table([], images=3)]) == fuse([_table([], images=3)])


@pytest.mark.parametrize("fusion", [fuse, fuse_reference])
def test_what_cannot_be_fused_is_refused(fusion: Callable) -> None:
    table = _table([_one(0.5)])
    for tables, config, message in (
        ([], None, "no tables"),
        ([table], FusionConfig(weights=(1, 2)), "2 weights for 1 runs"),
        ([table, _table([], images=2)], None, "same images"),
        ([replace(table, score=None)], None, "without scores"),
        ([table], FusionConfig(models=(1, 2)), "2 models for 1 runs|knows no models"),
        ([table], FusionConfig(nms_iou=(1, 0.5)), "2 values of nms_iou for 1 runs"),
        ([_table([_one(1.5)])], None, "outside 0..1"),
        ([_table([_one(-0.5)])], None, "outside 0..1"),
        ([_table([_one(np.nan)])], None, "not finite"),
        ([_table([_one(0.5, (0, 0, np.inf, 5))])], None, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            fusion(tables, config)


def test_the_library_gets_neither_zero_scores_nor_a_say_over_its_arguments() -> None:
    zeros = _table([_one(0.0), _one(0.0)])
    fused = fuse_reference([zeros, zeros], FusionConfig(skip=0))
    assert np.isfinite(fused.xyxy).all()
    assert fused.score == pytest.approx([0.0])
    assert fused.xyxy == pytest.approx(np.array([[10, 10, 30, 30]]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iou", 1.1),
        ("iou", np.nan),
        ("skip", -0.1),
        ("conf_type", "median"),
        ("max_detections", 0),
        ("weights", (1.0, -1.0)),
        ("weights", (0.0, 0.0)),
        ("weights", (np.nan, 1.0)),
        ("weights", (1e308, 1e308)),
        ("method", "median"),
        ("soft", "hard"),
        ("sigma", 0.0),
        ("shift_px", -1.0),
        ("min_votes", 0),
        ("nms_iou", (0.5, 1.5)),
        ("models", (0, -1)),
    ],
)
def test_settings_check_themselves(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field}|weight"):
        FusionConfig(**{field: value})


def test_suppression_is_torchvisions(random_tables: Callable[..., list[BoxTable]]) -> None:
    import torch
    from torchvision.ops import batched_nms

    rng = np.random.default_rng(0)
    for iou in (0.0, 0.3, 0.5, 0.8):
        table = random_tables(rng, runs=1, images=20, noise=40)[0]
        assert table.score is not None
        kept = nms(table, iou)
        # the image as part of the class keeps images apart
        groups = torch.from_numpy(table.label + len(table.classes) * table.image_index)
        index = batched_nms(
            torch.from_numpy(table.xyxy), torch.from_numpy(table.score), groups, iou
        )
        keep = np.zeros(len(table), bool)
        keep[index.numpy()] = True
        assert kept == table.filter_rows(keep)


def test_suppression_keeps_the_earlier_of_equal_boxes_and_every_column() -> None:
    table = _table([_one(0.5), _one(0.5), (0, 1, 0.5, 10, 10, 30, 30)])
    table = replace(table, ignore=np.array([False, True, True]))
    kept = nms(table, 0.5)
    assert kept.label.tolist() == [0, 1]
    assert kept.ignore is not None
    assert kept.ignore.tolist() == [False, True]
    with pytest.raises(ValueError, match="from 0 to 1"):
        nms(table, 2)
