"""Every family learns two kinds of squares from random weights in its tiny size.

Two families do so in every run of the tests; the others where slow tests are asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.detectors import Candidates, Detector, Target, list_detectors
from smallobj.evaluation import map_score

Build = Callable[..., Detector]
Squares = Callable[[int, int], tuple[Tensor, list[Target]]]
QUICK = ("centernet", "grid", "yolo")  # grid: of docs/add-a-detector.md


class Course(NamedTuple):
    """How long and how fast a family learns."""

    steps: int = 100
    rate: float = 4e-3  # at its highest


COURSES = {"centernet": Course(steps=150)}  # after 100 it depends on how a machine rounds


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in list_detectors()
    ],
)
def test_it_learns_separated_squares(name: str, tiny: Build, squares: Squares) -> None:
    detector = tiny(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps, rate = COURSES.get(name, Course())
    optimiser = torch.optim.AdamW(detector.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for step in range(steps):
        optimiser.zero_grad()
        torch.stack(list(detector(*squares(8, step)).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimiser.step()
        schedule.step()
    assert score(detector.eval(), *squares(32, 1_000_000)) >= 0.7


@torch.no_grad()
def score(detector: Detector, images: Tensor, targets: list[Target]) -> float:
    """map50 after NMS, by the project's own metric."""
    height, width = images.shape[2:]
    found = []
    for xyxy, score, label in detector.decode(detector(images), (height, width)):
        kept = batched_nms(xyxy, score, label, 0.5)[:100]
        found.append(Candidates(xyxy[kept], score[kept], label[kept]))
    scores = torch.cat([candidates.score for candidates in found]).numpy()
    return map_score(table(targets), table(found, score=scores))


def table(rows: Sequence[Target | Candidates], **columns: NDArray[Any]) -> BoxTable:
    return BoxTable.build(
        images=Images.of([str(i) for i in range(len(rows))]),
        classes=Classes.of(["red", "blue"]),
        image_index=np.repeat(np.arange(len(rows)), [len(row.label) for row in rows]),
        xyxy=torch.cat([row.xyxy for row in rows]).double().numpy(),
        label=torch.cat([row.label for row in rows]).int().numpy(),
        **columns,
    )
