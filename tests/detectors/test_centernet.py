"""CenterNet: the heat is where the objects are, the smallest of several boxes is learnt."""

from collections.abc import Callable

import pytest
import torch

from smallobj.detectors import Detector, Target
from smallobj.detectors.centernet import CenterNet, _Truth, heat_focal_loss

Build = Callable[..., Detector]


def truth(tiny: Build, *targets: Target) -> _Truth:
    detector = tiny("centernet")
    assert isinstance(detector, CenterNet)
    return _Truth(targets, torch.zeros(len(targets), 2, 16, 24), detector.config)


def target(boxes: list[list[float]], label: list[int]) -> Target:
    return Target(torch.tensor(boxes).reshape(-1, 4), torch.tensor(label, dtype=torch.int64))


def test_the_heat_is_one_at_the_centre_of_its_class_and_image(tiny: Build) -> None:
    heat = truth(tiny, target([], []), target([[40.0, 20, 60, 30]], [1])).heat_map()
    assert heat.shape == (2, 2, 16, 24)
    assert (heat == 1).nonzero().tolist() == [[1, 1, 25 // 4, 50 // 4]]
    # 20 px wide, 10 px high: the heat reaches one place to the sides and none up or down.
    assert (heat > 0).nonzero().tolist() == [[1, 1, 6, 11], [1, 1, 6, 12], [1, 1, 6, 13]]


def test_heat_of_objects_side_by_side_is_the_higher_of_both(tiny: Build) -> None:
    boxes = [[8.0, 8, 40, 40], [20.0, 8, 52, 40]]
    both = truth(tiny, target(boxes, [0, 0])).heat_map()
    single = [truth(tiny, target([box], [0])).heat_map() for box in boxes]
    assert torch.equal(both, torch.maximum(*single))


def test_a_place_between_boxes_learns_the_smaller(tiny: Build) -> None:
    boxes = [[24.0, 24, 40, 40], [0.0, 0, 64, 64], [24.0, 24, 40, 41]]
    places, owner, weight = truth(tiny, target(boxes, [0, 1, 1])).box_places()
    centre = 8 * 24 + 8
    assert owner[places == centre].tolist() == [0]
    assert len(places.unique()) == len(places)
    sums = torch.zeros(3).index_add_(0, owner, weight)
    assert sums.tolist() == pytest.approx([1, 1, 0])


def test_centres_outside_the_map_count_at_its_border(tiny: Build) -> None:
    heat = truth(tiny, target([[-50.0, -50, 3, 3], [90.0, 60, 140, 130]], [0, 1])).heat_map()
    assert (heat == 1).nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 15, 23]]


def test_raw_made_from_the_truth_is_decoded_to_the_truth(tiny: Build) -> None:
    detector = tiny("centernet")
    wanted = target([[41.0, 19, 62, 30], [3.0, 40, 13, 50]], [1, 0])
    heat = truth(tiny, wanted).heat_map()
    raw = {"heat": torch.logit(heat * 0.9), "sides": torch.zeros(1, 4, 16, 24)}
    centres = (wanted.xyxy[:, :2] + wanted.xyxy[:, 2:]) / 2
    for (x1, y1, x2, y2), (x, y) in zip(wanted.xyxy.tolist(), (centres // 4).tolist(), strict=True):
        column, row = int(x), int(y)
        px, py = column * 4 + 2, row * 4 + 2
        sides = torch.tensor([px - x1, py - y1, x2 - px, y2 - py]) / 4
        raw["sides"][0, :, row, column] = sides.log()
    found = detector.decode(raw, (64, 96))[0]
    assert found.label.tolist() == [1, 0] or found.label.tolist() == [0, 1]
    order = found.label.argsort(descending=True)
    torch.testing.assert_close(found.xyxy[order], wanted.xyxy)
    assert found.score.tolist() == pytest.approx([0.9, 0.9])


def test_the_heat_loss_forgives_places_near_a_centre() -> None:
    heat = torch.tensor([[[[1.0, 0.8, 0.0]]]])
    sure = torch.tensor([[[[9.0, -9.0, -9.0]]]])
    near, far = sure.clone(), sure.clone()
    near[..., 1], far[..., 2] = 2.0, 2.0
    assert heat_focal_loss(sure, heat) < 1e-3
    assert heat_focal_loss(near, heat) < heat_focal_loss(far, heat) / 100
    assert torch.isfinite(heat_focal_loss(torch.tensor([[[[-1e4, 1e4, 1e4]]]]), heat))
