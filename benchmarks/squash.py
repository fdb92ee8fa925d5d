"""What a squashed sample costs, with the cache and without: milliseconds of a core.

python benchmarks/squash.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.datasets import CropConfig, ImageCache, Squashed

IMAGES, BOXES, SIZE = 16, 20, (2000, 1500)
CONFIG = CropConfig(input="squash", crop=300)


def make_photographs(folder: Path, size: tuple[int, int] = SIZE) -> tuple[BoxTable, list[Path]]:
    """JPEGs of smooth noise, `size` (width, height), with boxes of 40 px."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.jpg" for i in range(IMAGES)]
    for path in paths:
        noise = Image.fromarray(rng.integers(0, 255, (150, 200, 3), dtype=np.uint8))
        noise.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    corner = rng.uniform(0, np.array(size) - 40, (IMAGES * BOXES, 2))
    table = BoxTable.build(
        images=Images.of([path.name for path in paths], [size] * IMAGES),
        classes=Classes.of(["object"]),
        image_index=np.repeat(np.arange(IMAGES), BOXES),
        xyxy=np.concatenate([corner, corner + 40], axis=1),
        label=np.zeros(len(corner), np.int32),
    )
    return table, paths


def median_ms(samples: Squashed, epoch: int) -> float:
    """Of the samples of an epoch."""
    spent = []
    for index in range(len(samples)):
        started = time.process_time()
        samples.crop(epoch, index)
        spent.append(1000 * (time.process_time() - started))
    return float(np.median(spent))


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        table, paths = make_photographs(Path(folder))
        for name, limit_mb in (("without a cache", 0.0), ("cached", 100.0)):
            cache = ImageCache(limit_mb, squash_px=CONFIG.crop)
            samples = Squashed(table, paths, CONFIG, seed=0, cache=cache)
            first, again = median_ms(samples, 0), median_ms(samples, 1)
            print(f"{name}: {first:.1f} ms in the first epoch, {again:.1f} ms in the second")


if __name__ == "__main__":
    main()
