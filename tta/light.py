"""Brightness and contrast of a view: other pixels, the same places."""

from typing import NamedTuple

import torch
from torch import Tensor

_MIDDLE = 127.5  # the grey that contrast leaves alone


class Light(NamedTuple):
    """Pixels away from middle grey by a factor, then brighter by a factor; 1 changes nothing.

    The same as the training augmentation does. A pixel looks alike in every patch that shows it,
    as nothing is measured on the patch.
    """

    brightness: float = 1.0
    contrast: float = 1.0

    def forward(self, image: Tensor) -> Tensor:
        """The image [3, H, W] uint8 in this light, rounded and cut to 0..255."""
        if self == PLAIN_LIGHT:
            return image
        changed = (image.float() - _MIDDLE) * self.contrast + _MIDDLE
        return (changed * self.brightness).round_().clamp_(0, 255).to(torch.uint8)


PLAIN_LIGHT = Light()


def shortest(value: float) -> str:
    """A number in as few digits as give it back exactly: 1.5, 2, 0.3333333333333333."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
