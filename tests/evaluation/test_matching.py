"""Order of detections and who found what, against numpy and pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smallobj.boxes import xyxy_to_xywh
from smallobj.evaluation import match, prepare_truth
from smallobj.evaluation.kernels import order_by_falling_score
from smallobj.formats import align_runs, read_labels, read_run

RNG = np.random.default_rng(0)
SCORES = {
    "none": np.empty(0),
    "one": np.array([0.5]),
    "all equal": np.full(1000, 0.3),
    "few levels": RNG.integers(0, 4, 2000) / 3,
    "with zeros of both signs": np.array([0.0, -0.0, 0.1, -0.0, 0.0] * 50),
    "spread over all magnitudes": RNG.random(3000) ** 40,
    "single precision": RNG.random(3000).astype(np.float32).astype(np.float64),
    "alike in their leading bits": 0.5 + RNG.integers(0, 2**20, 3000) * 2.0**-52,
    "alike in pairs": np.repeat(RNG.random(1000), 2) + np.tile([0, 2.0**-50], 1000),
    "alike but for two": np.concatenate([[1e-300, 1.0], 0.5 + RNG.random(2000) * 1e-13]),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_fall_and_equal_ones_keep_their_order(name):
    score = SCORES[name]
    np.testing.assert_array_equal(order_by_falling_score(score), np.argsort(-score, kind="stable"))


def found_by_pycocotools(folder):
    """The true boxes that pycocotools says are found, and the score and box of what found each."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(folder / "instances_val2014_100.json")
        found = truth.loadRes(str(folder / "instances_val2014_fakebbox100_results.json"))
        job = COCOeval(truth, found, "bbox")
        job.params.areaRng, job.params.areaRngLbl = [[0, 1e10]], ["all"]
        job.evaluate()
    pairs = [
        (truth.anns[int(g)]["bbox"], found.anns[int(d)])
        for one in job.evalImgs
        if one is not None
        for g, d, ignored in zip(one["gtIds"], one["gtMatches"][0], one["gtIgnore"], strict=True)
        if d and not ignored
    ]
    return {rounded(bbox): (found["score"], *found["bbox"]) for bbox, found in pairs}


def test_the_finder_of_every_true_box_is_pycocotools_match(real_data):
    folder = real_data("coco_golden")
    labels = read_labels(folder / "instances_val2014_100.json")
    run = read_run(folder / "instances_val2014_fakebbox100_results.json", labels=labels)
    table = align_runs([run], images=labels.table.images, classes=labels.table.classes).tables[0]
    truth = prepare_truth(labels.table, area="source")
    matches = match(truth, table, [0.5], max_detections=None, max_per_class=100)
    true_rows = np.flatnonzero(matches.finder[0] >= 0)
    rows = matches.row[matches.finder[0, true_rows]]
    expected = found_by_pycocotools(folder)
    assert len(expected) == len(true_rows) > 300
    true_xywh, found_xywh = xyxy_to_xywh(truth.xyxy[true_rows]), xyxy_to_xywh(table.xyxy[rows])
    for true_box, box, score in zip(true_xywh, found_xywh, table.score[rows], strict=True):
        np.testing.assert_allclose((score, *box), expected[rounded(true_box)], atol=1e-9)


def rounded(box):
    return tuple(round(float(side), 6) for side in box)
