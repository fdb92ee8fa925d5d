"""RetinaNet: anchors that small objects match, and torchvision's own losses and boxes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TheirRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from smallobj.boxes import InputError
from smallobj.detectors import Detector, Target
from smallobj.detectors.anchors import Anchors, matched
from smallobj.detectors.retinanet import RetinaNet, RetinaNetConfig

Build = Callable[..., Detector]

IMAGE = (192, 256)
GIVEN: dict[str, Any] = {"num_classes": 2, "mean": (110.0,) * 3, "std": (60.0,) * 3}


def retinanet(tiny: Build, **settings: Any) -> RetinaNet:
    detector = tiny("retinanet", **settings)
    assert isinstance(detector, RetinaNet)
    return detector


def anywhere(side: float, count: int, *, ratio: float = 1.0) -> Tensor:
    """Boxes [count, 4] of one area inside IMAGE, at places between those of any level."""
    random = torch.Generator().manual_seed(int(side))
    size = torch.tensor([side / ratio**0.5, side * ratio**0.5])
    room = torch.tensor([IMAGE[1], IMAGE[0]]) - size
    corner = torch.rand(count, 2, generator=random) * room
    return torch.cat((corner, corner + size), dim=1)


def test_anchors_are_those_of_torchvision() -> None:
    strides, sides, ratios = (4, 8, 16), (2.0, 3.0), (0.5, 1.0, 2.0)
    ours = Anchors(strides, sides, ratios)
    sizes = tuple(tuple(s * side for side in sides) for s in strides)
    theirs = AnchorGenerator(sizes, (ratios,) * 3)
    maps = [torch.zeros(1, 1, 64 // s, 96 // s) for s in strides]
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    assert torch.equal(ours((64, 96)), theirs(images, maps)[0])
    assert [len(level) for level in ours.by_level((64, 96))] == [
        6 * 16 * 24,
        6 * 8 * 12,
        6 * 4 * 6,
    ]


@pytest.mark.parametrize("ratio", [1.0, 2.0])
@pytest.mark.parametrize("side", [8, 10, 14, 20, 28, 40, 57, 80, 100])
def test_every_box_of_8_to_100_px_has_positive_anchors(
    side: float, ratio: float, tiny: Build
) -> None:
    """Not only its best one: at least two reach the threshold."""
    detector = retinanet(tiny)
    anchors = detector.anchors(IMAGE)
    for box in anywhere(side, 50, ratio=ratio):
        target = Target(box[None], torch.tensor([0]))
        (match,) = matched(detector.matcher, detector.similarity, [target], anchors)
        assert int((match == 0).sum()) >= 2
        assert float(box_iou(box[None], anchors).max()) >= detector.config.positive_iou


def test_a_box_between_thresholds_still_has_its_best_anchor(tiny: Build) -> None:
    detector = retinanet(tiny)
    anchors = detector.anchors(IMAGE)
    thin = torch.tensor([[20.0, 30, 23, 33], [100.0, 50, 190, 53]])
    (match,) = matched(
        detector.matcher, detector.similarity, [Target(thin, torch.tensor([0, 1]))], anchors
    )
    assert set(match.tolist()) >= {0, 1}


def test_a_box_beyond_the_image_takes_no_anchor(tiny: Build) -> None:
    detector = retinanet(tiny)
    anchors = detector.anchors(IMAGE)
    outside = Target(torch.tensor([[400.0, 400, 440, 440]]), torch.tensor([0]))
    (match,) = matched(detector.matcher, detector.similarity, [outside], anchors)
    assert bool((match == -1).all())


class Given(nn.Module):
    """A head that says what it is told."""

    def __init__(self, head: nn.Module, raw: dict[str, Tensor]) -> None:
        super().__init__()
        self.raw, self.compute_loss = raw, head.compute_loss

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        return self.raw


class Blank(nn.Module):
    """A backbone whose maps are of the right size."""

    out_channels = 8

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        sizes = [(x.shape[2] // s, x.shape[3] // s) for s in self.strides]
        return {str(i): x.new_zeros(len(x), 8, *size) for i, size in enumerate(sizes)}


def theirs(detector: RetinaNet, raw: dict[str, Tensor]) -> TheirRetinaNet:
    """torchvision's whole model around the same head, anchors and thresholds."""
    config = detector.config
    sizes = tuple((2.0 * s, 2.0 * s * 2**0.5) for s in config.strides)
    return TheirRetinaNet(
        Blank(config.strides),
        config.num_classes,
        min_size=IMAGE[0],
        max_size=IMAGE[1],
        anchor_generator=AnchorGenerator(sizes, (config.anchor_ratios,) * len(sizes)),
        head=Given(detector.head, raw),
        fg_iou_thresh=config.positive_iou,
        bg_iou_thresh=config.negative_iou,
        score_thresh=0.2,
        nms_thresh=1.0,
        detections_per_img=20,
    )


def said(detector: RetinaNet, count: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    places = len(detector.anchors(IMAGE))
    return {
        "cls_logits": torch.randn(count, places, 2, generator=random) - 4,
        "bbox_regression": torch.randn(count, places, 4, generator=random) / 9,
    }


def test_losses_are_those_of_torchvision(tiny: Build) -> None:
    detector = retinanet(tiny, class_weight=2.0)
    raw = said(detector, 2)
    boxes = torch.cat((anywhere(12, 3), anywhere(50, 2)))
    targets = [
        Target(boxes, torch.tensor([0, 1, 0, 1, 1])),
        Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]
    ours = detector.losses(raw, targets, IMAGE)
    expected = theirs(detector, raw).train()(
        [torch.zeros(3, *IMAGE)] * 2, [{"boxes": t.xyxy, "labels": t.label} for t in targets]
    )
    torch.testing.assert_close(ours["bbox_regression"], expected["bbox_regression"])
    torch.testing.assert_close(ours["classification"], 2 * expected["classification"])


def test_best_boxes_are_those_of_torchvision(tiny: Build) -> None:
    detector = retinanet(tiny)
    raw = said(detector, 1)
    ours = detector.decode(raw, IMAGE)[0]
    expected = theirs(detector, raw).eval()([torch.zeros(3, *IMAGE)])[0]
    torch.testing.assert_close(ours.score[:20], expected["scores"])
    torch.testing.assert_close(ours.xyxy[:20], expected["boxes"])
    assert torch.equal(ours.label[:20], expected["labels"])


def test_raw_made_from_the_truth_is_decoded_to_the_truth(tiny: Build) -> None:
    detector = retinanet(tiny)
    anchors = detector.anchors(IMAGE)
    wanted = torch.cat((anywhere(9, 1), anywhere(33, 1, ratio=2), anywhere(90, 1)))
    place = box_iou(wanted, anchors).argmax(dim=1)
    raw = {
        "cls_logits": torch.full((1, len(anchors), 2), -20.0),
        "bbox_regression": torch.zeros(1, len(anchors), 4),
    }
    raw["cls_logits"][0, place, 1] = torch.tensor([3.0, 2.0, 1.0])
    raw["bbox_regression"][0, place] = detector.coder.encode_single(wanted, anchors[place])
    found = detector.decode(raw, IMAGE)[0]
    torch.testing.assert_close(found.xyxy, wanted, atol=1e-3, rtol=0)
    assert found.label.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"width": 30}, "width"),
        ({"head_convs": 5}, "head_convs"),
        ({"anchor_ratios": ()}, "anchor_ratios"),
        ({"anchor_ratios": (1.0, 0.0)}, "anchor_ratios"),
        ({"positive_iou": 0.3, "negative_iou": 0.4}, "negative_iou"),
        ({"neck": "none"}, "neck"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"field {field}"):
        RetinaNetConfig.of_size("tiny", **(GIVEN | settings))
