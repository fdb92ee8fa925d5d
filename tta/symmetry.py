"""The eight symmetries of the square: images forward, boxes back."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from smallobj.boxes import Array


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """Mirror at the main diagonal first, then left-right, then top-bottom, each where set."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def name(self) -> str:
        """The name it has in SYMMETRIES."""
        return _NAMES[self]

    def then(self, after: "Symmetry") -> "Symmetry":
        """The one symmetry that does this and then `after`."""
        x, y = (self.flip_y, self.flip_x) if after.transpose else (self.flip_x, self.flip_y)
        return Symmetry(
            transpose=self.transpose != after.transpose,
            flip_x=x != after.flip_x,
            flip_y=y != after.flip_y,
        )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the moved image."""
        return (height, width) if self.transpose else (width, height)

    def forward(self, image: Tensor) -> Tensor:
        """The moved image; [..., H, W] to [..., H, W] or [..., W, H]."""
        if self.transpose:
            image = image.transpose(-1, -2)
        axes = [axis for axis, flipped in ((-1, self.flip_x), (-2, self.flip_y)) if flipped]
        return image.flip(axes) if axes else image

    def boxes_back(self, xyxy: Array, width: int, height: int) -> Array:
        """Boxes of the moved image in the image before; xyxy [K, 4], its size before in pixels."""
        moved_width, moved_height = self.size(width, height)
        x1, y1, x2, y2 = xyxy.T
        if self.flip_x:
            x1, x2 = moved_width - x2, moved_width - x1
        if self.flip_y:
            y1, y2 = moved_height - y2, moved_height - y1
        if self.transpose:
            x1, y1, x2, y2 = y1, x1, y2, x2
        return np.stack([x1, y1, x2, y2], axis=1)


IDENTITY = Symmetry()
SYMMETRIES: dict[str, Symmetry] = {
    "identity": IDENTITY,
    "hflip": Symmetry(flip_x=True),
    "vflip": Symmetry(flip_y=True),
    "rot90": Symmetry(transpose=True, flip_y=True),  # counter-clockwise, as numpy's rot90
    "rot180": Symmetry(flip_x=True, flip_y=True),
    "rot270": Symmetry(transpose=True, flip_x=True),
    "transpose": Symmetry(transpose=True),
    "antitranspose": Symmetry(transpose=True, flip_x=True, flip_y=True),
}
_NAMES = {symmetry: name for name, symmetry in SYMMETRIES.items()}
