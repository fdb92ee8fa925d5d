"""Small photographs with squares to be found, and runs on them that take seconds."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smallobj.training import TrainConfig

MakePhotos = Callable[..., Path]


def make_photos(folder: Path, *, train: int = 10, val: int = 4, seed: int = 0) -> Path:
    """A YOLO data set: bright squares of two colours on dark noise, 96 x 96 px."""
    rng = np.random.default_rng(seed)
    for part, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 60, (96, 96, 3), dtype=np.uint8)
            rows = []
            for label in (0, 1):
                side = int(rng.integers(12, 24))
                x, y = int(rng.integers(0, 96 - side)), int(rng.integers(0, 48 - side)) + 48 * label
                pixels[y : y + side, x : x + side] = (250, 240, 20) if label else (20, 240, 250)
                centre = ((x + side / 2) / 96, (y + side / 2) / 96, side / 96, side / 96)
                rows.append(f"{label} " + " ".join(f"{v:.6f}" for v in centre))
            Image.fromarray(pixels).save(folder / "images" / part / f"{part}{i}.png")
            (folder / "labels" / part / f"{part}{i}.txt").write_text("\n".join(rows) + "\n")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nnames: [blue, yellow]\n"
    )
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set, to be left as it is."""
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def own_photos(tmp_path: Path) -> Path:
    """The data set, to be spoilt."""
    return make_photos(tmp_path / "photos")


@pytest.fixture
def quick(photos: Path) -> dict[str, Any]:
    """Settings of a run of a second, as config.toml has them."""
    return {
        "data": str(photos),
        "arch": "centernet",
        "size": "tiny",
        "batch": 4,
        "steps": 12,
        "validate_every": 4,
        "warmup_steps": 2,
        "threads": 1,
        "device": "cpu",
        "snapshot_s": 0,
        "log_every": 3,
        "crops": {"crop": 64},
    }


@pytest.fixture
def config(quick: dict[str, Any]) -> TrainConfig:
    """The settings of `quick`."""
    return TrainConfig.from_dict(quick)


class Listener:
    """A reporter that keeps what it was told, and does something when a step is done."""

    def __init__(self, on_step: Callable[[int], None] = lambda step: None) -> None:
        self.notes: list[str] = []
        self._on_step = on_step

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: Any, loss: float, left_s: float | None) -> None:
        self._on_step(progress.step)

    def checking(self, done: int, images: int, left_s: float) -> None:
        pass

    def validating(self, done: int, images: int) -> None:
        pass


@pytest.fixture
def listener() -> type[Listener]:
    """The class Listener."""
    return Listener


@pytest.fixture(scope="session")
def fingerprint() -> Callable[[Path], tuple[str, str]]:
    """SHA-256 of a run's weights and of its validation predictions."""

    def digest(out: Path) -> tuple[str, str]:
        files = (out / "weights.safetensors", out.with_suffix(".json"))
        first, second = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        return first, second

    return digest
