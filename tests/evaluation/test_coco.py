"""COCO's twelve numbers against pycocotools and the published golden text."""

import contextlib
import io
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smallobj.boxes import BoxTable, box_area, xyxy_to_xywh
from smallobj.evaluation import coco_summary
from smallobj.formats import align_runs, read_labels, read_run


def pycocotools_numbers(truth: BoxTable, predictions: BoxTable) -> np.ndarray:
    def rows(table: BoxTable) -> list[dict]:
        columns = (
            table.image_index.tolist(),
            table.label.tolist(),
            xyxy_to_xywh(table.xyxy).tolist(),
        )
        return [
            {"id": k + 1, "image_id": i, "category_id": c, "bbox": xywh}
            for k, (i, c, xywh) in enumerate(zip(*columns, strict=True))
        ]

    crowd = np.zeros(len(truth), bool) if truth.ignore is None else truth.ignore
    true = [
        {**row, "area": float(area), "iscrowd": int(one)}
        for row, area, one in zip(rows(truth), truth.box_area, crowd, strict=True)
    ]
    predicted = [
        {**row, "score": float(score), "area": float(area), "iscrowd": 0}
        for row, score, area in zip(
            rows(predictions), predictions.score, box_area(predictions.xyxy), strict=True
        )
    ]
    images = [{"id": i} for i in range(len(truth.images))]
    categories = [{"id": c} for c in range(len(truth.classes))]
    both = []
    with contextlib.redirect_stdout(io.StringIO()):
        for annotations in (true, predicted):
            coco = COCO()
            coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
            coco.createIndex()
            both.append(coco)
        job = COCOeval(*both, "bbox")
        job.evaluate()
        job.accumulate()
        job.summarize()
    return job.stats


def assert_equal_numbers(truth: BoxTable, predictions: BoxTable) -> None:
    ours = list(coco_summary(truth, predictions).values())
    np.testing.assert_allclose(ours, pycocotools_numbers(truth, predictions), rtol=0, atol=1e-9)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.fixed_dictionaries(
        {
            "images": st.integers(1, 6),
            "classes": st.integers(1, 4),
            "per_image": st.integers(0, 10),
            "score_levels": st.sampled_from([1, 3, 20]),
            "side": st.sampled_from([8, 30, 150]),
        }
    ),
)
def test_equals_pycocotools_with_ties_crowds_and_empty_classes(random_pair, seed, shape):
    assert_equal_numbers(*random_pair(np.random.default_rng(seed), **shape))


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_with_masks_of_other_area_than_the_box(random_pair, seed):
    rng = np.random.default_rng(seed)
    truth, predictions = random_pair(rng, images=20, side=150)
    columns = {"xyxy": truth.xyxy, "label": truth.label, "ignore": truth.ignore}
    masked = BoxTable.build(
        images=truth.images,
        classes=truth.classes,
        image_index=truth.image_index,
        area=truth.box_area * rng.uniform(0.3, 1, len(truth)),
        **columns,
    )
    assert_equal_numbers(masked, predictions)
    assert coco_summary(masked, predictions) != coco_summary(truth, predictions)


def test_equals_pycocotools_at_the_borders_of_the_area_ranges(random_pair):
    truth, predictions = random_pair(np.random.default_rng(0), images=10)
    for table in (truth, predictions):
        table.xyxy[:, 2:] = table.xyxy[:, :2] + np.where(table.label[:, None] == 0, 32, 96)
    assert_equal_numbers(truth, predictions)


def test_equals_pycocotools_with_more_than_a_hundred_of_a_class(random_pair):
    truth, predictions = random_pair(
        np.random.default_rng(1), images=3, classes=2, per_image=200, score_levels=30, side=60
    )
    assert np.diff(predictions.offsets).max() > 200
    assert_equal_numbers(truth, predictions)


def test_golden_numbers_of_coco(real_data):
    folder = real_data("coco_golden")
    labels = read_labels(folder / "instances_val2014_100.json")
    run = read_run(folder / "instances_val2014_fakebbox100_results.json", labels=labels)
    predictions = align_runs(
        [run], images=labels.table.images, classes=labels.table.classes
    ).tables[0]
    text = (folder / "val2014_fake_eval_res.txt").read_text().split("type=bbox")[1]
    golden = [float(number) for number in re.findall(r"= (-?[\d.]+)\n", text)[:12]]
    ours = list(coco_summary(labels.table, predictions).values())
    assert [round(number, 3) for number in ours] == golden
    assert_equal_numbers(labels.table, predictions)
