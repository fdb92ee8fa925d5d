from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smallobj.boxes import BoxTable, Classes, Images


@pytest.fixture
def photo() -> Callable[..., Path]:
    """Write a grey image of a size (width, height) and return its path."""

    def write(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(path)
        return path

    return write


@pytest.fixture
def text_file() -> Callable[[Path, str], Path]:
    """Write a text file, its folders too, and return its path."""

    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def table_of() -> Callable[..., BoxTable]:
    """A table of images 64 x 48 px from {id: [(class, x1, y1, x2, y2), ...]}."""

    def build(
        boxes: dict[str, Sequence[tuple[float, ...]]], names: Sequence[str] = ("car", "bus")
    ) -> BoxTable:
        rows = [(i, *row) for i, image in enumerate(boxes.values()) for row in image]
        columns = np.array(rows, np.float64) if rows else np.empty((0, 6))
        return BoxTable.build(
            images=Images.of(list(boxes), [(64, 48)] * len(boxes)),
            classes=Classes.of(names),
            image_index=columns[:, 0].astype(np.int64),
            label=columns[:, 1].astype(np.int32),
            xyxy=columns[:, 2:6],
            score=columns[:, 6] if columns.shape[1] == 7 else None,
        )

    return build


@pytest.fixture(scope="session")
def deeppcb(real_data: Callable[[str], Path]) -> tuple[BoxTable, tuple[Path, ...]]:
    """DeepPCB's own text files as a table, and its image files."""
    base = real_data("deeppcb") / "PCBData"
    ids, paths, sizes, rows = [], [], [], []
    for path in sorted(base.glob("*/*/*_test.jpg")):
        name = path.name.replace("_test.jpg", ".txt")
        labels = path.parent.with_name(path.parent.name + "_not") / name
        with Image.open(path) as image:
            sizes.append(image.size)
        lines = labels.read_text().splitlines()
        rows += [(len(ids), *map(int, line.split())) for line in lines]
        ids.append(path.relative_to(base).as_posix())
        paths.append(path)
    columns = np.array(rows)
    names = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
    table = BoxTable.build(
        images=Images.of(ids, sizes),
        classes=Classes.of(names, range(1, 7)),
        image_index=columns[:, 0],
        xyxy=columns[:, 1:5].astype(np.float64),
        label=columns[:, 5].astype(np.int32) - 1,
    )
    return table, tuple(paths)
