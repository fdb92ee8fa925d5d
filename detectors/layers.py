"""Small building blocks that detectors share."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_RELU = partial(nn.ReLU, inplace=True)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, activation (ReLU); He initialisation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        stride: int = 1,
        act: Callable[[], nn.Module] = _RELU,
    ) -> None:
        conv = bare_conv(channels_in, channels_out, kernel, stride)
        super().__init__(conv, nn.BatchNorm2d(channels_out), act())


def bare_conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded to keep the size; He initialisation."""
    conv = nn.Conv2d(
        channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class UNetDecoder(nn.Module):
    """From the coarsest map up: double the size, join the finer map, mix.

    `width` channels at the finest map, twice as many a level coarser, at most four times.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        widths = [min(width * 2**i, width * 4) for i in range(len(channels))]
        self.top = ConvNormAct(channels[-1], widths[-1], kernel=1)
        steps = list(zip(channels[:-1], widths[:-1], widths[1:], strict=True))
        self.skip = nn.ModuleList(ConvNormAct(c, w, kernel=1) for c, w, _ in steps)
        self.down = nn.ModuleList(ConvNormAct(upper, w, kernel=1) for _, w, upper in steps)
        self.mix = nn.ModuleList(ConvNormAct(w, w) for _, w, _ in steps)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The finest map [B, width, h, w] of maps given finest first."""
        x = self.top(maps[-1])
        for i in reversed(range(len(self.mix))):
            lifted = F.interpolate(self.down[i](x), scale_factor=2.0, mode="nearest")
            x = self.mix[i](self.skip[i](maps[i]) + lifted)
        return x


def prior_bias(probability: float) -> float:
    """The logit at which a sigmoid starts from `probability` (Lin et al. 2017, focal loss)."""
    return -math.log((1 - probability) / probability)


def start_from_nothing(branch: nn.Module) -> None:
    """Give the convolutions and layers of a branch with ReLUs He's start (He et al. 2015).

    torchvision's heads start with a deviation of 0.01, which is made for a trained backbone.
    """
    for layer in branch.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def conv_start(channels_in: int, channels_out: int, start: float) -> nn.Conv2d:
    """A 1 x 1 convolution whose output is at first about `start` everywhere."""
    conv = nn.Conv2d(channels_in, channels_out, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, start)  # type: ignore[arg-type]
    return conv


def place_centres(like: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates x [w] and y [h, 1] of the places of a map [..., h, w]."""
    height, width = like.shape[-2:]
    x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) * stride
    y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) * stride
    return x, y[:, None]
