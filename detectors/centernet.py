"""CenterNet: every object is a peak in a heat map of its class.

Zhou, Wang, Krahenbuhl 2019, "Objects as Points" (https://arxiv.org/abs/1904.07850). The box is
learnt the way of TTFNet (Liu et al. 2019, https://arxiv.org/abs/1909.00700): distances to the four
sides, GIoU loss, at every place near the centre. From random weights that learns faster than the
one place of the peak: map50 .71 against .66 after 400 steps of 8 crops of DeepPCB.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from smallobj.detectors.backbone import BACKBONES, Pyramid
from smallobj.detectors.base import Detector, Target
from smallobj.detectors.layers import (
    ConvNormAct,
    UNetDecoder,
    conv_start,
    place_centres,
    prior_bias,
)
from smallobj.detectors.levels import StridesConfig
from smallobj.detectors.registry import register


@dataclass(frozen=True, kw_only=True)
class CenterNetConfig(StridesConfig):
    """Settings of CenterNet."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "coarsest": 16,
            "width": 32,
        },
        "small": {
            **BACKBONES["small"],
            "coarsest": 32,
            "width": 48,
        },
        "medium": {**BACKBONES["medium"], "width": 64},
        "large": {**BACKBONES["large"], "width": 128},
    }

    FINEST: ClassVar[tuple[int, ...]] = (2, 4)  # pixels of the input a place of the heat map
    COARSEST: ClassVar[tuple[int, ...]] = (8, 16, 32)  # of the encoder's last map

    width: int = 64  # channels of the decoder's finest map and of the head
    radius: float = 0.54  # of the half box the heat of an object covers
    box_weight: float = 5.0  # of the box loss beside the heat loss's 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("width", 1, 4096)
        self._between("radius", 0.01, 1)
        self._between("box_weight", 0, 1000)


@register("centernet")
class CenterNet(Detector):
    """Every object is a peak in its class's heat map, with distances to the four sides.

    Raw: `heat` [B, C, h, w] logits; `sides` [B, 4, h, w] log of the distances from a place's
    centre to left, top, right and bottom, in strides.
    """

    Config = CenterNetConfig
    config: CenterNetConfig

    def __init__(self, config: CenterNetConfig) -> None:
        super().__init__(config, stride=config.coarsest)
        width = config.width
        self.encoder = Pyramid(
            config.backbone,
            config.backbone_options,
            finest=config.finest,
            coarsest=config.coarsest,
        )
        self.decoder = UNetDecoder(self.encoder.channels, width)
        self.heat = nn.Sequential(
            ConvNormAct(width, width), conv_start(width, config.num_classes, prior_bias(0.01))
        )
        # Boxes start at about 24 px, the middle (in logarithm) of 10 to 60 px.
        start = math.log(12 / config.finest)
        self.sides = nn.Sequential(ConvNormAct(width, width), conv_start(width, 4, start))

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector."""
        shared = self.decoder(self.encoder(x))
        return {"heat": self.heat(shared), "sides": self.sides(shared)}

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Focal loss of the heat, GIoU loss of the boxes near a centre; each a mean over boxes."""
        truth = _Truth(targets, raw["heat"], self.config)
        xyxy = self._xyxy(raw["sides"])
        count = max(1, len(truth.xyxy))
        place, owner, weight = truth.box_places()
        box = generalized_box_iou_loss(xyxy.flatten(0, 1)[place], truth.xyxy[owner])
        return {
            "heat": heat_focal_loss(raw["heat"], truth.heat_map()) / count,
            "box": self.config.box_weight * (box * weight).sum() / count,
        }

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores of places that are the highest of their 3 x 3 neighbourhood, else 0; boxes."""
        return self._peaks(raw["heat"]), self._xyxy(raw["sides"])

    def scored_places(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, list[Callable[[Tensor], Tensor]]]:
        """See Detector: the boxes of chosen peaks alone."""
        x, y = place_centres(raw["sides"], self.config.finest)
        x, y = (centre.expand(len(y), len(x)).flatten() for centre in (x, y))

        def boxes_of(sides: Tensor, chosen: Tensor) -> Tensor:
            return self._corners(x[chosen], y[chosen], sides.flatten(1)[:, chosen])

        return self._peaks(raw["heat"]), [partial(boxes_of, sides) for sides in raw["sides"]]

    def _peaks(self, logits: Tensor) -> Tensor:
        """Scores [B, h * w, C] where they are the highest of their neighbourhood, else 0."""
        heat = logits.sigmoid()
        peak = heat * (_highest_near(heat) == heat)
        return peak.flatten(2).transpose(1, 2)

    def _xyxy(self, sides: Tensor) -> Tensor:
        """Boxes [B, h * w, 4] in pixels, unclipped."""
        x, y = place_centres(sides, self.config.finest)
        return self._corners(x, y, sides.movedim(1, 0)).flatten(1, 2)

    def _corners(self, x: Tensor, y: Tensor, sides: Tensor) -> Tensor:
        """Boxes [..., 4] in pixels about centres in pixels, of `sides` [4, ...] as in raw."""
        # exp(7) strides are 4,000 px; more would only overflow.
        left, top, right, bottom = sides.clamp(max=7.0).exp() * self.config.finest
        return torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)


def _highest_near(heat: Tensor) -> Tensor:
    """The largest of each place's 3 x 3 neighbourhood, of [B, C, h, w] from 0 up.

    As max_pool2d, which takes a CPU twenty times as long.
    """
    around = F.pad(heat, (1, 1, 1, 1))
    across = around[..., :-2].maximum(around[..., 1:-1]).maximum(around[..., 2:])
    return across[..., :-2, :].maximum(across[..., 1:-1, :]).maximum(across[..., 2:, :])


def heat_focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """The penalty-reduced focal loss of CornerNet and CenterNet, summed.

    logits and heat [B, C, h, w]; heat in 0..1, exactly 1 at a centre.
    """
    probability = logits.sigmoid()
    at_centre = -((1 - probability) ** 2) * F.logsigmoid(logits)
    elsewhere = -((1 - heat) ** 4) * probability**2 * F.logsigmoid(-logits)
    return torch.where(heat == 1, at_centre, elsewhere).sum()


class _Truth:
    """The boxes of a batch, and what they want of the places of a map [B, C, h, w].

    One row for each place within reach of a box's centre: `box`, `place` (image, row and column in
    one number) and `heat`, 1 at the centre. The reach is an ellipse's of the box's own ratio, as
    TTFNet has it, and at least the one place.
    """

    def __init__(self, targets: Sequence[Target], heat: Tensor, config: CenterNetConfig) -> None:
        self.shape = heat.shape
        counts = torch.tensor([len(t.label) for t in targets])
        self.xyxy = torch.cat([t.xyxy for t in targets])
        self.label = torch.cat([t.label for t in targets])
        self.image = torch.repeat_interleave(torch.arange(len(targets)), counts).to(heat.device)
        self.box, self.place, self.heat = self._places(config.finest, config.radius)

    def _places(self, stride: int, radius: float) -> tuple[Tensor, Tensor, Tensor]:
        height, width = self.shape[2:]
        map_size = torch.tensor([width, height], device=self.xyxy.device)
        low, high = self.xyxy[:, :2] / stride, self.xyxy[:, 2:] / stride
        centre = ((low + high) / 2).floor().long().clamp(min=0).minimum(map_size - 1)
        reach = ((high - low) / 2 * radius).floor().long().minimum(map_size)
        side = 2 * reach + 1
        count = side.prod(dim=1)
        box = torch.arange(len(count), device=count.device).repeat_interleave(count)
        nth = torch.arange(len(box), device=count.device) - (count.cumsum(0) - count)[box]
        step = torch.stack((nth % side[box, 0], nth // side[box, 0]), dim=1) - reach[box]
        sigma = side[box] / 6
        heat = torch.exp(-(step**2 / (2 * sigma**2)).sum(dim=1))
        at = centre[box] + step
        inside = ((at >= 0) & (at < map_size)).all(dim=1)
        place = (self.image[box] * height + at[:, 1]) * width + at[:, 0]
        return box[inside], place[inside], heat[inside]

    def heat_map(self) -> Tensor:
        """The heat of every class, [B, C, h, w]; where boxes overlap the hotter counts."""
        images, classes, height, width = self.shape
        heat = self.heat.new_zeros(classes, images * height * width)
        index = self.label[self.box] * heat.shape[1] + self.place
        heat.view(-1).scatter_reduce_(0, index, self.heat, "amax")
        return heat.view(classes, images, height, width).transpose(0, 1)

    def box_places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Places with the box each learns, [K] and [K], and weights [K].

        A place within reach of several boxes learns the smallest. A box's weights sum to 1.
        """
        images, _, height, width = self.shape
        area = (self.xyxy[:, 2:] - self.xyxy[:, :2]).prod(dim=1)
        rank = torch.empty_like(self.label)
        rank[area.argsort(descending=True, stable=True)] = torch.arange(
            len(rank), device=rank.device
        )
        owner = rank.new_full((images * height * width,), -1)
        owner.scatter_reduce_(0, self.place, rank[self.box], "amax")
        mine = owner[self.place] == rank[self.box]
        box, weight = self.box[mine], self.heat[mine]
        total = weight.new_zeros(len(rank)).index_add_(0, box, weight)
        return self.place[mine], box, weight / total[box]
