"""A small labelled set of photographs whose every pixel is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smallobj.boxes import BoxTable, Classes, Images

SIZES = ((300, 200), (180, 260), (70, 50), (400, 400), (220, 220))


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[BoxTable, list[Path]]:
    """Five grey images, the last without a box; each box is filled with its class's own colour."""
    folder = tmp_path_factory.mktemp("marked")
    rng = np.random.default_rng(5)
    index, boxes, labels, paths = [], [], [], []
    for i, (width, height) in enumerate(SIZES):
        pixels = np.full((height, width, 3), 100, np.uint8)
        for x in range(10, width - 30, 60) if i < 4 else ():
            y, side, label = (
                int(rng.integers(0, height - 24)),
                int(rng.integers(8, 24)),
                x // 60 % 2,
            )
            pixels[y : y + side, x : x + side] = (250, 10, 10) if label else (10, 10, 250)
            index.append(i)
            boxes.append((x, y, x + side, y + side))
            labels.append(label)
        paths.append(folder / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    table = BoxTable.build(
        images=Images.of([path.name for path in paths], SIZES),
        classes=Classes.of(["blue", "red"]),
        image_index=np.array(index),
        xyxy=np.array(boxes, np.float64),
        label=np.array(labels),
    )
    return table, paths
