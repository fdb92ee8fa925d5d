"""Faster R-CNN: proposals of fixed count, and torchvision's own pooling, sampling and losses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, box_iou, nms

from smallobj.boxes import InputError
from smallobj.detectors import Detector, Target
from smallobj.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from smallobj.detectors.proposals import PyramidRoIAlign, best_proposals, iou_within

Build = Callable[..., Detector]

IMAGE = (192, 256)
GIVEN: dict[str, Any] = {"num_classes": 2, "mean": (110.0,) * 3, "std": (60.0,) * 3}
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def faster_rcnn(tiny: Build, **settings: Any) -> FasterRCNN:
    detector = tiny("faster_rcnn", **settings)
    assert isinstance(detector, FasterRCNN)
    return detector


def boxes(count: int, seed: int = 0, *, least: float = 8, most: float = 100) -> Tensor:
    """Boxes [count, 4] inside IMAGE with sides of 8 to 100 px."""
    random = torch.Generator().manual_seed(seed)
    size = least + torch.rand(count, 2, generator=random) * (most - least)
    corner = torch.rand(count, 2, generator=random) * (torch.tensor([256.0, 192.0]) - size)
    return torch.cat((corner, corner + size), dim=1)


def images(count: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *IMAGE), dtype=torch.uint8, generator=random)


def truth() -> list[Target]:
    return [Target(boxes(5, 3), torch.tensor([0, 1, 0, 1, 1])), NOTHING]


def test_iou_is_that_of_torchvision() -> None:
    some = torch.stack((boxes(30), boxes(30, 1)))
    some[0, 3] = 0  # a filled row
    for mine, one in zip(iou_within(some), some, strict=True):
        expected = box_iou(one, one).nan_to_num(0)
        torch.testing.assert_close(mine, expected)


def test_proposals_are_those_of_nms() -> None:
    some = torch.stack((boxes(60, least=40), boxes(60, 1, least=60)))
    score = torch.rand(2, 60, generator=torch.Generator().manual_seed(2))
    found, objectness = best_proposals(score, some, count=40, most_iou=0.3)
    for i in range(2):
        kept = nms(some[i], score[i], 0.3)[:40]
        assert 3 < len(kept) < 40
        torch.testing.assert_close(found[i, : len(kept)], some[i, kept])
        torch.testing.assert_close(objectness[i, : len(kept)], score[i, kept])
        assert bool((objectness[i, len(kept) :] == 0).all())


def test_there_are_as_many_proposals_in_an_image_of_any_size(tiny: Build) -> None:
    detector = faster_rcnn(tiny).eval()
    for height, width in ((32, 32), (32, 96), (192, 64)):
        with torch.no_grad():
            raw = detector(torch.zeros(1, 3, height, width, dtype=torch.uint8))
        assert raw["proposals"].shape == (1, detector.config.proposals, 4)
        assert bool((raw["proposals"] >= 0).all())
        assert bool((raw["proposals"] <= torch.tensor([width, height] * 2)).all())


def test_a_row_without_area_or_that_fills_the_count_is_no_candidate(tiny: Build) -> None:
    score = torch.tensor([[0.9, 0.8, 0.7]])
    some = torch.tensor([[[5.0, 5, 5, 20], [5, 5, 20, 20], [5, 5, 20, 21]]])
    found, objectness = best_proposals(score, some, count=3, most_iou=0.7)
    torch.testing.assert_close(objectness, torch.tensor([[0.8, 0.0, 0.0]]))
    detector = faster_rcnn(tiny)
    raw = {
        "proposals": found,
        "objectness": objectness,
        "cls_logits": torch.zeros(1, 3, 3),
        "bbox_regression": torch.zeros(1, 3, 4),
    }
    candidates = detector.decode(raw, IMAGE)[0]
    torch.testing.assert_close(candidates.xyxy, some[0, [1, 1]])
    assert candidates.label.tolist() == [0, 1]


def test_features_are_those_of_multi_scale_roi_align() -> None:
    strides, places = (4, 8, 16), 5
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, IMAGE[0] // s, IMAGE[1] // s, generator=random) for s in strides]
    some = [boxes(20), boxes(30, 1, most=180)]
    theirs = MultiScaleRoIAlign(["0", "1", "2"], places, 2, canonical_scale=20, canonical_level=2)
    expected = theirs({str(i): m for i, m in enumerate(maps)}, some, [IMAGE] * 2)
    image = torch.tensor([0] * 20 + [1] * 30)
    found = PyramidRoIAlign(strides, places)(maps, torch.cat(some), image)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("side", "level"), [(8, 0), (30, 0), (39, 0), (41, 1), (81, 2)])
def test_small_boxes_are_pooled_from_the_finest_level(side: float, level: int) -> None:
    maps = [torch.full((1, 1, 64 // 2**i, 64 // 2**i), float(i)) for i in range(3)]
    pool = PyramidRoIAlign((4, 8, 16), 5)
    box = torch.tensor([[10.0, 10, 10 + side, 10 + side]])
    assert pool(maps, box, torch.zeros(1)).unique().tolist() == [level]


def first_stage(detector: FasterRCNN) -> RegionProposalNetwork:
    """torchvision's own, around the same head."""
    config = detector.config
    sizes = tuple((2.0 * s, 2.0 * s * 2**0.5) for s in config.strides)
    counts = {"training": 2 * config.proposals, "testing": 2 * config.proposals}
    return RegionProposalNetwork(
        AnchorGenerator(sizes, (config.anchor_ratios,) * len(sizes)),
        detector.first.head,
        0.5,
        0.3,
        config.anchor_samples,
        0.5,
        counts,
        counts,
        config.proposal_iou,
    )


def test_losses_of_the_first_stage_are_those_of_torchvision(tiny: Build) -> None:
    detector = faster_rcnn(tiny)
    torch.manual_seed(5)
    raw = detector.network_with_truth(detector.normalise(images(2)), truth())
    torch.manual_seed(6)
    ours = detector.losses(raw, truth(), IMAGE)
    maps = detector.levels(detector.normalise(images(2)))
    listed = ImageList(torch.zeros(2, 3, *IMAGE), [IMAGE] * 2)
    torch.manual_seed(6)
    _, theirs = first_stage(detector).train()(
        listed,
        {str(i): m for i, m in enumerate(maps)},
        [{"boxes": t.xyxy, "labels": t.label} for t in truth()],
    )
    torch.testing.assert_close(ours["objectness"], theirs["loss_objectness"])
    torch.testing.assert_close(ours["proposal"], theirs["loss_rpn_box_reg"])


def test_losses_of_the_second_stage_are_those_of_torchvision(tiny: Build) -> None:
    """The same samples from the same seed, and the same losses of one box for all classes."""
    detector = faster_rcnn(tiny, box_weight=2.0)
    x = detector.normalise(images(2))
    torch.manual_seed(5)
    ours = detector.losses(detector.network_with_truth(x, truth()), truth(), IMAGE)
    maps = detector.levels(x)
    proposals, score = detector._proposals(*detector._first_look(maps), IMAGE)
    second, places = detector.second, detector.config.roi_places

    class OneBox(nn.Module):
        def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
            logits, change = second.box_predictor(features)
            return logits, change.repeat(1, 3)

    theirs = RoIHeads(
        MultiScaleRoIAlign(
            ["0", "1", "2", "3"], places, 2, canonical_scale=4 * places, canonical_level=2
        ),
        second.box_head,
        OneBox(),
        *(0.5, 0.5, detector.config.box_samples, 0.25, None, 0.05, 0.5, 100),
    )
    torch.manual_seed(5)
    _, expected = theirs.train()(
        {str(i): m for i, m in enumerate(maps)},
        [p[valid] for p, valid in zip(proposals, score > 0, strict=True)],
        [IMAGE] * 2,
        [{"boxes": t.xyxy, "labels": t.label + 1} for t in truth()],
    )
    torch.testing.assert_close(ours["classification"], expected["loss_classifier"])
    torch.testing.assert_close(ours["box"], 2 * expected["loss_box_reg"])


def test_true_boxes_are_among_what_the_second_stage_learns(tiny: Build) -> None:
    detector = faster_rcnn(tiny)
    raw = detector.network_with_truth(detector.normalise(images(2)), truth())
    exact = (raw["labels"] > 0) & (raw["changes"].abs() < 1e-4).all(dim=1)
    assert sorted(raw["labels"][exact].tolist()) == [1, 1, 2, 2, 2]
    assert len(raw["labels"]) == 2 * detector.config.box_samples


def test_samples_are_drawn_from_the_seed(tiny: Build) -> None:
    detector = faster_rcnn(tiny)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(sum(detector(images(2), truth()).values()))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_raw_made_from_the_truth_is_decoded_to_the_truth(tiny: Build) -> None:
    detector = faster_rcnn(tiny)
    wanted = boxes(3)
    near = wanted + torch.tensor([[2.0, -3, 4, 1]])
    raw = {
        "proposals": near[None],
        "objectness": torch.tensor([[0.9, 0.5, 0.1]]),
        "cls_logits": torch.tensor([[[0.0, 0, 9], [0, 0, 8], [0, 7, 0]]]),
        "bbox_regression": detector.second.box_coder.encode_single(wanted, near)[None],
    }
    found = detector.decode(raw, IMAGE)[0]
    torch.testing.assert_close(found.xyxy[:3], wanted, atol=1e-3, rtol=0)
    assert found.label[:3].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"proposals": 0}, "proposals"),
        ({"proposal_iou": 1.5}, "proposal_iou"),
        ({"roi_places": 0}, "roi_places"),
        ({"anchor_ratios": (20.0,)}, "anchor_ratios"),
        ({"box_samples": 1}, "box_samples"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"field {field}"):
        FasterRCNNConfig.of_size("tiny", **(GIVEN | settings))
