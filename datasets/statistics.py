"""Mean and deviation of the training images, from a bounded sample of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smallobj.datasets.cache import ImageCache

_PIXELS_EACH = 40_000


class ColourStatistics(NamedTuple):
    """By channel (RGB), in units of 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]  # at least 1


def colour_statistics(
    paths: Sequence[Path], cache: ImageCache, *, images: int = 64
) -> ColourStatistics:
    """Mean and deviation of at most `images` images, evenly spread over `paths`.

    Every image counts the same; of a large one a grid of pixels is looked at.
    """
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(images, len(paths))).round().astype(int))
    first, second = np.zeros(3), np.zeros(3)
    for i in chosen:
        image = cache.read(paths[i])
        step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / _PIXELS_EACH)))
        sample = image[::step, ::step].reshape(-1, 3).astype(np.float64)
        first += sample.mean(axis=0) / len(chosen)
        second += (sample**2).mean(axis=0) / len(chosen)
    std = np.sqrt(np.maximum(second - first**2, 1.0))
    # Rounded, so that the manifest's text and the detector hold the same numbers.
    mean = tuple(round(float(v), 4) for v in first)
    deviation = tuple(round(float(v), 4) for v in std)
    return ColourStatistics(mean, deviation)  # type: ignore[arg-type]  # three of each
