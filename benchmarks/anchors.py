"""How many anchors learn a box of a side, by what makes them alike: the mean over places.

python benchmarks/anchors.py
"""

from collections.abc import Mapping
from typing import Any

import torch

from smallobj.detectors import Target, build_detector
from smallobj.detectors.anchors import matched
from smallobj.detectors.retinanet import RetinaNet

IMAGE, BOXES = 256, 40
SIDES = (8, 12, 16, 32, 64, 96)
SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"similarity": "iou"},
    {"similarity": "nwd"},
    {"similarity": "nwd", "nwd_px": 12.8},
)


def mean_anchors(detector: RetinaNet, side: int) -> float:
    """Anchors that learn a square box, alone in an image of IMAGE px."""
    random = torch.Generator().manual_seed(side)
    corner = torch.rand(BOXES, 2, generator=random) * (IMAGE - side)
    targets = [
        Target(box[None], torch.tensor([0])) for box in torch.cat((corner, corner + side), dim=1)
    ]
    anchors = detector.anchors((IMAGE, IMAGE))
    matches = matched(detector.matcher, detector.similarity, targets, anchors)
    return sum(int((match == 0).sum()) for match in matches) / BOXES


def main() -> None:
    grey = (110.0,) * 3
    print("| side, px |", " | ".join(map(str, SIDES)), "|")
    print("|---" * (1 + len(SIDES)) + "|")
    for settings in SETTINGS:
        detector = build_detector(
            "retinanet", num_classes=1, mean=grey, std=grey, size="tiny", **settings
        )
        assert isinstance(detector, RetinaNet)
        name = ", ".join(f"`{key}={value}`" for key, value in settings.items())
        counts = (f"{mean_anchors(detector, side):.0f}" for side in SIDES)
        print(f"| {name} |", " | ".join(counts), "|")


if __name__ == "__main__":
    main()
