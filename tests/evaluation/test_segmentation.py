"""Pixel accuracy and mean IoU: by hand, by direct loops, and the masks that boxes draw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from smallobj.evaluation import (
    UNJUDGED,
    class_ious,
    count_pixels,
    draw_boxes,
    mean_iou,
    pixel_accuracy,
    pixel_scores,
)

TRUTH = np.array([[0, 0, 2], [1, 2, 2]])  # two classes, 2 is the background
PREDICTED = np.array([[0, 2, 2], [1, 1, 2]])


def test_counts_stand_in_the_row_of_the_truth() -> None:
    counts = count_pixels(TRUTH, PREDICTED, 2)
    assert counts.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 2]]


def test_scores_are_those_reckoned_by_hand() -> None:
    counts = count_pixels(TRUTH, PREDICTED, 2)
    assert class_ious(counts).tolist() == [1 / 2, 1 / 2, 2 / 4]
    assert mean_iou(counts) == 0.5
    assert pixel_accuracy(counts) == 4 / 6
    assert pixel_scores(counts) == {"mean_iou": 0.5, "pixel_accuracy": 4 / 6}


def test_a_class_that_the_truth_lacks_has_no_figure_but_costs_others() -> None:
    truth, predicted = np.array([[2, 2, 2, 0]]), np.array([[2, 2, 1, 0]])
    counts = count_pixels(truth, predicted, 2)
    np.testing.assert_array_equal(class_ious(counts), [1, np.nan, 2 / 3])
    assert mean_iou(counts) == pytest.approx(5 / 6)


def test_nothing_at_all_has_no_score() -> None:
    counts = count_pixels(np.zeros((0, 4), int), np.zeros((0, 4), int), 3)
    assert counts.shape == (4, 4)
    assert np.isnan(mean_iou(counts))
    assert np.isnan(pixel_accuracy(counts))


def test_what_is_not_judged_does_not_count() -> None:
    truth = TRUTH.copy()
    truth[0, 1] = UNJUDGED  # one of the two mistakes
    assert pixel_accuracy(count_pixels(truth, PREDICTED, 2)) == 4 / 5


@pytest.mark.parametrize(
    ("truth", "predicted", "said"),
    [
        ([[0, 3]], [[0, 0]], "outside 0 to 2"),
        ([[0, 0]], [[0, -1]], "outside 0 to 2"),
        ([[0, 0]], [[0], [0]], "differ"),
    ],
)
def test_maps_that_do_not_fit_are_refused(
    truth: list[list[int]], predicted: list[list[int]], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        count_pixels(np.array(truth), np.array(predicted), 2)


def maps(side: int = 6) -> st.SearchStrategy[NDArray[np.int64]]:
    return arrays(np.int64, (side, side), elements=st.integers(0, 3))


@given(maps(), maps())
def test_scores_are_those_of_direct_loops(
    truth: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    pairs = list(zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True))
    ious = []
    for label in range(4):
        both = sum(a == label and b == label for a, b in pairs)
        either = sum(label in pair for pair in pairs)
        if any(a == label for a, _ in pairs):
            ious.append(both / either)
    counts = count_pixels(truth, predicted, 3)
    assert counts.sum() == len(pairs)
    assert mean_iou(counts) == pytest.approx(sum(ious) / len(ious))
    assert pixel_accuracy(counts) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))


@given(maps(), maps())
def test_counts_of_parts_add_up_to_those_of_the_whole(
    truth: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    parts = [count_pixels(truth[rows], predicted[rows], 3) for rows in (slice(2), slice(2, None))]
    np.testing.assert_array_equal(sum(parts), count_pixels(truth, predicted, 3))


def drawn(
    boxes: list[list[float]], label: list[int], ignore: list[bool] | None = None
) -> list[list[int]]:
    return draw_boxes(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(label, np.int32),
        size=(4, 6),
        background=9,
        ignore=None if ignore is None else np.array(ignore),
    ).tolist()


def test_a_smaller_box_is_drawn_over_a_larger_one() -> None:
    rows = drawn([[1, 1, 3, 3], [0, 0, 4, 4]], [5, 7])
    assert rows == [
        [7, 7, 7, 7, 9, 9],
        [7, 5, 5, 7, 9, 9],
        [7, 5, 5, 7, 9, 9],
        [7, 7, 7, 7, 9, 9],
    ]


def test_a_pixel_is_in_a_box_where_its_centre_is() -> None:
    assert drawn([[0.5, 0.6, 2.4, 2.5]], [1]) == [
        [9, 9, 9, 9, 9, 9],
        [1, 1, 9, 9, 9, 9],
        [9, 9, 9, 9, 9, 9],
        [9, 9, 9, 9, 9, 9],
    ]


def test_boxes_reach_beyond_the_map_and_lie_beside_it() -> None:
    rows = drawn([[-5, -5, 1, 1], [5, 3, 50, 50], [-9, 0, -2, 4], [7, 0, 9, 4]], [1, 2, 3, 4])
    assert rows[0] == [1, 9, 9, 9, 9, 9]
    assert rows[3] == [9, 9, 9, 9, 9, 2]
    assert sum(value != 9 for row in rows for value in row) == 2


def test_an_ignored_box_is_not_judged_save_where_another_is() -> None:
    rows = drawn([[0, 0, 2, 1], [0, 0, 4, 1]], [1, 2], [True, False])
    assert rows[0] == [2, 2, 2, 2, 9, 9]
    rows = drawn([[0, 0, 2, 1], [0, 0, 4, 1]], [1, 2], [False, True])
    assert rows[0] == [1, 1, UNJUDGED, UNJUDGED, 9, 9]
