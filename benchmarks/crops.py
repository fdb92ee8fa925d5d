"""What a crop costs once its images are in memory: milliseconds of a core.

python benchmarks/crops.py
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from squash import make_photographs

from smallobj.datasets import CropConfig, Crops, ImageCache

SIDES = (256, 640)
LEVERS = (
    ("plain", {}),
    ("mosaic", {"mosaic": 1.0}),
    ("pasted", {"paste": 1.0}),
    ("mosaic and pasted", {"mosaic": 1.0, "paste": 1.0}),
)


def spent_ms(crops: Crops, epoch: int) -> list[float]:
    """Of each crop of an epoch."""
    spent = []
    for index in range(len(crops)):
        started = time.process_time()
        crops.crop(epoch, index)
        spent.append(1000 * (time.process_time() - started))
    return spent


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        table, paths = make_photographs(Path(folder))
        cache = ImageCache(1000)
        for side in SIDES:
            for name, levers in LEVERS:
                config = replace(CropConfig(crop=side), **levers)  # type: ignore[arg-type]
                crops = Crops(table, paths, config, seed=0, cache=cache, pad=(0, 0, 0))
                spent_ms(crops, 0)
                spent = spent_ms(crops, 1)
                middle, high = np.median(spent), np.quantile(spent, 0.9)
                print(f"{side} px, {name}: {middle:.2f} ms, one in ten above {high:.2f} ms")


if __name__ == "__main__":
    main()
