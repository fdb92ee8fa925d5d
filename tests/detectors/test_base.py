"""Targets that would poison a loss and batches that cannot be are refused before any work."""

import re

import pytest
import torch

from smallobj.detectors import Target
from smallobj.detectors.base import best_candidates, check_targets
from smallobj.detectors.centernet import CenterNetConfig

LABEL = torch.zeros(1, dtype=torch.int64)


def box(*corners: float) -> torch.Tensor:
    return torch.tensor([corners], dtype=torch.float32)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target(box(1, 2, float("nan"), 4), LABEL), "target 0: a box is not finite"),
        (Target(box(1, 2, float("inf"), 4), LABEL), "target 0: a box is not finite"),
        (Target(box(5, 2, 5, 4), LABEL), "has no area"),
        (Target(box(5, 2, 3, 4), LABEL), "has no area"),
        (Target(box(1, 2, 3, 4), LABEL + 2), "a label is outside 0 to 1"),
        (Target(box(1, 2, 3, 4), LABEL - 1), "a label is outside 0 to 1"),
        (Target(box(1, 2, 3, 4).double(), LABEL), "not float32 and int64"),
        (Target(box(1, 2, 3, 4), LABEL.int()), "not float32 and int64"),
        (Target(box(1, 2, 3, 4)[0], LABEL), "not [M, 4] and [M]"),
    ],
)
def test_targets_that_cannot_be_are_refused(target: Target, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check_targets([target], 1, num_classes=2)


def test_every_image_has_its_target() -> None:
    with pytest.raises(ValueError, match="0 targets for 2 images"):
        check_targets([], 2, num_classes=2)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(1, 3, 64, 64), "uint8 [B, 3, H, W], got torch.float32"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), "got torch.uint8 [3, 64, 64]"),
        (torch.zeros(1, 1, 64, 64, dtype=torch.uint8), "got torch.uint8 [1, 1, 64, 64]"),
        (torch.zeros(1, 3, 64, 72, dtype=torch.uint8), "multiples of 16, got 64 x 72"),
    ],
)
def test_batches_that_cannot_be_are_refused(images: torch.Tensor, said: str, tiny) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=re.escape(said)):
        tiny("centernet")(images)


def test_best_candidates_orders_cuts_and_drops() -> None:
    config = CenterNetConfig.of_size(
        "tiny", num_classes=2, mean=(0.0,) * 3, std=(1.0,) * 3, max_candidates=4
    )
    score = torch.tensor([[0.5, 0.0], [0.9, 0.0005], [0.5, 0.001], [0.3, 0.0], [0.2, 0.8]])
    xyxy = torch.tensor(
        [
            [0, 0, 10, 10],
            [-5, -5, 10, 300],
            [1, 1, 10, 10],
            [2, 2, 3, 3],
            [400, 0, 500, 10],  # outside: dropped after the cut
        ],
        dtype=torch.float32,
    )
    found = best_candidates(score, xyxy.__getitem__, (100, 200), config)
    assert found.score.tolist() == pytest.approx([0.9, 0.5, 0.5])
    assert found.label.tolist() == [0, 0, 0]
    assert found.xyxy.tolist() == [[0, 0, 10, 100], [0, 0, 10, 10], [1, 1, 10, 10]]
