"""Whole images squashed to a square, their aspect ratio not kept: samples in place of crops.

What SSD (https://arxiv.org/abs/1512.02325) and many after it do at 300 px. Objects become as much
smaller as the photograph does; the crops of datasets/crops.py keep them as they are.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.datasets.cache import ImageCache
from smallobj.datasets.config import CropConfig
from smallobj.datasets.crops import Crop, changed_crop
from smallobj.datasets.windows import Cut

_EPOCHS_AT_WORK = 2  # threads that read ahead work in two at once


class Squashed:
    """The images of a labelled set, each whole once an epoch, in epochs without end.

    Images without a box are among them. Boxes that the source marks to be ignored are not taught.
    """

    def __init__(
        self,
        table: BoxTable,
        paths: Sequence[Path],
        config: CropConfig,
        *,
        seed: int,
        cache: ImageCache,
    ) -> None:
        """table and paths [N] of the same images; its sizes are those of the files.

        The cache must squash to `config.crop` pixels. Raises ValueError where one is not so.
        """
        if cache.squash_px != config.crop:
            raise ValueError(f"the cache squashes to {cache.squash_px}, not to {config.crop} px")
        if not (table.images.width * table.images.height > 0).all():
            raise ValueError("the size of an image is unknown")
        if table.ignore is not None:
            table = table.filter_rows(~table.ignore)
        self._table, self._paths, self._config = table, tuple(paths), config
        self._seed, self._cache = seed, cache
        self.order = lru_cache(_EPOCHS_AT_WORK)(self._order)

    def __len__(self) -> int:
        """Images an epoch; 0 where none has a box."""
        return len(self._paths) if len(self._table) else 0

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Which image each sample of an epoch shows, [n]."""
        return np.random.default_rng([self._seed, epoch]).permutation(len(self))

    def crop(self, epoch: int, index: int, config: CropConfig | None = None) -> Crop:
        """Sample `index` of an epoch; raises InputError where its image cannot be read.

        config: of the phase that the run is in, None: the one these samples were made with.
        """
        number = int(self.order(epoch)[index])
        rng = np.random.default_rng([self._seed, epoch, index])
        images, rows = self._table.images, self._table.rows(number)
        size = int(images.width[number]), int(images.height[number])
        xyxy, kept = squashed_boxes(self._table.xyxy[rows], size, self._config.crop)
        pixels = self._cache.read(self._paths[number])
        cut = Cut(pixels, xyxy, self._table.label[rows][kept])
        return changed_crop(cut, self._config if config is None else config, rng)

    def share_memory(self, processes: int) -> None:
        """See Samples."""
        self._cache.share_memory(processes)


def squashed_boxes(
    xyxy: Array, size: tuple[int, int], squash_px: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Boxes [K, 4] in pixels of the squashed image, and which of the [M] they are.

    xyxy: in an image of `size` (width, height). However small a box becomes it stays, while it has
    an area in float32, as the detector gets it.
    """
    squashed = np.clip(xyxy * (squash_px / np.tile(np.array(size, np.float64), 2)), 0, squash_px)
    low, high = np.split(squashed.astype(np.float32), 2, axis=1)
    kept: NDArray[np.bool_] = np.all(high > low, axis=1)
    return squashed[kept], kept
