"""Tiny detectors and synthetic squares for the contract suite."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from smallobj.detectors import Detector, Target, build_detector

SIZE = (192, 256)  # height and width differ, so that a mix-up shows
COLOURS = torch.tensor([[210.0, 80.0, 60.0], [60.0, 90.0, 210.0]])


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Detector]:
    """A tiny detector of two classes by name, the same from every call."""

    def build(name: str, seed: int = 0, **overrides: Any) -> Detector:
        torch.manual_seed(seed)
        settings = {"num_classes": 2, "mean": (110.0,) * 3, "std": (60.0,) * 3, "size": "tiny"}
        return build_detector(name, **(settings | overrides))  # type: ignore[arg-type]

    return build


@pytest.fixture(scope="session")
def squares() -> Callable[[int, int], tuple[Tensor, list[Target]]]:
    """Batches of noise with one or two separated squares of 48 to 96 px of two classes."""

    def batch(count: int, seed: int) -> tuple[Tensor, list[Target]]:
        random = torch.Generator().manual_seed(seed)
        images = torch.randint(60, 160, (count, 3, *SIZE), generator=random).float()
        targets = []
        for image in images:
            boxes: list[list[int]] = []
            for column in range(2):
                if column and float(torch.rand((), generator=random)) < 0.5:
                    continue
                side = int(torch.randint(48, 97, (), generator=random))
                x = 128 * column + int(torch.randint(0, 128 - side, (), generator=random))
                y = int(torch.randint(0, SIZE[0] - side, (), generator=random))
                boxes.append([x, y, x + side, y + side])
            label = torch.randint(0, 2, (len(boxes),), generator=random)
            for (x1, y1, x2, y2), kind in zip(boxes, label.tolist(), strict=True):
                image[:, y1:y2, x1:x2] = image[:, y1:y2, x1:x2] / 4 + COLOURS[kind, :, None, None]
            targets.append(Target(torch.tensor(boxes, dtype=torch.float32), label))
        return images.clamp(0, 255).to(torch.uint8), targets

    return batch
