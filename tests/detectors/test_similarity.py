"""Boxes and anchors: how alike they are, and how many anchors that gives a box of any size."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.ops import box_iou

from smallobj.boxes import InputError
from smallobj.detectors import Detector, Target
from smallobj.detectors.anchors import matched
from smallobj.detectors.retinanet import RetinaNet
from smallobj.detectors.similarity import gaussian_similarity

Build = Callable[..., Detector]

IMAGE = (192, 256)
SIDES = (8, 12, 16, 32, 64, 96)
WITH_ANCHORS = ("retinanet", "ssd", "faster_rcnn")
relative = partial(gaussian_similarity, scale=0.5)


def square(side: float, x: float = 0.0, y: float = 0.0) -> Tensor:
    return torch.tensor([[x, y, x + side, y + side]])


def anywhere(side: float, count: int) -> Tensor:
    random = torch.Generator().manual_seed(int(side))
    corner = torch.rand(count, 2, generator=random) * (torch.tensor(IMAGE[::-1]) - side)
    return torch.cat((corner, corner + side), dim=1)


def slowly(a: list[float], b: list[float], scale: float, px: float) -> float:
    """Equation 8 from the means and covariances themselves, a pair at a time."""
    mean, spread, area = [], [], []
    for x1, y1, x2, y2 in (a, b):
        mean.append(torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2], dtype=torch.float64))
        sides = torch.tensor([x2 - x1, y2 - y1], dtype=torch.float64)
        spread.append(torch.diag(sides**2 / 4))
        area.append(float(sides.prod()))
    cross = 2 * (spread[0].sqrt() @ spread[1] @ spread[0].sqrt()).sqrt()
    squared = (mean[0] - mean[1]).square().sum() + (spread[0] + spread[1] - cross).trace()
    return math.exp(-math.sqrt(float(squared)) / (px or scale * math.sqrt(sum(area) / 2)))


@pytest.mark.parametrize("px", [0.0, 12.8])
def test_it_is_the_distance_of_gaussians(px: float) -> None:
    corner, side = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(0)) * 50 + 2
    boxes = torch.cat((corner, corner + side), dim=1)
    expected = [[slowly(a, b, 0.5, px) for b in boxes[2:].tolist()] for a in boxes[:4].tolist()]
    found = gaussian_similarity(boxes[:4], boxes[2:], scale=0.5, px=px)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_far_from_the_origin_a_small_shift_still_tells() -> None:
    shift = torch.tensor([[0.25, 0, 0.25, 0]])
    near = relative(square(10), square(10) + shift)
    far = relative(square(10) + 4096, square(10) + 4096 + shift)
    torch.testing.assert_close(near, far)


def test_boxes_that_grow_alike_stay_as_alike() -> None:
    a, b = torch.tensor([[3.0, 5, 11, 17]]), torch.tensor([[4.0, 2, 19, 12]])
    torch.testing.assert_close(relative(a, b), relative(9 * a, 9 * b))


@pytest.mark.parametrize("shared", [0.3, 0.4, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("side", [8.0, 90.0])
def test_squares_apart_in_one_direction_are_as_alike_as_their_iou(
    shared: float, side: float
) -> None:
    other = square(side, x=side * (1 - 2 * shared / (1 + shared)))
    assert float(box_iou(square(side), other)) == pytest.approx(shared, abs=1e-4)
    assert float(relative(square(side), other)) == pytest.approx(shared, abs=0.05)


def test_boxes_that_do_not_touch_differ_by_how_far_they_are() -> None:
    near, far = relative(square(8), square(8, x=9)), relative(square(8), square(8, x=14))
    assert 0 < float(far) < float(near) < 0.2


def positives(detector: Detector, side: float) -> float:
    """Anchors that learn a box of a side, the mean over places."""
    assert isinstance(detector, RetinaNet)
    anchors, counts = detector.anchors(IMAGE), []
    for box in anywhere(side, 20):
        target = Target(box[None], torch.tensor([0]))
        (match,) = matched(detector.matcher, detector.similarity, [target], anchors)
        counts.append(int((match == 0).sum()))
    return sum(counts) / len(counts)


def test_a_box_of_any_size_has_some_more_anchors_than_by_overlap(tiny: Build) -> None:
    """By overlap 9 to 19, and by distance 11 to 30 where C grows with the box."""
    by_iou, by_distance = tiny("retinanet"), tiny("retinanet", similarity="nwd")
    for side in SIDES:
        iou, nwd = positives(by_iou, side), positives(by_distance, side)
        assert 8 <= iou <= 20
        assert iou <= nwd <= 2 * iou


def test_a_fixed_distance_gives_small_boxes_all_and_large_ones_none(tiny: Build) -> None:
    detector = tiny("retinanet", similarity="nwd", nwd_px=12.8)
    assert positives(detector, 8) > 100
    assert positives(detector, 96) == 1


@pytest.mark.parametrize(
    "matcher", [Matcher(0.4, 0.3, allow_low_quality_matches=True), SSDMatcher(0.5)]
)
@pytest.mark.parametrize("similarity", [box_iou, relative])
def test_a_box_beyond_the_image_changes_nothing_for_the_others(
    matcher: Matcher, similarity: Any, tiny: Build
) -> None:
    detector = tiny("retinanet")
    assert isinstance(detector, RetinaNet)
    anchors = detector.anchors(IMAGE)
    inside, beyond = square(20, 30, 40), square(40, 500, 500)
    (alone,) = matched(matcher, similarity, [Target(inside, torch.tensor([0]))], anchors)
    both = Target(torch.cat((beyond, inside)), torch.tensor([0, 0]))
    (match,) = matched(matcher, similarity, [both], anchors)
    assert torch.equal(match, torch.where(alone >= 0, alone + 1, alone))
    assert bool((match == 1).any())


@pytest.mark.parametrize("name", WITH_ANCHORS)
def test_detectors_with_anchors_learn_from_either(name: str, tiny: Build) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    target = Target(torch.tensor([[20.0, 20, 31, 30]]), torch.tensor([1]))
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    detector = tiny(name, similarity="nwd")
    total = torch.stack(list(detector(images, [target, nothing]).values())).sum()
    total.backward()
    assert bool(torch.isfinite(total))


@pytest.mark.parametrize("name", WITH_ANCHORS)
@pytest.mark.parametrize("settings", [{"similarity": "giou"}, {"nwd_scale": 0.0}, {"nwd_px": -1.0}])
def test_a_wrong_setting_is_named(name: str, settings: dict[str, Any], tiny: Build) -> None:
    with pytest.raises(InputError, match=f"field {next(iter(settings))}"):
        tiny(name, **settings)
