import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmark_module() -> Callable[[str], ModuleType]:
    """A file of the benchmarks folder, which is no package, as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def random_tables() -> Callable[..., list[BoxTable]]:
    """Runs on the same images: objects that each run sees shifted, or not at all, and noise.

    All scores of an image are distinct.
    """

    def make(
        rng: np.random.Generator,
        *,
        images: int = 10,
        runs: int = 3,
        classes: int = 3,
        objects: int = 6,
        noise: int = 10,
        sized: bool = True,
    ) -> list[BoxTable]:
        size = rng.integers(200, 1000, (images, 2))
        shared = Images.of([f"{i}.png" for i in range(images)], size.tolist() if sized else None)
        rows: list[list[tuple]] = [[] for _ in range(runs)]
        for image in range(images):
            score = rng.permutation(np.linspace(0, 1, runs * (2 * objects + noise)))
            used = 0
            for _ in range(rng.integers(0, objects + 1)):
                box = _box(rng, size[image])
                label = rng.integers(classes)
                for run in range(runs):
                    for _ in range(rng.integers(0, 3)):
                        seen = box + rng.normal(0, 2, 4)
                        rows[run].append((image, label, score[used], *seen))
                        used += 1
            for run in range(runs):
                for _ in range(rng.integers(0, noise + 1)):
                    rows[run].append(
                        (image, rng.integers(classes), score[used], *_box(rng, size[image]))
                    )
                    used += 1
        return [_build(shared, classes, np.array(r, np.float64).reshape(-1, 7)) for r in rows]

    return make


def _box(rng: np.random.Generator, size: np.ndarray) -> np.ndarray:
    sides = rng.uniform(10, 100, 2)
    corner = rng.uniform(0, size - sides)
    return np.concatenate([corner, corner + sides])


def _build(images: Images, classes: int, rows: np.ndarray) -> BoxTable:
    return BoxTable.build(
        images=images,
        classes=Classes.of([f"class {c}" for c in range(classes)]),
        image_index=rows[:, 0].astype(np.int64),
        label=rows[:, 1].astype(np.int32),
        score=rows[:, 2],
        xyxy=rows[:, 3:],
    )
