"""A detector that finds coloured squares exactly, and pictures of squares."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from smallobj.detectors import Detector, DetectorConfig, Target

COLOURS = ((255, 0, 0), (0, 255, 0))  # of class 0 and 1, on black


class SquareFinder(Detector):
    """Finds red (0) and green (1) squares on black to the pixel, with score 0.8."""

    Config = DetectorConfig

    def __init__(self, stride: int = 8) -> None:
        super().__init__(
            DetectorConfig(num_classes=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), stride=stride
        )
        self.batches: list[tuple[int, ...]] = []

    def network(self, x: Tensor) -> dict[str, Tensor]:
        self.batches.append(tuple(x.shape))
        return {"pixels": x}

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        found = [_squares(pixels.numpy()) for pixels in raw["pixels"]]
        most = max(1, *(len(squares) for squares in found))
        score, xyxy = torch.zeros(len(found), most, 2), torch.zeros(len(found), most, 4)
        for i, squares in enumerate(found):
            for k, (label, box) in enumerate(squares):
                score[i, k, label] = 0.8
                xyxy[i, k] = torch.tensor(box)
        return score, xyxy


def _squares(pixels: np.ndarray) -> list[tuple[int, tuple[int, int, int, int]]]:
    found = []
    for label in range(2):
        regions, _ = ndimage.label(pixels[label] > 127)
        for rows, columns in ndimage.find_objects(regions):
            found.append((label, (columns.start, rows.start, columns.stop, rows.stop)))
    return found


@pytest.fixture
def finder() -> SquareFinder:
    return SquareFinder()


Picture = Callable[..., list[tuple[int, int, int, int, int]]]


@pytest.fixture
def picture() -> Picture:
    """Save a black picture with squares apart from each other; returns (label, x1, y1, x2, y2)."""

    def save(
        path: Path, width: int, height: int, *, side: int = 12, seed: int = 0, most: int = 20
    ) -> list[tuple[int, int, int, int, int]]:
        rng = np.random.default_rng(seed)
        pixels = np.zeros((height, width, 3), np.uint8)
        free = np.ones((height, width), bool)
        squares = []
        for _ in range(most):
            x, y = (int(rng.integers(0, n - side + 1)) for n in (width, height))
            if not free[y : y + side, x : x + side].all():
                continue
            free[max(0, y - 6) : y + side + 6, max(0, x - 6) : x + side + 6] = False
            label = int(rng.integers(2))
            pixels[y : y + side, x : x + side] = COLOURS[label]
            squares.append((label, x, y, x + side, y + side))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return sorted(squares)

    return save
