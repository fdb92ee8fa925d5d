"""Levels for a head: a timm pyramid through a neck, each level of one width, finest first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from smallobj.boxes import InputError
from smallobj.detectors.backbone import FeaturePyramid, Pyramid, doubled
from smallobj.detectors.base import DetectorConfig
from smallobj.detectors.layers import ConvNormAct

COARSEST_OF_BACKBONES = 32  # stride; coarser levels are made of the last map


@dataclass(frozen=True, kw_only=True)
class StridesConfig(DetectorConfig):
    """Settings of detectors that look at maps of several strides."""

    FINEST: ClassVar[tuple[int, ...]] = (2, 4, 8, 16)
    COARSEST: ClassVar[tuple[int, ...]] = (8, 16, 32, 64, 128)

    finest: int = 4  # stride of the first level, pixels
    coarsest: int = 32  # stride of the last level; batches must be multiples

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("finest", self.FINEST)
        self._one_of("coarsest", self.COARSEST)
        self._between("finest", self.FINEST[0], self.coarsest)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the levels, finest first, in pixels."""
        return doubled(self.finest, self.coarsest)


@dataclass(frozen=True, kw_only=True)
class LevelsConfig(StridesConfig):
    """Settings of detectors that look at levels of one width through a neck."""

    NECKS: ClassVar[tuple[str, ...]] = ("fpn", "pafpn")  # none too, where a head can do without

    width: int = 64  # channels of every level and of the head
    neck: str = "fpn"  # fpn: from the coarsest down; pafpn: then up again

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("width", 1, 4096)
        self._one_of("neck", self.NECKS)


class Levels(nn.Module):
    """Maps of a backbone through a neck: [B, width, H / stride, W / stride] for each stride.

    Without a neck (none) a level has the channels that its map came with, see `channels`. Sides
    are rounded up where a stride does not divide them.
    """

    def __init__(self, config: LevelsConfig) -> None:
        super().__init__()
        self.body: FeaturePyramid = Pyramid(
            config.backbone,
            config.backbone_options,
            finest=config.finest,
            coarsest=min(config.coarsest, COARSEST_OF_BACKBONES),
        )
        self.strides = config.strides
        self.out_channels = config.width  # torchvision's detectors ask for it
        channels = [*self.body.channels]
        self.coarser = nn.ModuleList()
        for _ in self.strides[len(channels) :]:
            self.coarser.append(ConvNormAct(channels[-1], config.width, stride=2))
            channels.append(config.width)
        self.neck: nn.Module = nn.Identity()
        self.up: nn.Module = nn.Identity()
        if config.neck != "none":
            self.neck = FPN(channels, config.width)
            channels = [config.width] * len(channels)
        if config.neck == "pafpn":
            self.up = PathUp(len(channels), config.width)
        self.channels = tuple(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        maps = self.body(x)
        for step in self.coarser:
            maps.append(step(maps[-1]))
        levels: list[Tensor] = self.up(self.neck(maps))
        return levels


def parse_levels(text: str) -> dict[str, int]:
    """The settings finest and coarsest of a text such as 2-5: levels of stride 2**2 to 2**5 px.

    Raises InputError where it is none.
    """
    match = re.fullmatch(r"([1-7])-([1-7])", text.strip())
    if match is None or int(match[1]) > int(match[2]):
        raise InputError("must be two levels of 1 to 7 such as 2-5", field="levels", value=text)
    return {"finest": 2 ** int(match[1]), "coarsest": 2 ** int(match[2])}


class FPN(FeaturePyramidNetwork):
    """torchvision's feature pyramid network on a list of maps (Lin et al. 2017)."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__(list(channels), width, norm_layer=nn.BatchNorm2d)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of `width` channels, finest first as they came."""
        return list(super().forward({str(i): m for i, m in enumerate(maps)}).values())


class PathUp(nn.Module):
    """From the finest level to the coarsest, what is near again (Liu et al. 2018, PANet)."""

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.shrink = nn.ModuleList(ConvNormAct(width, width, stride=2) for _ in range(levels - 1))
        self.mix = nn.ModuleList(ConvNormAct(width, width) for _ in range(levels - 1))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps as they came, each joined with the finer ones."""
        joined = [maps[0]]
        for shrink, mix, level in zip(self.shrink, self.mix, maps[1:], strict=True):
            joined.append(mix(shrink(joined[-1]) + level))
        return joined
