"""YOLO: which places learn a box, distances as distributions, sizes and what they weigh."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from smallobj.boxes import InputError
from smallobj.detectors import Detector, Target, build_detector
from smallobj.detectors.assigner import (
    Assignment,
    Boxes,
    Candidates,
    TaskAlignedAssigner,
    boxes_of,
    places_of,
)
from smallobj.detectors.csp import CSPBackbone, MeetingConv
from smallobj.detectors.yolo import YOLO, boxes_at, complete_iou, distribution_focal_loss

Build = Callable[..., Detector]
CPU = torch.device("cpu")
STRIDES = (4, 8, 16)
ASSIGNER = TaskAlignedAssigner(alpha=1.0, beta=6.0, topk=13, radius=1.5)


def boxes(*xyxy: list[float]) -> Boxes:
    return boxes_of([Target(torch.tensor(xyxy), torch.zeros(len(xyxy), dtype=torch.int64))])


def assigned(true: Boxes, size: tuple[int, int], seed: int) -> tuple[Candidates, Assignment]:
    """With scores and overlaps as they come."""
    candidates = ASSIGNER.candidates(true, places_of(STRIDES, size, CPU), size)
    random = torch.Generator().manual_seed(seed)
    score, iou = torch.rand(2, *candidates.place.shape, generator=random)
    return candidates, ASSIGNER.assign(true.image, candidates, score, iou)


@st.composite
def crowds(draw: st.DrawFn) -> Boxes:
    """Up to nine boxes of at least a pixel in each of two images of 64 x 96, some beyond it."""

    def box() -> list[float]:
        x, y = draw(st.floats(-8, 95)), draw(st.floats(-8, 63))
        w, h = draw(st.floats(1, 60)), draw(st.floats(1, 60))
        return [x, y, x + w, y + h]

    targets = []
    for _ in range(2):
        some = torch.tensor([box() for _ in range(draw(st.integers(0, 9)))]).reshape(-1, 4)
        targets.append(Target(some, torch.zeros(len(some), dtype=torch.int64)))
    return boxes_of(targets)


@settings(deadline=None, max_examples=60)
@given(crowds(), st.integers(0, 1000))
def test_every_box_is_learnt_and_a_place_learns_one(true: Boxes, seed: int) -> None:
    candidates, (box, place, quality) = assigned(true, (64, 96), seed)
    assert box.unique().tolist() == list(range(len(true.label)))
    spots = list(zip(true.image[box].tolist(), place.tolist(), strict=True))
    assert len(set(spots)) == len(spots)
    assert bool(((quality >= 0) & (quality <= 1)).all())
    for one, where in zip(box.tolist(), place.tolist(), strict=True):
        offered = candidates.place[one][candidates.possible[one]]
        assert where in offered.tolist()
        assert len(offered.unique()) == len(offered)


def test_boxes_at_one_place_are_all_learnt() -> None:
    true = boxes(*[[30.0, 30, 31, 31]] * 9)
    candidates = ASSIGNER.candidates(true, places_of(STRIDES, (64, 96), CPU), (64, 96))
    same = torch.full(candidates.place.shape, 0.5)
    box = ASSIGNER.assign(true.image, candidates, same, same).box
    assert box.unique().tolist() == list(range(9))


def test_a_pixel_is_offered_the_nearest_places_of_every_level() -> None:
    places = places_of(STRIDES, (64, 96), CPU)
    true = boxes([41.0, 25, 42, 26])
    place, possible = ASSIGNER.candidates(true, places, (64, 96))
    offered = place[possible]
    near = (places.centre - torch.tensor([41.5, 25.5])).abs() <= 1.5 * places.stride
    assert sorted(offered.tolist()) == near.all(dim=1).nonzero().squeeze(1).tolist()
    assert {float(s) for s in places.stride[offered]} == {4, 8, 16}


def test_a_large_box_is_offered_five_places_a_side_about_its_centre() -> None:
    places = places_of((4,), (64, 96), CPU)
    place, possible = ASSIGNER.candidates(boxes([8.0, 10, 68, 50]), places, (64, 96))
    assert bool(possible.all())
    x, y = places.centre[place[0]].unbind(1)
    assert (x.unique() - 38).abs().max() <= 10
    assert (y.unique() - 30).abs().max() <= 10
    assert len(x.unique()) == len(y.unique()) == 5


def test_the_best_places_of_a_box_are_taken_and_graded_by_hand() -> None:
    """alpha 1, beta 2: alignments .32, .18, .04 and an impossible one; the best two are taken."""
    assigner = TaskAlignedAssigner(alpha=1.0, beta=2.0, topk=2, radius=1.5)
    candidates = Candidates(torch.tensor([[3, 5, 6, 9]]), torch.tensor([[True, True, True, False]]))
    score, iou = torch.tensor([[0.5, 0.5, 1.0, 1.0]]), torch.tensor([[0.8, 0.6, 0.2, 1.0]])
    box, place, quality = assigner.assign(torch.tensor([0]), candidates, score, iou)
    assert box.tolist() == [0, 0]
    assert place.tolist() == [3, 5]
    torch.testing.assert_close(quality, torch.tensor([0.8, 0.18 / 0.32 * 0.8]))


def test_a_place_goes_to_the_box_it_overlaps_most_and_the_other_finds_a_free_one() -> None:
    assigner = TaskAlignedAssigner(alpha=1.0, beta=1.0, topk=1, radius=1.5)
    candidates = Candidates(torch.tensor([[3, 4], [3, 5]]), torch.ones(2, 2, dtype=torch.bool))
    score = torch.tensor([[0.9, 0.1], [0.5, 0.1]])
    iou = torch.tensor([[0.5, 0.3], [0.6, 0.3]])
    box, place, _ = assigner.assign(torch.tensor([0, 0]), candidates, score, iou)
    assert sorted(zip(box.tolist(), place.tolist(), strict=True)) == [(0, 4), (1, 3)]
    apart = assigner.assign(torch.tensor([0, 1]), candidates, score, iou)
    assert apart.place.tolist() == [3, 3]  # of two images


def sharp(distances: Tensor, reg_max: int) -> Tensor:
    """Logits of distributions whose mean is a distance in strides: two bins beside each other."""
    at = distances + 2
    low = at.floor().clamp(max=reg_max - 2)
    near = F.one_hot(low.long(), reg_max) * (1 - at + low)[..., None]
    far = F.one_hot(low.long() + 1, reg_max) * (at - low)[..., None]
    return (near + far).clamp(min=1e-12).log()


def test_a_distribution_is_decoded_to_its_mean() -> None:
    distances = torch.tensor([[1.5, -0.75, 3.0, 13.0]])
    found = boxes_at(sharp(distances, 16), torch.tensor([[100.0, 60]]), torch.tensor([[8.0]]))
    torch.testing.assert_close(found, torch.tensor([[88.0, 66, 124, 164]]))


def test_the_distribution_loss_is_least_at_the_truth() -> None:
    distances = torch.tensor([[1.25, -2.0, 0.5, 13.0]])
    logits = (sharp(distances, 16) * 0.9).requires_grad_()
    least = distribution_focal_loss(sharp(distances, 16), distances)
    entropy = torch.tensor([[0.5623, 0.0, 0.6931, 0.0]])  # of 1/4 and 3/4, of 1/2 and 1/2
    torch.testing.assert_close(least, entropy, atol=1e-3, rtol=0)
    assert bool((distribution_focal_loss(logits, distances) >= least - 1e-6).all())


def test_a_distance_beyond_the_distribution_wants_its_last_bin() -> None:
    told = torch.zeros(1, 4, 16)
    told[..., -1] = 20.0
    assert distribution_focal_loss(told, torch.full((1, 4), 40.0)).max() < 1e-3


def test_complete_iou_is_torchvisions() -> None:
    corner, side = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0)) * 40 + 1
    found = torch.cat((corner, corner + side), dim=1)
    true = torch.cat((corner + 5, corner + 5 + side.flip(1)), dim=1)
    torch.testing.assert_close(1 - complete_iou(found, true), complete_box_iou_loss(found, true))


def test_a_box_inside_out_is_drawn_back_by_finite_gradients() -> None:
    found = torch.tensor([[12.0, 12, 8, 8], [5.0, 5, 5, 5]], requires_grad=True)
    complete_iou(found, torch.tensor([[5.0, 5, 15, 15]] * 2)).sum().backward()
    assert found.grad is not None
    assert bool(torch.isfinite(found.grad).all())


def test_meeting_is_a_convolution_of_the_concatenation() -> None:
    torch.manual_seed(0)
    meeting = MeetingConv(6, 4, 8)
    coarse, fine = torch.randn(2, 6, 4, 5), torch.randn(2, 4, 8, 10)
    weight = torch.cat((meeting.coarse.weight, meeting.fine.weight), dim=1)
    both = torch.cat((coarse.repeat_interleave(2, 2).repeat_interleave(2, 3), fine), dim=1)
    expected = meeting.norm_act(F.conv2d(both, weight))
    torch.testing.assert_close(meeting(coarse, fine), expected)


def yolo(size: str = "tiny", **settings: Any) -> YOLO:
    grey = (110.0,) * 3
    detector = build_detector("yolo", num_classes=2, mean=grey, std=grey, size=size, **settings)
    assert isinstance(detector, YOLO)
    return detector


def test_raw_made_from_the_truth_is_decoded_to_the_truth() -> None:
    detector = yolo()
    places = places_of(detector.config.strides, (64, 96), CPU)
    wanted = torch.tensor([41.0, 19, 62, 30])
    place = 16 * 24 + 3 * 12 + 6  # stride 8, row 3, column 6: centred on (52, 28)
    assert places.centre[place].tolist() == [52, 28]
    raw = {"class": torch.full((1, 16 * 24 + 8 * 12 + 4 * 6, 2), -20.0)}
    raw["sides"] = torch.zeros(1, raw["class"].shape[1], 4 * 16)
    raw["class"][0, place, 1] = torch.logit(torch.tensor(0.8))
    raw["sides"][0, place] = sharp(torch.tensor([11.0, 9, 10, 2]) / 8, 16).flatten()
    found = detector.decode(raw, (64, 96))[0]
    torch.testing.assert_close(found.xyxy, wanted[None])
    torch.testing.assert_close(found.score, torch.tensor([0.8]))
    assert found.label.tolist() == [1]
    losses = detector.losses(raw, [Target(wanted[None], torch.tensor([1]))], (64, 96))
    assert float(losses["box"]) < 1e-4


def test_it_starts_with_few_objects_of_about_four_strides() -> None:
    detector = yolo().eval()
    with torch.no_grad():
        score, xyxy = detector.boxes(
            detector(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)), (64, 96)
        )
    assert float(score.sum()) < 1
    sides = (xyxy[0, :, 2:] - xyxy[0, :, :2]) / places_of(STRIDES, (64, 96), CPU).stride
    assert bool(((sides > 3) & (sides < 5)).all())


def millions(detector: YOLO) -> float:
    return sum(weight.numel() for weight in detector.parameters()) / 1e6


@pytest.mark.parametrize(("size", "wanted"), [("n", 3), ("s", 11), ("m", 26), ("l", 44)])
def test_a_size_has_the_parameters_that_its_name_says(size: str, wanted: float) -> None:
    with torch.device("meta"):
        detector = yolo(size, finest=8)
    assert 0.85 * wanted < millions(detector) < 1.15 * wanted


def test_m_with_a_level_at_stride_64_fits_100_mb_in_half_precision() -> None:
    with torch.device("meta"):
        detector = yolo("m", finest=8, coarsest=64)
    numbers = sum(tensor.numel() for tensor in detector.state_dict().values())
    assert 2 * numbers <= 100e6
    with torch.no_grad():
        raw = detector(torch.empty(1, 3, 1280, 1280, dtype=torch.uint8, device="meta"))
    assert raw["class"].shape[1] == 160**2 + 80**2 + 40**2 + 20**2


@pytest.mark.parametrize(("finest", "coarsest"), [(4, 8), (8, 8), (4, 64), (16, 32)])
@pytest.mark.parametrize("backbone", ["csp", "resnet10t"])
def test_levels_may_be_any(backbone: str, finest: int, coarsest: int) -> None:
    detector = yolo(backbone=backbone, finest=finest, coarsest=coarsest, width=8)
    images = torch.zeros(2, 3, 64, 128, dtype=torch.uint8)
    places = sum(64 * 128 // stride**2 for stride in detector.config.strides)
    assert detector(images)["class"].shape == (2, places, 2)
    target = Target(torch.tensor([[20.0, 20, 28, 30]]), torch.tensor([1]))
    losses = detector(images, [target, target])
    torch.stack(list(losses.values())).sum().backward()
    assert all(weight.grad is not None for weight in detector.parameters())


def test_frozen_stages_of_the_csp_backbone_keep_weights_and_statistics() -> None:
    backbone = CSPBackbone(8, 1, finest=4, coarsest=16)
    backbone.freeze(2)
    backbone.train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    for key, weight in backbone.named_parameters():
        assert (weight.grad is None) == (not key.startswith("stages.stride16")), key
    for key, value in backbone.state_dict().items():
        follows = key.startswith("stages.stride16") and ("running" in key or "tracked" in key)
        assert torch.equal(value, before[key]) != follows, key


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"finest": 2}, "field finest: must be one of 4, 8, 16, got 2"),
        ({"coarsest": 128}, "field coarsest: must be one of 8, 16, 32, 64, got 128"),
        ({"finest": 16, "coarsest": 8}, "field finest: must lie in 4 to 8, got 16"),
        ({"width": 12}, "field width: must be a multiple of 8, got 12"),
        ({"backbone_options": {"legs": 4}}, "the backbone csp has none: set width and depth"),
        ({"backbone": "csp2"}, "field backbone: timm knows no such model"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        yolo(**settings)
