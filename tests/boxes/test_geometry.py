import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import box_iou

from smallobj.boxes import (
    box_area,
    clip_boxes,
    cxcywh_norm_to_xyxy,
    iou_matrix,
    xywh_to_xyxy,
    xyxy_to_cxcywh_norm,
    xyxy_to_xywh,
)

boxes = arrays(
    np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(0, 500)
).map(lambda xywh: xywh_to_xyxy(xywh + np.array([0, 0, 1, 1])))


@given(boxes, boxes)
def test_iou_is_torchvisions(a: np.ndarray, b: np.ndarray) -> None:
    expected = box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(iou_matrix(a, b), expected, atol=1e-12)


@given(boxes)
def test_conversions_come_back(xyxy: np.ndarray) -> None:
    np.testing.assert_allclose(xywh_to_xyxy(xyxy_to_xywh(xyxy)), xyxy, atol=1e-9)
    normalised = xyxy_to_cxcywh_norm(xyxy, 1333.0, 777.0)
    np.testing.assert_allclose(cxcywh_norm_to_xyxy(normalised, 1333.0, 777.0), xyxy, atol=1e-9)


def test_a_box_without_area_overlaps_nothing() -> None:
    flat = np.array([[5.0, 5, 5, 9], [9, 9, 3, 3]])
    np.testing.assert_array_equal(box_area(flat), [0, 0])
    np.testing.assert_array_equal(iou_matrix(flat, flat), np.zeros((2, 2)))


def test_ten_pixel_boxes_one_pixel_apart_share_two_thirds() -> None:
    shifted = np.array([[0.0, 0, 10, 10], [1, 1, 11, 11], [2, 2, 12, 12]])
    assert iou_matrix(shifted, shifted)[0] == pytest.approx([1, 81 / 119, 64 / 136])


def test_boxes_are_cut_only_where_the_size_is_known() -> None:
    outside = np.array([[-5.0, -5, 50, 50], [-5, -5, 50, 50]])
    cut = clip_boxes(outside, np.array([40.0, 0]), np.array([30.0, 0]))
    np.testing.assert_array_equal(cut, [[0, 0, 40, 30], [-5, -5, 50, 50]])
