"""Right, wrong and missed boxes are those that evaluation counts."""

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.evaluation import evaluate, match, prepare_truth, working_point
from smallobj.report.choice import choose_boxes, choose_images
from smallobj.report.judged import KINDS, best_threshold, detected, judge

CLASSES = Classes.of(["bolt", "nut"])


def table(rows: list[tuple], *, images: int = 2, ignore: list[bool] | None = None) -> BoxTable:
    """Rows of (image, label, x1, y1, x2, y2[, score])."""
    columns = np.array(rows, float).reshape(len(rows), -1)
    return BoxTable.build(
        images=Images.of([f"{i}.png" for i in range(images)]),
        classes=CLASSES,
        image_index=columns[:, 0].astype(int),
        label=columns[:, 1].astype(np.int32),
        xyxy=columns[:, 2:6],
        score=columns[:, 6] if columns.shape[1] > 6 else None,
        ignore=None if ignore is None else np.array(ignore),
    )


TRUTH = table(
    [(0, 0, 0, 0, 10, 10), (0, 1, 50, 50, 70, 70), (1, 0, 5, 5, 15, 15), (1, 0, 80, 80, 90, 90)],
    ignore=[False, False, False, True],
)
RUN = table(
    [
        (0, 0, 1, 0, 11, 10, 0.9),  # right
        (0, 0, 50, 50, 70, 70, 0.8),  # the place of a nut
        (1, 0, 5, 5, 15, 15, 0.7),  # right
        (1, 0, 80, 80, 90, 90, 0.6),  # ignored
        (1, 1, 200, 200, 210, 210, 0.5),  # wrong
    ]
)


def kinds(shown) -> list[str]:
    return [KINDS[kind] for kind in shown.kind]


def test_each_box_is_told_with_what_it_overlaps() -> None:
    shown = judge(TRUTH, RUN)
    assert kinds(shown) == ["right", "wrong", "missed", "right", "wrong", "ignored"]
    assert shown.offsets.tolist() == [0, 3, 6]
    assert shown.label.tolist() == [0, 0, 1, 0, 1, 0]
    np.testing.assert_allclose(shown.iou, [90 / 110, 1, 1, 1, np.nan, 1])
    assert shown.other.tolist() == [0, 1, 0, 0, -1, 0]
    np.testing.assert_allclose(shown.score, [0.9, 0.8, np.nan, 0.7, 0.5, 0.6])
    np.testing.assert_allclose(shown.xyxy[2], [50, 50, 70, 70])


def random_tables(seed: int) -> tuple[BoxTable, BoxTable]:
    rng = np.random.default_rng(seed)
    true, found = [], []
    for _ in range(120):
        image, label = rng.integers(0, 6), rng.integers(0, 2)
        x, y, side = *rng.uniform(0, 80, 2), rng.uniform(5, 30)
        true.append((image, label, x, y, x + side, y + side))
        if rng.random() < 0.7:
            x, y = x + rng.normal(0, 3), y + rng.normal(0, 3)
            label = label if rng.random() < 0.9 else 1 - label
            found.append((image, label, x, y, x + side, y + side, rng.random()))
    return table(true, images=6), table(found, images=6)


@pytest.mark.parametrize("cap", [None, 8])
def test_counts_are_those_of_evaluate(cap: int | None) -> None:
    truth, run = random_tables(1)
    shown = judge(truth, run, max_detections=cap)
    scores = evaluate(truth, run, max_detections=cap)
    assert shown.count("right") + shown.count("wrong") == scores.detections
    assert shown.over_cap == scores.dropped
    assert shown.count("right") + shown.count("missed") == scores.overall.boxes
    for label, score in enumerate(scores.by_class):
        right = int(((shown.label == label) & (shown.kind == KINDS.index("right"))).sum())
        assert right == pytest.approx(score.recall50 * score.boxes)


def test_the_usual_threshold_is_that_of_the_best_f1() -> None:
    truth, run = random_tables(2)
    low = best_threshold(truth, run)
    point = working_point(match(prepare_truth(truth), run, [0.5]), run)
    shown = judge(truth, run.filter_rows(run.score >= low))
    assert low == point.threshold
    assert (shown.count("right"), shown.count("wrong")) == (point.found, point.false_alarms)
    assert best_threshold(truth, run.filter_rows(run.score < 0)) == 0


def test_without_labels_the_best_of_an_image_are_shown() -> None:
    shown = detected(RUN, max_detections=2)
    assert set(kinds(shown)) == {"detected"}
    assert shown.score.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert shown.over_cap == 1


def test_boxes_and_images_are_chosen_by_kind_class_and_number() -> None:
    shown = judge(TRUTH, RUN)
    assert kinds(choose_boxes(shown, only=["missed"])) == ["missed"]
    nut = choose_boxes(shown, classes=["nut"])
    assert kinds(nut) == ["wrong", "missed", "wrong"]  # a bolt in the place of a nut too
    missed = choose_boxes(shown, only=["missed"])
    assert choose_images(missed, with_boxes=True).tolist() == [0]
    assert choose_images(missed).tolist() == [0, 1]
    assert choose_images(shown, limit=1).tolist() == [0]
    second = shown.take_images(np.array([1]))
    assert kinds(second) == ["right", "wrong", "ignored"]
    assert second.images.ids == ("1.png",)
    with pytest.raises(InputError, match="no such class; known: bolt, nut"):
        choose_boxes(shown, classes=["washer"])
