"""Square crops around objects at the photograph's scale: what a detector learns from.

Every crop is a function of (seed, epoch, index) and of its config alone, whatever thread cuts it
and whenever.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from smallobj.boxes import BoxTable
from smallobj.datasets.augment import SYMMETRIES, Symmetry, jitter_colour
from smallobj.datasets.cache import ImageCache
from smallobj.datasets.config import CropConfig
from smallobj.datasets.mosaic import put_together, quadrants
from smallobj.datasets.order import epoch_order, same_group
from smallobj.datasets.paste import MOST_OBJECTS, laid, pasted, piece_of
from smallobj.datasets.windows import (
    Cut,
    background_window,
    boxes_in_window,
    cut_window,
    window_around,
)

_OBJECTS_LOOKED_AT = 9  # for the one to three that are pasted


class Crop(NamedTuple):
    """One sample: a square of an image and the boxes in it."""

    image: Tensor  # uint8 [3, S, S], RGB
    xyxy: Tensor  # float32 [M, 4], pixels of the crop, each with an area
    label: Tensor  # int64 [M]


class Crops:
    """The crops of a labelled set of images, in epochs without end.

    Boxes that the source marks to be ignored are neither aimed at nor taught.
    """

    def __init__(
        self,
        table: BoxTable,
        paths: Sequence[Path],
        config: CropConfig,
        *,
        seed: int,
        cache: ImageCache,
        pad: tuple[int, int, int],
    ) -> None:
        """table and paths [N] of the same images; pad is the colour beyond the image border."""
        if table.ignore is not None:
            table = table.filter_rows(~table.ignore)
        self._table, self._paths, self._config = table, tuple(paths), config
        self._seed, self._cache = seed, cache
        self._pad = np.array(pad, np.uint8)
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._length = len(self.order(0))

    def __len__(self) -> int:
        """Crops an epoch; 0 where there is no box to aim at."""
        return self._length

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Image, row of the box aimed at (-1: none) and group of each crop of an epoch, [n, 3]."""
        order = self._orders.get(epoch)
        if order is None:
            config = self._config
            rng = np.random.default_rng([self._seed, epoch])
            order = epoch_order(
                self._table,
                config.background,
                config.crops_per_image,
                rng,
                balance=config.balance,
            )
            # Threads that read ahead work in two epochs at once.
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) == 1}
            self._orders[epoch] = order
        return order

    def crop(self, epoch: int, index: int, config: CropConfig | None = None) -> Crop:
        """Crop `index` of an epoch; raises InputError where its image cannot be read.

        config: of the phase that the run is in, where it is not the one these crops were made
        with; what the crop aims at is the same.
        """
        config = self._config if config is None else config
        order = self.order(epoch)
        rng = np.random.default_rng([self._seed, epoch, index])
        if config.mosaic and rng.random() < config.mosaic:
            cut = self._mosaic(order, index, config, rng)
        else:
            cut = self._cut(order[index], (config.crop, config.crop), config, rng)
        if config.paste and rng.random() < config.paste:
            cut = pasted(cut, self._pieces(order, index, config, rng), rng)
        return changed_crop(cut, config, rng)

    def share_memory(self, processes: int) -> None:
        """See Samples."""
        self._cache.share_memory(processes)

    def _cut(
        self,
        aim: NDArray[np.int64],
        size_px: tuple[int, int],
        config: CropConfig,
        rng: Generator,
    ) -> Cut:
        """A window of the image aimed at, cut to `size_px` (width, height)."""
        number, row = int(aim[0]), int(aim[1])
        image = self._cache.read(self._paths[number])
        rows = self._table.rows(number)
        xyxy, label = self._table.xyxy[rows], self._table.label[rows]
        scale = _scale(config, rng)
        sides, size = (size_px[0] / scale, size_px[1] / scale), (image.shape[1], image.shape[0])
        if row < 0:
            window = background_window(xyxy, size, sides, rng)
        else:
            window = window_around(self._table.xyxy[row], size, sides, rng)
        inside, kept = boxes_in_window(xyxy, window, size_px, config.min_visible)
        return Cut(cut_window(image, window, size_px, self._pad), inside, label[kept])

    def _mosaic(
        self, order: NDArray[np.int64], index: int, config: CropConfig, rng: Generator
    ) -> Cut:
        """Crop `index` and three others of its group, put together."""
        places, group = quadrants(config.crop, rng), same_group(order, index)
        aims = [order[index], *group[rng.integers(len(group), size=len(places) - 1)]]
        cuts = [
            self._cut(aim, (place.width, place.height), config, rng)
            for aim, place in zip(aims, places, strict=True)
        ]
        return put_together(places, cuts, config.crop)

    def _pieces(
        self, order: NDArray[np.int64], index: int, config: CropConfig, rng: Generator
    ) -> list[Cut]:
        """One to three objects of other images of the group, or fewer where few can be pasted."""
        group = same_group(order, index)
        others = group[(group[:, 1] >= 0) & (group[:, 0] != order[index, 0])]
        wanted = int(rng.integers(1, MOST_OBJECTS + 1))
        pieces: list[Cut] = []
        for place in rng.integers(len(others), size=_OBJECTS_LOOKED_AT if len(others) else 0):
            piece = self._piece(int(others[place, 0]), int(others[place, 1]), config, rng)
            pieces += [] if piece is None else [piece]
            if len(pieces) == wanted:
                break
        return pieces

    def _piece(self, number: int, row: int, config: CropConfig, rng: Generator) -> Cut | None:
        rows = self._table.rows(number)
        piece = piece_of(
            self._cache.read(self._paths[number]),
            self._table.xyxy[rows],
            self._table.label[rows],
            row - rows.start,
            scale=_scale(config, rng),
            crop_px=config.crop,
        )
        return None if piece is None else laid(piece, _symmetry(config, rng))


def changed_crop(cut: Cut, config: CropConfig, rng: Generator) -> Crop:
    """A square and its boxes, laid and coloured anew at random as configured."""
    symmetry = _symmetry(config, rng)
    image = jitter_colour(symmetry.image(cut.pixels), config.colour, rng)
    moved = symmetry.boxes(cut.xyxy, (config.crop, config.crop))
    return Crop(
        torch.from_numpy(image),
        torch.from_numpy(moved.astype(np.float32)),
        torch.from_numpy(cut.label.astype(np.int64)),
    )


def _symmetry(config: CropConfig, rng: Generator) -> Symmetry:
    choices = SYMMETRIES[config.symmetry]
    return choices[rng.integers(len(choices))]


def _scale(config: CropConfig, rng: Generator) -> float:
    """Pixels of the crop for each of the photograph, jittered in half of the crops."""
    jittered = float(np.exp(rng.uniform(-1, 1) * np.log1p(config.scale_jitter)))
    return config.scale * (jittered if rng.random() < 0.5 else 1.0)
