"""Fusing more boxes than memory holds: `python benchmarks/stream.py [IMAGES]` prints the table.

Five Parquet runs of 100 boxes an image, 30 classes, go through `smallobj fuse` as a user calls it,
in a process of its own, whose time and largest memory are taken; once on a tenth of the images, to
show how both grow, and once on all of them (100,000 if not said: 50 million boxes). Every run sees
most of 20 objects an image and much that is not there; values are float32, as networks give them.
The files (about 1.4 GB) lie in a temporary folder and are removed at the end.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.boxes.compiled import cpu_count
from smallobj.formats import RunInfo
from smallobj.formats.parquet_writer import ParquetRunWriter

IMAGES, RUNS, OBJECTS, BOXES, CLASSES = 100_000, 5, 20, 100, 30
BLOCK = 2_000  # images made at a time
WIDTH, HEIGHT = 2800, 2100
NAMES = Classes.of([f"class {number}" for number in range(CLASSES)])


def make_runs(folder: Path, count: int) -> list[Path]:
    """Write the runs over `count` images."""
    images = Images.of([f"{number:06}.jpg" for number in range(count)])
    paths = [folder / f"run{number}.parquet" for number in range(RUNS)]
    writers = [ParquetRunWriter(path, images, NAMES) for path in paths]
    rng = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        part = images.take(np.arange(start, min(start + BLOCK, count)))
        for writer, table in zip(writers, make_tables(rng, part), strict=True):
            writer.write(table)
    for path, writer in zip(paths, writers, strict=True):
        with writer:
            writer.finish(RunInfo(model=path.stem, classes=NAMES))
    return paths


def make_tables(rng: np.random.Generator, images: Images) -> list[BoxTable]:
    """What every run sees on some images."""
    count = len(images)
    objects, labels = _boxes(rng, count, OBJECTS)
    tables = []
    for _ in range(RUNS):
        noise, noise_labels = _boxes(rng, count, BOXES - OBJECTS)
        seen = objects + np.tile(rng.normal(0, 2, (count, OBJECTS, 2)), 2)
        xyxy = np.concatenate([seen, noise], axis=1).reshape(-1, 4).astype(np.float32)
        tables.append(
            BoxTable(
                images=images,
                classes=NAMES,
                offsets=np.arange(count + 1) * BOXES,
                xyxy=xyxy,
                label=np.concatenate([labels, noise_labels], axis=1).reshape(-1),
                score=rng.random(count * BOXES, np.float32),
            )
        )
    return tables


def _boxes(rng: np.random.Generator, images: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    sides = rng.uniform(10, 100, (images, each, 2))
    corner = rng.uniform(0, [WIDTH, HEIGHT] - sides)
    return np.concatenate([corner, corner + sides], axis=2), rng.integers(
        0, CLASSES, (images, each)
    )


def run_command(paths: list[Path], out: Path) -> tuple[float, float, float, str]:
    """Seconds, seconds of all cores, MB of the largest memory of one `smallobj fuse`; its words."""
    program = str(Path(sys.executable).with_name("smallobj"))
    command = [program, "fuse", *map(str, paths), "--to", "parquet", "--out", str(out)]
    start = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"smallobj fuse ended with {process.returncode}")
    seconds = perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said.strip()


def main() -> None:
    """Print the table."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    table = Table(
        title=f"smallobj fuse, Parquet to Parquet, {RUNS} runs x {BOXES} boxes;"
        f" {cpu_count()} cores (wanted: 60 s, 2 GB; better: 30 s, 1 GB)"
    )
    for name in (
        "images",
        "boxes",
        "MB read",
        "MB written",
        "seconds",
        "CPU s",
        "boxes/s",
        "peak MB",
    ):
        table.add_column(name, justify="right")
    for count in (images // 10, images):
        with tempfile.TemporaryDirectory(prefix="smallobj-stream-") as name:
            paths, out = make_runs(Path(name), count), Path(name) / "out" / "fused.parquet"
            read = sum(path.stat().st_size for path in paths) / 1e6
            seconds, cpu, memory, said = run_command(paths, out)
            written = out.stat().st_size / 1e6
        boxes = count * RUNS * BOXES
        row = (count, boxes, read, written, seconds, cpu, boxes / seconds, memory)
        table.add_row(*(f"{value:,.0f}" if value > 999 else f"{value:.4g}" for value in row))
        print(said, file=sys.stderr)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
