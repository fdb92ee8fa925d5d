"""Changes a crop may undergo: the eight symmetries of the square, and colour."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from smallobj.boxes import Array

Pixels = NDArray[np.uint8]


class Symmetry(NamedTuple):
    """One of the eight ways to lay a square, or any image: first transposed, then mirrored."""

    transpose: bool
    mirror_x: bool
    mirror_y: bool

    def image(self, image: Pixels) -> Pixels:
        """A view of an image [H, W, 3] laid this way."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]

    def boxes(self, xyxy: Array, size: tuple[float, float]) -> Array:
        """The boxes [M, 4] of an image laid this way, `size` (width, height) once it is so."""
        width, height = size
        if self.transpose:
            xyxy = xyxy[:, [1, 0, 3, 2]]
        if self.mirror_x:
            xyxy = np.stack([width - xyxy[:, 2], xyxy[:, 1], width - xyxy[:, 0], xyxy[:, 3]], 1)
        if self.mirror_y:
            xyxy = np.stack([xyxy[:, 0], height - xyxy[:, 3], xyxy[:, 2], height - xyxy[:, 1]], 1)
        return xyxy


_BOTH = (False, True)
SYMMETRIES: Mapping[str, tuple[Symmetry, ...]] = {
    "none": (Symmetry(False, False, False),),
    "mirror": tuple(Symmetry(False, x, False) for x in _BOTH),
    "all": tuple(Symmetry(t, x, y) for t in _BOTH for x in _BOTH for y in _BOTH),
}


def jitter_colour(image: Pixels, strength: float, rng: Generator) -> Pixels:
    """Brightness, contrast, gamma, white balance and saturation changed at random.

    image uint8 [S, S, 3]; strength 0.2 means by up to about 20 %. Returns uint8 [3, S, S].
    """
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    if strength == 0:
        return planes
    table = colour_table(strength, rng)
    saturation = 1 + rng.uniform(-2, 2) * strength
    for plane, values in zip(planes, table, strict=True):
        np.take(values, plane, out=plane, mode="clip")
    if rng.random() < 0.5:
        planes = _saturate(planes, saturation)
    return planes


def colour_table(strength: float, rng: Generator) -> Pixels:
    """What each value 0..255 of each channel becomes, uint8 [3, 256]."""
    value = np.linspace(0, 1, 256) ** np.exp(rng.uniform(-strength, strength))
    contrast, brightness = 1 + rng.uniform(-strength, strength, 2)
    balance = 1 + rng.uniform(-strength, strength, (3, 1)) / 4
    changed = ((value - 0.5) * contrast + 0.5) * brightness * balance
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def _saturate(planes: Pixels, factor: float) -> Pixels:
    colour = planes.astype(np.float32)
    # Written out: a product of matrices would have threads of its own in every reader.
    grey = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return np.clip(grey + (colour - grey) * np.float32(factor) + 0.5, 0, 255).astype(np.uint8)
