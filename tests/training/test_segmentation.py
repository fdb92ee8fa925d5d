"""A detector that segments reports its pixels at every validation; others do not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.detectors import Detector, Segmenter, build_detector
from smallobj.evaluation import PIXEL_METRICS
from smallobj.formats import read_labels
from smallobj.prediction import class_tiles
from smallobj.training import TrainConfig, train
from smallobj.training.data import Part
from smallobj.training.validation import Validation
from smallobj.tta import Tiling, View
from smallobj.weights import read_manifest


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


def test_every_validation_tells_pixel_scores(
    tmp_path: Path, quick: dict[str, Any], listener: Any
) -> None:
    hear = listener()
    config = TrainConfig.from_dict({**quick, "arch": "fcn", "steps": 4, "validate_every": 2})
    result = train(config, tmp_path / "a", reporter=hear)
    validations = lines(tmp_path / "a", "validation")
    assert len(validations) == 2
    for line in validations:
        assert all(0 <= line[name] <= 1 for name in PIXEL_METRICS)
        told = ", ".join(f"{name} {line[name]:.4f}" for name in PIXEL_METRICS)
        assert any(note.endswith(told) for note in hear.notes)
    best = next(line for line in validations if line["step"] == result.best_step)
    scores = read_manifest(tmp_path / "a").scores
    assert {name: scores[name] for name in PIXEL_METRICS} == {
        name: best[name] for name in PIXEL_METRICS
    }


def test_a_detector_of_boxes_alone_tells_none(
    tmp_path: Path, config: TrainConfig, listener: Any
) -> None:
    hear = listener()
    train(config, tmp_path / "a", reporter=hear)
    assert not set(PIXEL_METRICS) & set(lines(tmp_path / "a", "validation")[-1])
    assert not any("mean_iou" in note for note in hear.notes)


class Coloured(Segmenter):
    """Takes a pixel for blue or yellow by its colour, which is right in the data of conftest.py."""

    def __init__(self, like: Detector) -> None:
        super().__init__(like.config, stride=32)

    def network(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pixels": x}

    def class_map(self, raw: Any, image_size: tuple[int, int]) -> torch.Tensor:
        red, green, blue = (raw["pixels"] * self.std + self.mean).unbind(1)
        label = torch.where(red > blue, 1, 0)
        return torch.where(green > 100, label, 2)

    def losses(self, raw: Any, targets: Any, image_size: Any) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def boxes(self, raw: Any, image_size: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images = len(raw["pixels"])
        return torch.zeros(images, 0, 2), torch.zeros(images, 0, 4)


@pytest.fixture
def coloured() -> Coloured:
    grey = (110.0,) * 3
    return Coloured(build_detector("fcn", num_classes=2, mean=grey, std=(60.0,) * 3, size="tiny"))


def part_of(folder: Path) -> Part:
    labels = read_labels(folder, split="val")
    paths = tuple(sorted((folder / "images" / "val").iterdir()))
    return Part(table=labels.table, paths=paths)


@pytest.mark.parametrize("tile", [None, 32, 40, 64])
def test_masks_are_the_boxes_and_every_pixel_counts_once(
    photos: Path, coloured: Coloured, tile: int | None
) -> None:
    tiling = None if tile is None else Tiling(side_px=tile, overlap_px=16)
    part = part_of(photos)
    validation = Validation(part, views=(View(tiling=tiling),), precision="fp32")
    assert validation.pixel_scores(coloured, lambda done, images: None) == {
        "mean_iou": 1.0,
        "pixel_accuracy": 1.0,
    }


def test_tiles_cover_an_image_once(tmp_path: Path, coloured: Coloured) -> None:
    sizes = [(50, 131), (97, 40), (150, 150)]  # height, width
    paths = []
    for i, size in enumerate(sizes):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.full((*size, 3), 50 * i, np.uint8)).save(paths[-1])
    seen = [np.zeros(size, np.int64) for size in sizes]
    done: list[int] = []
    for image, left, top, classes in class_tiles(
        coloured, paths, tile_px=64, batch_size=3, on_progress=lambda n, _: done.append(n)
    ):
        height, width = classes.shape
        seen[image][top : top + height, left : left + width] += 1
    assert all((times == 1).all() for times in seen)
    assert done == [1, 2, 3]
    assert coloured.training


def test_the_time_of_pixels_counts_as_validation(
    photos: Path, coloured: Coloured, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    counted = coloured.class_map
    monkeypatch.setattr(coloured, "class_map", lambda *a: calls.append(1) or counted(*a))
    validation = Validation(part_of(photos), views=(View(),), precision="fp32")
    assert validation.seconds(coloured) > 0
    assert calls
