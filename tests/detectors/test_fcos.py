"""FCOS: torchvision's matching on levels that begin at stride 4."""

from collections.abc import Callable

import torch

from smallobj.detectors import Detector, Target
from smallobj.detectors.fcos import FCOSDetector

Build = Callable[..., Detector]


def fcos(tiny: Build) -> FCOSDetector:
    detector = tiny("fcos")
    assert isinstance(detector, FCOSDetector)
    return detector


def test_places_stand_a_stride_apart_level_after_level(tiny: Build) -> None:
    levels = fcos(tiny)._anchors((64, 96), torch.device("cpu"))
    assert [len(level) for level in levels] == [16 * 24, 8 * 12, 4 * 6]
    for level, stride in zip(levels, (4, 8, 16), strict=True):
        assert (level[1, :2] - level[0, :2]).tolist() == [stride, 0]
        assert (level[0, 2:] - level[0, :2]).tolist() == [stride, stride]


def test_small_objects_belong_to_the_finest_level(tiny: Build) -> None:
    """A class loss that falls when a place says the truth tells which level was matched."""
    detector, sizes = fcos(tiny), (48 * 64, 24 * 32, 12 * 16)
    edges = [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]
    for side, level in ((10, 0), (40, 0), (80, 1), (150, 2)):
        xyxy = torch.tensor([[21.0, 21, 21 + side, 21 + side]])
        raw = {
            "cls_logits": torch.full((1, sum(sizes), 2), -3.0, requires_grad=True),
            "bbox_regression": torch.ones(1, sum(sizes), 4),
            "bbox_ctrness": torch.zeros(1, sum(sizes), 1),
        }
        detector.losses(raw, [Target(xyxy, torch.tensor([1]))], (192, 256))[
            "classification"
        ].backward()
        rising = (raw["cls_logits"].grad[0, :, 1] < 0).nonzero().squeeze(1)
        assert len(rising) >= 4, side
        assert edges[level] <= int(rising.min()) <= int(rising.max()) < edges[level + 1], side


def test_raw_made_from_the_truth_is_decoded_to_the_truth(tiny: Build) -> None:
    detector = fcos(tiny)
    anchors = torch.cat(detector._anchors((64, 96), torch.device("cpu")))
    wanted = torch.tensor([41.0, 19, 62, 30])
    place = 16 * 24 + 3 * 12 + 6  # stride 8, row 3, column 6: the anchor centred on (48, 24)
    raw = {
        "cls_logits": torch.full((1, len(anchors), 2), -20.0),
        "bbox_regression": torch.ones(1, len(anchors), 4),
        "bbox_ctrness": torch.zeros(1, len(anchors), 1),
    }
    raw["cls_logits"][0, place, 1] = torch.logit(torch.tensor(0.64))
    raw["bbox_ctrness"][0, place] = 20.0
    raw["bbox_regression"][0, place] = torch.tensor([7.0, 5, 14, 6]) / 8
    found = detector.decode(raw, (64, 96))[0]
    torch.testing.assert_close(found.xyxy, wanted[None])
    torch.testing.assert_close(found.score, torch.tensor([0.8]))
    assert found.label.tolist() == [1]
