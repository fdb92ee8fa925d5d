"""What a crop costs: from images in memory, and from where else they may come; milliseconds.

python benchmarks/crops.py
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from squash import make_photographs

from smallobj.datasets import CropConfig, Crops, DiskCache, ImageCache

SIDES = (256, 640)
LEVERS = (
    ("plain", {}),
    ("mosaic", {"mosaic": 1.0}),
    ("pasted", {"paste": 1.0}),
    ("mosaic and pasted", {"mosaic": 1.0, "paste": 1.0}),
)
PHOTOGRAPH = (2800, 2100)


def spent_ms(crops: Crops, epoch: int) -> list[float]:
    """Of each crop of an epoch."""
    spent = []
    for index in range(len(crops)):
        started = time.process_time()
        crops.crop(epoch, index)
        spent.append(1000 * (time.process_time() - started))
    return spent


def levers(folder: Path) -> None:
    """Each lever of the samples, from images in memory."""
    table, paths = make_photographs(folder)
    cache = ImageCache(1000)
    for side in SIDES:
        for name, given in LEVERS:
            config = replace(CropConfig(crop=side), **given)  # type: ignore[arg-type]
            crops = Crops(table, paths, config, seed=0, cache=cache, pad=(0, 0, 0))
            spent_ms(crops, 0)
            spent = spent_ms(crops, 1)
            middle, high = np.median(spent), np.quantile(spent, 0.9)
            print(f"{side} px, {name}: {middle:.2f} ms, one in ten above {high:.2f} ms")


def sources(folder: Path) -> None:
    """A crop of 256 px where its image is decoded, in memory, or on disk."""
    table, paths = make_photographs(folder, PHOTOGRAPH)
    disk = DiskCache(folder / "cache", 20, tell=print)
    memory, filling = ImageCache(1000), ImageCache(0, disk=disk)
    for path in paths:
        memory.read(path)
    print(f"an image decoded and written: {told([cost(filling.read, path) for path in paths])}")
    for name, cache, dropped in (
        ("decoded each time", ImageCache(0), False),
        ("in memory", memory, False),
        ("on disk, its pages in memory", ImageCache(0, disk=disk), False),
        ("on disk, its pages dropped before each crop", ImageCache(0, disk=disk), True),
    ):
        crops = Crops(table, paths, CropConfig(crop=256), seed=0, cache=cache, pad=(0, 0, 0))
        costs = []
        for index in range(len(crops)):
            if dropped:
                drop_pages(disk.folder)
            costs.append(cost(crops.crop, 1, index))
        print(f"256 px of an image {name}: {told(costs)}")


class Cost(NamedTuple):
    """Of one call."""

    core_ms: float
    clock_ms: float  # with waits for the disk, and for a core on a busy machine
    read_mb: float  # from the disk


def cost(work: Callable[..., object], *arguments: object) -> Cost:
    """What a call costs."""
    started, clock, read = time.process_time(), time.perf_counter(), read_bytes()
    work(*arguments)
    core, elapsed = time.process_time() - started, time.perf_counter() - clock
    return Cost(1000 * core, 1000 * elapsed, (read_bytes() - read) / 1e6)


def told(costs: Sequence[Cost]) -> str:
    """Medians; the least time of the clock is that of a machine with nothing else to do."""
    core, clock, read = np.median(costs, axis=0)
    least = min(c.clock_ms for c in costs)
    return f"{core:.2f} ms of a core, {clock:.2f} ms (least {least:.2f}), {read:.2f} MB read"


def read_bytes() -> int:
    """Bytes that had to be fetched from a disk for this process; Linux alone tells it."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def drop_pages(folder: Path) -> None:
    """Let the system forget what it holds of the files in memory."""
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    torch.set_num_threads(1)
    for table in (levers, sources):
        with tempfile.TemporaryDirectory() as folder:
            table(Path(folder))


if __name__ == "__main__":
    main()
