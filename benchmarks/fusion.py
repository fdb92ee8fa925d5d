"""How fast runs are fused and tuned: `python benchmarks/fusion.py` prints the table.

1,717 images x 5 runs x 60 boxes, 30 classes, as in a contest of small objects: every run sees most
of 1 to 5 objects an image, and much that is not there. Ours and ensemble-boxes take turns, so that
a noisy machine is noisy to both.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.boxes.compiled import cpu_count
from smallobj.ensemble import FusionConfig, Grid, fuse, nms, score_settings
from smallobj.ensemble.reference import fuse_reference
from smallobj.evaluation import map_score
from smallobj.formats import RunInfo, write_run

IMAGES, RUNS, BOXES, CLASSES = 1717, 5, 60, 30
WIDTH, HEIGHT = 2800, 2100
ROUNDS = 7
GRID = Grid(
    iou=(0.4, 0.5, 0.55, 0.6, 0.7),
    skip=(0.001, 0.01),
    conf_type=("box_and_model_avg", "avg"),
    weights=((1, 1, 1, 1, 1), (2, 1, 1, 1, 1), (0, 1, 1, 1, 1), (3, 2, 1, 1, 1), (5, 4, 3, 2, 1)),
)


def make_data(seed: int = 0) -> tuple[BoxTable, list[BoxTable]]:
    """Truth of 1 to 5 objects an image, and five runs of 60 boxes an image."""
    rng = np.random.default_rng(seed)
    images = Images.of([f"{i}.jpg" for i in range(IMAGES)], [(WIDTH, HEIGHT)] * IMAGES)
    classes = Classes.of([f"class {c}" for c in range(CLASSES)])
    objects = rng.integers(1, 6, IMAGES)
    index = np.repeat(np.arange(IMAGES), objects)
    xyxy, label = _boxes(rng, len(index))
    truth = BoxTable.build(
        images=images, classes=classes, image_index=index, xyxy=xyxy, label=label
    )
    runs = []
    for _ in range(RUNS):
        seen = rng.random(len(index)) < 0.8
        noise = np.repeat(np.arange(IMAGES), BOXES - np.bincount(index[seen], minlength=IMAGES))
        noise_xyxy, noise_label = _boxes(rng, len(noise))
        found = xyxy[seen] + rng.normal(0, 3, (int(seen.sum()), 4))
        score = np.concatenate([rng.uniform(0.2, 1, len(found)), rng.random(len(noise)) ** 4])
        runs.append(
            BoxTable.build(
                images=images,
                classes=classes,
                image_index=np.concatenate([index[seen], noise]),
                xyxy=np.concatenate([found, noise_xyxy]).round(3),
                label=np.concatenate([label[seen], noise_label]),
                score=score.round(6),
            )
        )
    return truth, runs


def _boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    sides = rng.uniform(10, 100, (count, 2))
    corner = rng.uniform(0, [WIDTH, HEIGHT] - sides)
    return np.concatenate([corner, corner + sides], axis=1), rng.integers(0, CLASSES, count)


def time_fusion(runs: list[BoxTable]) -> tuple[list[float], list[float]]:
    """Seconds of fusing all images: ours, and the library's, in turns by a share of the images."""
    config = FusionConfig()
    fuse(runs, config)
    ours, reference = [], []
    for part in np.array_split(np.arange(IMAGES), ROUNDS):
        share = [run.take_images(part) for run in runs]
        reference.append(_seconds(lambda share=share: fuse_reference(share, config)))
        ours += [_seconds(lambda: fuse(runs, config)) for _ in range(3)]
    return ours, [second * ROUNDS for second in reference]


def time_grid(truth: BoxTable, runs: list[BoxTable]) -> tuple[int, float]:
    """Number of settings, and seconds to fuse and score them all."""
    settings = GRID.settings(RUNS)
    score_settings(truth, runs, settings[:1])
    return len(settings), _seconds(lambda: score_settings(truth, runs, settings))


def time_command(runs: list[BoxTable]) -> tuple[float, list[float]]:
    """Megabytes of JSON, and seconds of `smallobj fuse` from the shell, compiled code cached."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"run{number}.json" for number in range(RUNS)]
        for path, run in zip(paths, runs, strict=True):
            write_run(path, run, RunInfo(model=path.stem, classes=run.classes))
        size = sum(path.stat().st_size for path in paths) / 1e6
        program = Path(sys.executable).with_name("smallobj")
        command = [program, "fuse", *paths, "--out", Path(folder) / "out" / "fused.json"]
        times = [
            _seconds(lambda: subprocess.run(command, check=True, capture_output=True))
            for _ in range(4)
        ]
    return size, times[1:]


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def main() -> None:
    """Print the table."""
    truth, runs = make_data()
    fused = fuse(runs)
    ours, reference = time_fusion(runs)
    settings, grid = time_grid(truth, runs)
    size, command = time_command(runs)
    suppress = min(_seconds(lambda: nms(fused, 0.5)) for _ in range(5))
    table = Table(
        title=f"{IMAGES} images x {RUNS} runs x {BOXES} boxes, {CLASSES} classes;"
        f" {cpu_count()} cores; map50 of the fused run {map_score(truth, fused):.3f}"
    )
    table.add_column("what")
    for name in ("seconds (median)", "an image", "goal"):
        table.add_column(name, justify="right")
    ratio = median(reference) / median(ours)
    rows = (
        ("fuse", median(ours), f"{ratio:.0f} times ensemble-boxes (75 wanted)"),
        ("ensemble-boxes", median(reference), ""),
        (f"grid of {settings} settings, map50 each", grid, "at most 30 s"),
        (f"smallobj fuse, {size:.0f} MB of JSON", median(command), "at most 3 s"),
        ("nms of the fused run", suppress, ""),
    )
    for name, seconds, goal in rows:
        table.add_row(name, f"{seconds:.3f}", f"{seconds / IMAGES * 1e3:.4f} ms", goal)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
