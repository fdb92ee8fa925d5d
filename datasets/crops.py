"""Square crops at native scale around objects: what a detector learns from.

Every crop is a function of (seed, epoch, index) alone, whatever thread cuts it and whenever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smallobj.boxes import Array, BoxTable, InputError, box_area
from smallobj.datasets.augment import SYMMETRIES, Pixels, jitter_colour
from smallobj.datasets.cache import ImageCache
from smallobj.datasets.order import epoch_order

INPUTS = ("crops", "squash")  # how a detector sees photographs, learning and predicting
_OF_CROPS_ALONE = ("background", "crops_per_image", "scale_jitter", "min_visible")
_BACKGROUND_TRIES = 10


class Crop(NamedTuple):
    """One sample: a square of an image and the boxes in it."""

    image: Tensor  # uint8 [3, S, S], RGB
    xyxy: Tensor  # float32 [M, 4], pixels of the crop, each with an area
    label: Tensor  # int64 [M]


class Window(NamedTuple):
    """A square of an image to be cut: it may reach beyond the border, which is padded."""

    left: float
    top: float
    side: float  # pixels of the image


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How crops are cut and changed. Raises InputError, naming the field, on a wrong value.

    Of whole images squashed, which none is cut from, `crop`, `colour` and `symmetry` can be set.
    """

    crop: int = 256  # side in pixels of what the detector sees
    input: str = "crops"  # or squash: whole images, resized to crop x crop px whatever their shape
    background: float = 0.15  # share of crops at places without an object
    crops_per_image: int = 8  # at most, an epoch; one an object where there are fewer objects
    scale_jitter: float = 0.25  # half of the crops are scaled by up to 1.25 or down to 1 / 1.25
    colour: float = 0.2  # strength of the change of colours; 0 is none
    symmetry: str = "all"  # flips and turns: all, mirror (left and right alone) or none
    min_visible: float = 0.4  # share of a cut box's area that must be in the crop to be taught

    def __post_init__(self) -> None:
        for name, low, high in (
            ("crop", 32, 4096),
            ("background", 0, 0.9),
            ("crops_per_image", 1, 1000),
            ("scale_jitter", 0, 4),
            ("colour", 0, 0.9),
            ("min_visible", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"must lie in {low} to {high}", field=name, value=value)
        if self.symmetry not in SYMMETRIES:
            known = ", ".join(SYMMETRIES)
            raise InputError(f"must be one of {known}", field="symmetry", value=self.symmetry)
        self._check_input()

    def _check_input(self) -> None:
        if self.input not in INPUTS:
            known = ", ".join(INPUTS)
            raise InputError(f"must be one of {known}", field="input", value=self.input)
        usual = {f.name: f.default for f in fields(self)}
        for name in _OF_CROPS_ALONE:
            value = getattr(self, name)
            if self.input == "squash" and value != usual[name]:
                reason = "is for crops: of an image that is squashed whole there are none"
                raise InputError(reason, field=name, value=value)

    @property
    def squash_px(self) -> int | None:
        """The side that images are squashed to; None: they are not."""
        return self.crop if self.input == "squash" else None


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
        """Image and row of the box aimed at (-1: none) of each crop of an epoch, [n, 2]."""
        order = self._orders.get(epoch)
        if order is None:
            config = self._config
            rng = np.random.default_rng([self._seed, epoch])
            order = epoch_order(self._table, config.background, config.crops_per_image, rng)
            # Threads that read ahead work in two epochs at once.
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) == 1}
            self._orders[epoch] = order
        return order

    def crop(self, epoch: int, index: int) -> Crop:
        """Crop `index` of an epoch; raises InputError where its image cannot be read."""
        image_number, row = self.order(epoch)[index]
        rng = np.random.default_rng([self._seed, epoch, index])
        image = self._cache.read(self._paths[image_number])
        rows = self._table.rows(image_number)
        xyxy, label = self._table.xyxy[rows], self._table.label[rows]
        side = self._config.crop / _scale(self._config.scale_jitter, rng)
        height, width = image.shape[:2]
        if row < 0:
            window = background_window(xyxy, (width, height), side, rng)
        else:
            window = window_around(self._table.xyxy[row], (width, height), side, rng)
        return self._finish(image, xyxy, label, window, rng)

    def _finish(
        self,
        image: Pixels,
        xyxy: Array,
        label: NDArray[np.int32],
        window: Window,
        rng: Generator,
    ) -> Crop:
        config = self._config
        inside, kept = boxes_in_window(xyxy, window, config.crop, config.min_visible)
        pixels = cut_window(image, window, config.crop, self._pad)
        return changed_crop(pixels, inside, label[kept], config, rng)


def changed_crop(
    pixels: Pixels, xyxy: Array, label: NDArray[np.int32], config: CropConfig, rng: Generator
) -> Crop:
    """A square [S, S, 3] and its boxes [M, 4], laid and coloured anew at random as configured."""
    choices = SYMMETRIES[config.symmetry]
    symmetry = choices[rng.integers(len(choices))]
    image = jitter_colour(symmetry.image(pixels), config.colour, rng)
    moved = symmetry.boxes(xyxy, config.crop)
    return Crop(
        torch.from_numpy(image),
        torch.from_numpy(moved.astype(np.float32)),
        torch.from_numpy(label.astype(np.int64)),
    )


def window_around(box: Array, size: tuple[int, int], side: float, rng: Generator) -> Window:
    """A window of an image (width, height) that shows the whole box, which lies anywhere in it.

    It stays inside the image where the image is large enough. Of a box larger than the window it
    shows a part.
    """
    left, top = (
        _place(side, extent, rng, sorted((high - side, low)))
        for extent, low, high in zip(size, box[:2], box[2:], strict=True)
    )
    return Window(left, top, side)


def background_window(xyxy: Array, size: tuple[int, int], side: float, rng: Generator) -> Window:
    """A window anywhere that shows no box, or one that does where ten tries found no other."""
    for _ in range(_BACKGROUND_TRIES):
        left, top = (_place(side, extent, rng, (-np.inf, np.inf)) for extent in size)
        window, low = Window(left, top, side), np.array([left, top])
        if not ((xyxy[:, :2] < low + side) & (xyxy[:, 2:] > low)).all(axis=1).any():
            break
    return window


def boxes_in_window(
    xyxy: Array, window: Window, crop_px: int, min_visible: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Boxes [K, 4] in pixels of the crop, cut at its border, and which of the [M] they are.

    A box of which less than `min_visible` of the area shows is left out: its sliver is taught as
    background, as the neighbouring tile will see it whole.
    """
    scale = crop_px / window.side
    moved = (xyxy - np.tile([window.left, window.top], 2)) * scale
    cut = np.clip(moved, 0, crop_px)
    # In float32 as the detector gets it, so that no box loses its area by rounding.
    has_area = (cut[:, 2:].astype(np.float32) > cut[:, :2].astype(np.float32)).all(axis=1)
    kept = has_area & (box_area(cut) >= min_visible * box_area(moved))
    return cut[kept], kept


def cut_window(image: Pixels, window: Window, crop_px: int, pad: Pixels) -> Pixels:
    """The window's pixels as uint8 [crop_px, crop_px, 3], resized where its side is another."""
    left, top = int(np.floor(window.left)), int(np.floor(window.top))
    if window.side == crop_px:
        return _padded(image, (left, top), (crop_px, crop_px), pad)
    dx, dy = window.left - left, window.top - top
    width, height = (int(np.ceil(d + window.side)) for d in (dx, dy))
    around = Image.fromarray(_padded(image, (left, top), (width, height), pad))
    box = (dx, dy, dx + window.side, dy + window.side)
    return np.asarray(around.resize((crop_px, crop_px), Image.Resampling.BILINEAR, box=box))


def _place(side: float, extent: int, rng: Generator, wanted: Sequence[float]) -> float:
    """Start of a window along one axis, inside `wanted` as far as the image allows.

    Whole pixels, so that a crop at native scale is the image's own pixels.
    """
    low, high = min(0.0, extent - side), max(0.0, extent - side)
    low, high = np.clip(wanted, low, high)
    return float(np.floor(rng.uniform(low, high) + 0.5))


def _scale(jitter: float, rng: Generator) -> float:
    scale = float(np.exp(rng.uniform(-1, 1) * np.log1p(jitter)))
    return scale if rng.random() < 0.5 else 1.0


def _padded(image: Pixels, corner: tuple[int, int], size: tuple[int, int], pad: Pixels) -> Pixels:
    """The pixels from `corner` (left, top) of `size` (width, height), padded beyond the border."""
    (left, top), (width, height) = corner, size
    rows = slice(max(0, top), max(0, top + height))
    columns = slice(max(0, left), max(0, left + width))
    part = image[rows, columns]
    if part.shape[:2] == (height, width):
        return part
    padded = np.empty((height, width, 3), np.uint8)
    padded[:] = pad
    y, x = max(0, -top), max(0, -left)
    padded[y : y + part.shape[0], x : x + part.shape[1]] = part
    return padded
