"""The compiled kernel against ensemble-boxes, as a user of that library would have it.

The library has no order for equal scores, so the cases have distinct ones. It accumulates in
float32, so where an IoU lies within 1e-5 of the threshold, or of the IoU with another fused box,
the two may cluster differently: an image that differs for this reason is set aside, and counted.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from smallobj.boxes import BoxTable, iou_matrix
from smallobj.ensemble import CONFIDENCE_RULES, METHODS, FusionConfig, fuse
from smallobj.ensemble.reference import fuse_reference

MARGIN = 1e-5
TOLERANCE = 1e-6


SETTINGS = {
    "wbf": [
        {"conf_type": rule, "allows_overflow": overflow}
        for rule, overflow in product(CONFIDENCE_RULES, (False, True))
    ],
    "nms": [{}],
    "soft_nms": [{"soft": "linear"}, {"soft": "gaussian"}],
    "nmw": [{}],
}


@pytest.mark.parametrize("method", METHODS)
def test_hundreds_of_random_cases_agree(
    method: str, random_tables: Callable[..., list[BoxTable]]
) -> None:
    _compare_random(method, random_tables, cases=256)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_ten_thousand_random_cases_agree(
    method: str, random_tables: Callable[..., list[BoxTable]]
) -> None:
    _compare_random(method, random_tables, cases=10_240)


def test_soft_suppression_keeps_the_boxes_that_the_library_keeps(
    random_tables: Callable[..., list[BoxTable]],
) -> None:
    # the library returns the scores from before they were lowered, so only boxes are compared
    from ensemble_boxes import soft_nms

    rng = np.random.default_rng(1)
    for case in range(60):
        tables = random_tables(rng, images=1, sized=True)
        size = np.array([tables[0].images.width[0], tables[0].images.height[0]] * 2)
        config = FusionConfig(
            method="soft_nms", soft=("linear", "gaussian")[case % 2], skip=0.02, max_detections=None
        )
        boxes, _, labels = soft_nms(
            [t.xyxy[t.score >= 0.02] / size for t in tables],
            [t.score[t.score >= 0.02] for t in tables],
            [t.label[t.score >= 0.02] for t in tables],
            method=1 + case % 2,
            iou_thr=config.iou,
            sigma=config.sigma,
            thresh=config.skip,
        )
        ours = fuse(tables, config)
        kept = np.column_stack([ours.xyxy, ours.label])
        theirs = np.column_stack([boxes * size, labels])
        assert kept[np.lexsort(kept.T)] == pytest.approx(theirs[np.lexsort(theirs.T)])


def _compare_random(
    method: str, random_tables: Callable[..., list[BoxTable]], *, cases: int
) -> None:
    rng = np.random.default_rng(0)
    compared = aside = 0
    kinds = list(product(SETTINGS[method], (False, True), (False, True)))
    images = 8
    for case in range(cases // images):
        own, weighted, sized = kinds[case % len(kinds)]
        runs = int(rng.integers(1, 7))
        tables = random_tables(rng, images=images, runs=runs, sized=sized)
        config = FusionConfig(
            method=method,
            iou=float(rng.uniform(0.2, 0.8)),
            skip=float(rng.choice([0, 0.001, 0.3])),
            weights=tuple(rng.uniform(0.5, 9, runs)) if weighted else None,
            sigma=float(rng.uniform(0.1, 1)),
            nms_iou=tuple(rng.choice([0.5, 1.0], runs)) if rng.random() < 0.2 else None,
            max_detections=None,
            **own,
        )
        same, close = _compare(tables, config)
        compared, aside = compared + same, aside + close
    print(f"{method}: {compared} images agree, {aside} set aside")
    assert compared + aside == cases
    assert compared >= 0.98 * cases


# whole pixels make many an IoU exactly 11/20, at which the threshold decides by the last bit
FACES = pytest.mark.parametrize(("iou", "share"), [(0.55, 0.8), (0.553, 0.99)])


@pytest.mark.parametrize(
    ("method", "iou", "share", "step"),
    [
        ("wbf", 0.55, 0.9, 60),
        ("wbf", 0.553, 0.99, 60),
        ("nms", 0.553, 0.99, 60),
        ("soft_nms", 0.553, 0.99, 240),
        ("nmw", 0.553, 0.99, 240),
    ],
)
def test_some_images_of_three_face_detectors_agree(
    *,
    real_data: Callable[[str], Path],
    benchmark_module: Callable[[str], ModuleType],
    method: str,
    iou: float,
    share: float,
    step: int,
) -> None:
    _, tables = benchmark_module("wider").read_wider(real_data("wider_predictions"))
    images = np.arange(0, len(tables[0].images), step)
    compared, aside = _compare_wider([t.take_images(images) for t in tables], method, iou)
    assert compared + aside == len(images)
    assert compared >= share * len(images)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@FACES
def test_images_of_three_face_detectors_agree(
    real_data: Callable[[str], Path],
    benchmark_module: Callable[[str], ModuleType],
    method: str,
    iou: float,
    share: float,
) -> None:
    _, tables = benchmark_module("wider").read_wider(real_data("wider_predictions"))
    # the library needs seconds for a crowded image: of its slower methods every eighth is enough
    images = np.arange(0, len(tables[0].images), 8 if method in ("nmw", "soft_nms") else 1)
    compared, aside = _compare_wider([t.take_images(images) for t in tables], method, iou)
    print(f"{method} at {iou}: {compared} images agree, {aside} set aside")
    assert compared + aside == len(images)
    assert compared >= share * len(images)


def _compare_wider(tables: list[BoxTable], method: str, iou: float) -> tuple[int, int]:
    rng = np.random.default_rng(0)
    jittered = []
    for table in tables:
        assert table.score is not None
        score = np.clip(table.score, 0, 1 - 1e-5) + rng.uniform(0, 1e-5, len(table))
        jittered.append(replace(table, score=score))
    config = FusionConfig(
        method=method, iou=iou, weights=(3, 2, 1), soft="linear", max_detections=None
    )
    return _compare(jittered, config)


def _compare(tables: list[BoxTable], config: FusionConfig) -> tuple[int, int]:
    """Numbers of images that agree and that were set aside; fails on one that does not agree."""
    ours, reference = fuse(tables, config), fuse_reference(tables, config)
    aside = 0
    for image in range(len(ours.images)):
        extent = _extent(tables, image)
        if _same(_rows(ours, image, extent), _rows(reference, image, extent)):
            continue
        assert _closest_call(tables, image, config) < MARGIN, f"image {image} under {config}"
        aside += 1
    return len(ours.images) - aside, aside


def _closest_call(tables: list[BoxTable], image: int, config: FusionConfig) -> float:
    """How near the IoU that decides for a box comes to the threshold or to the next best IoU.

    Of soft suppression, how near the IoU of any two boxes of a class comes to the threshold.
    """
    weights = config.weights_of(len(tables))
    rows = np.concatenate(
        [
            np.c_[_rows(t, image), _rows(t, image)[:, 0] * w]
            for t, w in zip(tables, weights, strict=True)
        ]
    )
    rows = rows[rows[:, 0] >= config.skip]
    closest = np.inf
    for label in np.unique(rows[:, 5]):
        if config.method == "soft_nms":
            boxes = rows[rows[:, 5] == label, 1:5]
            closest = min(closest, np.abs(iou_matrix(boxes, boxes) - config.iou).min())
            continue
        fused, mass = np.empty((0, 4)), np.empty(0)
        for row in sorted(rows[rows[:, 5] == label], key=lambda row: -row[6]):
            overlaps = iou_matrix(row[None, 1:5], fused)[0]
            best = overlaps.max(initial=0)
            closest = min(closest, abs(best - config.iou))
            if best > config.iou:
                joined = int(overlaps.argmax())
                closest = min(closest, best - np.delete(overlaps, joined).max(initial=0))
                mass[joined] += row[6]
                if config.method == "wbf":
                    fused[joined] += (row[1:5] - fused[joined]) * row[6] / mass[joined]
            else:
                fused, mass = np.vstack([fused, row[1:5]]), np.append(mass, row[6])
    return closest


def _extent(tables: list[BoxTable], image: int) -> float:
    size = tables[0].images.width[image], tables[0].images.height[image]
    return max(*size, *(t.xyxy[t.rows(image)].max(initial=1) for t in tables))


def _rows(table: BoxTable, image: int, extent: float = 1) -> np.ndarray:
    """Score, corners as a share of the image, label; [n, 6]."""
    rows = table.rows(image)
    assert table.score is not None
    return np.column_stack([table.score[rows], table.xyxy[rows] / extent, table.label[rows]])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the rows are those of the other, in whatever order nearly equal scores have."""
    if len(a) != len(b):
        return False
    if np.abs(a - b).max(initial=0) <= TOLERANCE:
        return True
    close = np.abs(a[:, None] - b[None]).max(axis=2) <= TOLERANCE
    return bool(close.any(axis=0).all() and close.any(axis=1).all())
