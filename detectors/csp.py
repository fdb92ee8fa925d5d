"""Cross stage partial blocks: a backbone of them, and the neck that joins its levels both ways.

Blocks: Wang et al. 2019, "CSPNet" (https://arxiv.org/abs/1911.11929): half of the channels pass by,
half go through residual blocks, and a convolution joins them. Neck: Liu et al. 2018, "Path
Aggregation Network" (https://arxiv.org/abs/1803.01534), with such blocks where maps meet, as YOLOX
has it (Ge et al. 2021, https://arxiv.org/abs/2107.08430). Pooled context at the coarsest level: He
et al. 2014, "Spatial Pyramid Pooling" (https://arxiv.org/abs/1406.4729).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smallobj.detectors.backbone import FeaturePyramid, doubled
from smallobj.detectors.layers import ConvNormAct, bare_conv

_WIDEST = 512  # channels of a level at most
_BLOCKS = {4: 1, 8: 2, 16: 2, 32: 1, 64: 1}  # residual blocks at a stride, in units of the depth


def channels_at(stride: int, width: int) -> int:
    """Channels of a level: `width` at stride 2, twice as many at each coarser one, to stride 32."""
    return min(width * min(stride, 32) // 2, _WIDEST)


ConvNormSiLU = partial(ConvNormAct, act=nn.SiLU)


class Residual(nn.Module):
    """Two 3 x 3 convolutions, and past them what came in where `added`."""

    def __init__(self, channels: int, *, added: bool) -> None:
        super().__init__()
        self.added = added
        self.convs = nn.Sequential(
            ConvNormSiLU(channels, channels), ConvNormSiLU(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W], as it came."""
        return x + self.convs(x) if self.added else self.convs(x)


class CSPBlock(nn.Module):
    """Half of the channels pass by, half go through blocks; a convolution joins them."""

    def __init__(self, channels_in: int, channels: int, blocks: int, *, added: bool = True) -> None:
        super().__init__()
        half = channels // 2
        self.by: nn.Module = ConvNormSiLU(channels_in, half, kernel=1)
        self.through: nn.Module = ConvNormSiLU(channels_in, half, kernel=1)
        self.blocks = nn.Sequential(*(Residual(half, added=added) for _ in range(blocks)))
        self.join = ConvNormSiLU(2 * half, channels, kernel=1)

    def forward(self, *maps: Tensor) -> Tensor:
        """[B, channels, H, W] of a map [B, channels_in, H, W]."""
        return self.join(torch.cat((self.blocks(self.through(*maps)), self.by(*maps)), dim=1))


class MeetingConv(nn.Module):
    """A 1 x 1 convolution of a coarse map, doubled in size, beside a fine one.

    It is the sum of one of each, and the coarse map's is made before it is enlarged: a quarter of
    the work, and nothing is concatenated.
    """

    def __init__(self, coarse: int, fine: int, channels_out: int) -> None:
        super().__init__()
        whole = bare_conv(coarse + fine, channels_out, 1).weight.detach()  # started as one
        self.coarse = nn.Conv2d(coarse, channels_out, 1, bias=False)
        self.fine = nn.Conv2d(fine, channels_out, 1, bias=False)
        with torch.no_grad():
            self.coarse.weight.copy_(whole[:, :coarse])
            self.fine.weight.copy_(whole[:, coarse:])
        self.norm_act = nn.Sequential(nn.BatchNorm2d(channels_out), nn.SiLU())

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """[B, channels_out, H, W] of [B, coarse, H / 2, W / 2] and [B, fine, H, W]."""
        lifted = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        return self.norm_act(self.fine(fine) + lifted)


class CSPMeeting(CSPBlock):
    """A CSP block of a coarse map and the finer one that it meets on the way down."""

    def __init__(self, coarse: int, fine: int, channels: int, blocks: int) -> None:
        super().__init__(fine, channels, blocks, added=False)
        self.by = MeetingConv(coarse, fine, channels // 2)
        self.through = MeetingConv(coarse, fine, channels // 2)


class PooledContext(nn.Module):
    """Each place beside the maxima of its surroundings of 5, 9 and 13 places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shrink = ConvNormSiLU(channels, channels // 2, kernel=1)
        self.join = ConvNormSiLU(4 * (channels // 2), channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W], as it came."""
        seen = [self.shrink(x)]
        for _ in range(3):  # the maximum of 5 over maxima of 5 is the maximum of 9
            seen.append(F.max_pool2d(seen[-1], 5, stride=1, padding=2))
        return self.join(torch.cat(seen, dim=1))


class CSPBackbone(FeaturePyramid):
    """CSP blocks from stride 4 to the coarsest level, each after a convolution that halves."""

    def __init__(self, width: int, depth: int, *, finest: int, coarsest: int) -> None:
        super().__init__()
        self.strides = doubled(finest, coarsest)
        self.channels = tuple(channels_at(s, width) for s in self.strides)
        self.stem = ConvNormSiLU(3, width, stride=2)
        self.stages = nn.ModuleDict()
        before = width
        for stride in doubled(4, coarsest):
            channels = channels_at(stride, width)
            stage = [
                ConvNormSiLU(before, channels, stride=2),
                CSPBlock(channels, channels, depth * _BLOCKS[stride]),
            ]
            if stride == coarsest:
                stage.append(PooledContext(channels))
            self.stages[f"stride{stride}"] = nn.Sequential(*stage)
            before = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """See FeaturePyramid."""
        x, maps = self.stem(x), []
        for stage in self.stages.values():
            x = stage(x)
            maps.append(x)
        return maps[-len(self.strides) :]


class CSPNeck(nn.Module):
    """From the coarsest level to the finest and back, each map joined with its neighbour."""

    def __init__(self, channels_in: Sequence[int], channels: Sequence[int], depth: int) -> None:
        super().__init__()
        fine, coarse = channels[:-1], channels[1:]
        self.enter = (
            nn.Identity()
            if channels_in[-1] == channels[-1]
            else ConvNormSiLU(channels_in[-1], channels[-1], kernel=1)
        )
        self.down = nn.ModuleList(
            CSPMeeting(c, given, f, depth)
            for c, given, f in zip(coarse, channels_in[:-1], fine, strict=True)
        )
        self.shrink = nn.ModuleList(ConvNormSiLU(f, f, stride=2) for f in fine)
        self.up = nn.ModuleList(
            CSPBlock(f + c, c, depth, added=False) for f, c in zip(fine, coarse, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps [B, channels[i], ...] of maps [B, channels_in[i], ...], finest first."""
        lowered = [self.enter(maps[-1])]
        for down, level in zip(reversed(self.down), reversed(maps[:-1]), strict=True):
            lowered.insert(0, down(lowered[0], level))
        raised = lowered[:1]
        for shrink, up, level in zip(self.shrink, self.up, lowered[1:], strict=True):
            raised.append(up(torch.cat((shrink(raised[-1]), level), dim=1)))
        return raised
