"""SSD: default boxes in pixels, hard negatives of the whole batch, torchvision's own losses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from smallobj.boxes import InputError
from smallobj.detectors import Detector, Target
from smallobj.detectors.anchors import matched
from smallobj.detectors.ssd import SSDConfig, SSDDetector

Build = Callable[..., Detector]

IMAGE = (192, 256)
GIVEN: dict[str, Any] = {"num_classes": 2, "mean": (110.0,) * 3, "std": (60.0,) * 3}
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def ssd(tiny: Build, **settings: Any) -> SSDDetector:
    detector = tiny("ssd", **settings)
    assert isinstance(detector, SSDDetector)
    return detector


def defaults(detector: SSDDetector, image_size: tuple[int, int] = IMAGE) -> Tensor:
    return detector._default_boxes(image_size, torch.device("cpu"))


def squares(side: float, count: int) -> Tensor:
    random = torch.Generator().manual_seed(int(side))
    corner = torch.rand(count, 2, generator=random) * (torch.tensor([256.0, 192.0]) - side)
    return torch.cat((corner, corner + side), dim=1)


def said(detector: SSDDetector, count: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    places = len(defaults(detector))
    return {
        "cls_logits": torch.randn(count, places, 3, generator=random),
        "bbox_regression": torch.randn(count, places, 4, generator=random),
    }


def test_default_boxes_are_as_large_in_an_image_of_any_shape(tiny: Build) -> None:
    """Sides of 2 strides, the root of the next one's between, ratios of 2; centred on places."""
    detector = ssd(tiny)
    boxes = defaults(detector, (64, 128))
    assert len(boxes) == 4 * (16 * 32 + 8 * 16 + 4 * 8 + 2 * 4)
    root = 2**0.5
    expected = [[8, 8], [8 * root, 8 * root], [8 * root, 8 / root], [8 / root, 8 * root]]
    torch.testing.assert_close(boxes[:4, 2:] - boxes[:4, :2], torch.tensor(expected))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    torch.testing.assert_close(centres[0], torch.tensor([2.0, 2]))
    torch.testing.assert_close(centres[4 * 33], torch.tensor([6.0, 6]))
    torch.testing.assert_close(centres[-1], torch.tensor([112.0, 48]))


@pytest.mark.parametrize("side", [8, 10, 14, 20, 28, 40, 57, 80, 100])
def test_every_box_of_8_to_100_px_has_a_positive_default_box(side: float, tiny: Build) -> None:
    detector = ssd(tiny)
    boxes = defaults(detector)
    for box in squares(side, 50):
        target = Target(box[None], torch.tensor([0]))
        (match,) = matched(detector.model.proposal_matcher, detector.similarity, [target], boxes)
        assert int((match == 0).sum()) >= 1
        assert float(box_iou(box[None], boxes).max()) >= (0.4 if side < 10 else 0.5)


class Said(nn.Module):
    """A head that says what it is told."""

    def __init__(self, raw: dict[str, Tensor]) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        return self.raw


class Blank(nn.Module):
    """A backbone whose maps are of the right size."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {str(s): x.new_zeros(len(x), 8, 256 // s, 256 // s) for s in self.strides}


def test_losses_of_one_image_are_those_of_torchvision(tiny: Build) -> None:
    """Of its whole model, whose default boxes are parts of a square image."""
    detector = ssd(tiny)
    config, image = detector.config, (256, 256)
    generator = detector.model.anchor_generator
    places = len(defaults(detector, image))
    random = torch.Generator().manual_seed(0)
    raw = {
        "cls_logits": torch.randn(1, places, 3, generator=random),
        "bbox_regression": torch.randn(1, places, 4, generator=random),
    }
    parts = [side / 256 for side in generator.scales]
    model = SSD(
        Blank(config.strides),
        type(generator)(generator.aspect_ratios, scales=parts, clip=False),
        image,
        3,
        head=Said(raw),
    )
    target = Target(torch.cat((squares(12, 3), squares(50, 2))), torch.tensor([0, 1, 0, 1, 1]))
    theirs = model.train()(
        [torch.zeros(3, *image)], [{"boxes": target.xyxy, "labels": target.label + 1}]
    )
    ours = detector.losses(raw, [target], image)
    for name, loss in theirs.items():
        torch.testing.assert_close(ours[name], loss)


def test_an_image_without_objects_gives_hard_negatives_too(tiny: Build) -> None:
    detector = ssd(tiny)
    raw = said(detector, 2)
    raw["cls_logits"][1] += torch.tensor([-3.0, 0, 0])  # the empty image is full of false alarms
    raw["cls_logits"].requires_grad_()
    target = Target(squares(50, 2), torch.tensor([0, 1]))
    detector.losses(raw, [target, NOTHING], IMAGE)["classification"].backward()
    counted = (raw["cls_logits"].grad != 0).any(dim=2).sum(dim=1)
    (match,) = matched(
        detector.model.proposal_matcher, detector.similarity, [target], defaults(detector)
    )
    positives = int((match >= 0).sum())
    assert int(counted.sum()) == 4 * positives
    assert int(counted[1]) > 2 * positives


def test_raw_made_from_the_truth_is_decoded_to_the_truth(tiny: Build) -> None:
    detector = ssd(tiny)
    boxes = defaults(detector)
    wanted = torch.cat([squares(side, 1) for side in (9, 33, 90)])
    place = box_iou(wanted, boxes).argmax(dim=1)
    raw = {
        "cls_logits": torch.tensor([20.0, 0, 0]).repeat(1, len(boxes), 1),
        "bbox_regression": torch.zeros(1, len(boxes), 4),
    }
    raw["cls_logits"][0, place] = torch.tensor([[0.0, 0, 7], [0, 0, 6], [0, 5, 0]])
    coder = detector.model.box_coder
    raw["bbox_regression"][0, place] = coder.encode_single(wanted, boxes[place])
    found = detector.decode(raw, IMAGE)[0]
    torch.testing.assert_close(found.xyxy[:3], wanted, atol=1e-3, rtol=0)
    assert found.label[:3].tolist() == [1, 1, 0]
    assert float(found.score[0]) == pytest.approx(float(torch.tensor([0.0, 0, 7]).softmax(0)[2]))


def test_the_baseline_has_the_default_boxes_of_ssd300() -> None:
    """In parts of the image, on the levels that both have: torchvision's SSD300 is the oracle."""
    config = SSDConfig.of_size("baseline-300", **GIVEN)
    ssd300 = ssd300_vgg16(weights=None, weights_backbone=None).anchor_generator
    assert config.strides == (8, 16, 32, 64, 128)
    assert [round(side / 320, 4) for side in config.box_sides] == ssd300.scales[:6]
    assert [max(ratios) for ratios in ssd300.aspect_ratios[:5]] == [2, 3, 3, 3, 2]
    assert config.box_ratios == (2, 3, 3, 3, 2)


def test_the_baseline_takes_images_of_320_px(tiny: Build) -> None:
    """40, 20, 10, 5 and 3 places a side; a small backbone, for the time it takes."""
    detector = ssd(tiny, size="baseline-300", backbone="resnet10t", width=16)
    assert detector.stride == 64
    images = torch.zeros(1, 3, 320, 320, dtype=torch.uint8)
    with torch.no_grad():
        maps = detector.model.backbone(detector.normalise(images))
        raw = detector.eval()(images)
    assert [m.shape[3] for m in maps] == [40, 20, 10, 5, 3]
    assert len(defaults(detector, (320, 320))) == raw["cls_logits"].shape[1]
    assert raw["cls_logits"].shape[1] == 4 * 40**2 + 6 * (20**2 + 10**2 + 5**2) + 4 * 3**2
    assert len(detector.decode(raw, (320, 320))) == 1


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"box_sides": (8.0, 16.0)}, "box_sides"),
        ({"box_sides": (8.0, 16.0, 32.0, 30.0, 64.0)}, "box_sides"),
        ({"box_ratios": (2, 2, 2, 4)}, "box_ratios"),
        ({"positive_share": 0.0}, "positive_share"),
        ({"neck": "swan"}, "neck"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"field {field}"):
        SSDConfig.of_size("tiny", **(GIVEN | settings))
