"""YOLO: one pass, places of several levels, each with classes and a box; ours, from the papers.

Decoupled head without anchors: Ge et al. 2021, "YOLOX" (https://arxiv.org/abs/2107.08430).
Assignment: Feng et al. 2021, "TOOD" (https://arxiv.org/abs/2108.07755), or YOLOX's. Distances as
distributions: Li et al. 2020, "Generalized Focal Loss" (https://arxiv.org/abs/2006.04388);
some distances are below 0, because a place outside a small box may learn it, as PP-YOLOE+ has it
(Xu et al. 2022, https://arxiv.org/abs/2203.16250). Backbone and neck: see csp.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smallobj.boxes import InputError
from smallobj.detectors.assigner import (
    Assigner,
    Assignment,
    Boxes,
    Places,
    SimOTAAssigner,
    TaskAlignedAssigner,
    boxes_of,
    places_of,
)
from smallobj.detectors.backbone import FeaturePyramid, Pyramid
from smallobj.detectors.base import Detector, Target
from smallobj.detectors.csp import ConvNormSiLU, CSPBackbone, CSPNeck, channels_at
from smallobj.detectors.layers import prior_bias
from smallobj.detectors.levels import COARSEST_OF_BACKBONES, StridesConfig
from smallobj.detectors.registry import register

_LOWEST = -2  # strides: the first distance of a distribution; the window of places reaches 2.5
_START = 2.0  # strides from a place to a side at first: boxes of 16 px at stride 4


@dataclass(frozen=True, kw_only=True)
class YOLOConfig(StridesConfig):
    """Settings of YOLO."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"backbone": "csp", "coarsest": 16, "width": 8},
        "n": {"backbone": "csp", "width": 16},
        "s": {"backbone": "csp", "width": 32},
        "m": {"backbone": "csp", "width": 48, "depth": 2},
        "l": {"backbone": "csp", "width": 64, "depth": 3},
    }

    FINEST: ClassVar[tuple[int, ...]] = (4, 8, 16)
    COARSEST: ClassVar[tuple[int, ...]] = (8, 16, 32, 64)

    backbone: str = "csp"  # our own, or any timm name
    width: int = 16  # channels at stride 2; a level has twice those of the one before, to 512
    depth: int = 1  # residual blocks of the neck's stages and of the backbone's thinnest
    reg_max: int = 16  # distances of a distribution: -2 to reg_max - 3 strides
    assigner: str = "task"  # who chooses the places that learn a box: task, TOOD's, or simota
    topk: int = 13  # of task: places that learn a box, at most
    alpha: float = 1.0  # of task: power of the score in choosing them
    beta: float = 6.0  # of task: power of the IoU in choosing them
    radius: float = 1.5  # strides from a box's centre within which places may learn it
    class_weight: float = 1.0  # of the class loss
    box_weight: float = 2.5  # of the box loss
    distribution_weight: float = 0.5  # of the distribution focal loss

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("width", 8, 512)
        if self.width % 8:
            raise InputError("must be a multiple of 8", field="width", value=self.width)
        self._between("depth", 1, 16)
        self._between("reg_max", 4, 64)
        self._one_of("assigner", ("task", "simota"))
        self._between("topk", 1, 1000)
        self._between("alpha", 0, 10)
        self._between("beta", 0, 10)
        self._between("radius", 0.5, 2)
        for name in ("class_weight", "box_weight", "distribution_weight"):
            self._between(name, 0, 1000)
        if self.backbone == "csp" and self.backbone_options:
            raise InputError(
                "the backbone csp has none: set width and depth",
                field="backbone_options",
                value=self.backbone_options,
            )


@register("yolo")
class YOLO(Detector):
    """Every place of several levels tells its class and, as distributions, its box's four sides.

    Raw, over the places of all levels, finest first, each row by row: `class` [B, P, C] logits;
    `sides` [B, P, 4 * reg_max] logits of the distances from the place to left, top, right and
    bottom, -2, -1, ... reg_max - 3 strides each.
    """

    Config = YOLOConfig
    config: YOLOConfig

    def __init__(self, config: YOLOConfig) -> None:
        super().__init__(config, stride=config.coarsest)
        channels = [channels_at(stride, config.width) for stride in config.strides]
        self.body = _backbone(config)
        self.coarser = nn.ModuleList()
        given = [*self.body.channels]
        for wanted in channels[len(given) :]:
            self.coarser.append(ConvNormSiLU(given[-1], wanted, stride=2))
            given.append(wanted)
        self.neck = CSPNeck(given, channels, config.depth)
        self.heads = nn.ModuleList(
            Head(c, config, stride) for c, stride in zip(channels, config.strides, strict=True)
        )
        self.assigner = _assigner(config)

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector."""
        maps = self.body(x)
        for step in self.coarser:
            maps.append(step(maps[-1]))
        told = [head(level) for head, level in zip(self.heads, self.neck(maps), strict=True)]
        return {
            "class": torch.cat([_rows(logits) for logits, _ in told], dim=1),
            "sides": torch.cat([_rows(sides) for _, sides in told], dim=1),
        }

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Cross-entropy of the classes, CIoU loss and distribution focal loss of the boxes.

        Each a sum over places, weighted by their quality, over the sum of all qualities.
        """
        logits, sides = raw["class"], raw["sides"]
        places = places_of(self.config.strides, image_size, logits.device)
        boxes = boxes_of(targets)
        box, place, quality = self._assigned(raw, boxes, places, image_size)
        image, label, true = boxes.image[box], boxes.label[box], boxes.xyxy[box]
        total = quality.sum().clamp(min=1)
        # The cross-entropy of a target t is softplus(x) - t * x, and t is 0 nearly everywhere.
        classes = F.softplus(logits).sum() - (quality * logits[image, place, label]).sum()
        mine = sides[image, place].unflatten(1, (4, -1))
        centre, stride = places.centre[place], places.stride[place]
        overlap = complete_iou(boxes_at(mine, centre, stride), true)
        distances = torch.cat((centre - true[:, :2], true[:, 2:] - centre), dim=1) / stride
        spread = distribution_focal_loss(mine, distances).mean(dim=1)
        return {
            "class": self.config.class_weight * classes / total,
            "box": self.config.box_weight * ((1 - overlap) * quality).sum() / total,
            "distribution": self.config.distribution_weight * (spread * quality).sum() / total,
        }

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores and boxes of all places."""
        places = places_of(self.config.strides, image_size, raw["class"].device)
        sides = raw["sides"].unflatten(2, (4, -1))
        return raw["class"].sigmoid(), boxes_at(sides, places.centre, places.stride)

    def scored_places(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, list[Callable[[Tensor], Tensor]]]:
        """See Detector: the distributions of chosen places alone."""
        places = places_of(self.config.strides, image_size, raw["class"].device)

        def boxes_of(sides: Tensor, chosen: Tensor) -> Tensor:
            mine = sides[chosen].unflatten(1, (4, -1))
            return boxes_at(mine, places.centre[chosen], places.stride[chosen])

        return raw["class"].sigmoid(), [partial(boxes_of, sides) for sides in raw["sides"]]

    @torch.no_grad()
    def _assigned(
        self, raw: Mapping[str, Tensor], boxes: Boxes, places: Places, image_size: tuple[int, int]
    ) -> Assignment:
        """Boxes and places that learn them; only candidates are decoded."""
        candidates = self.assigner.candidates(boxes, places, image_size)
        place, image = candidates.place, boxes.image[:, None]
        score = raw["class"][image, place, boxes.label[:, None]].sigmoid()
        sides = raw["sides"][image, place].unflatten(2, (4, -1))
        found = boxes_at(sides, places.centre[place], places.stride[place])
        iou = paired_iou(found, boxes.xyxy[:, None])
        return self.assigner.assign(boxes.image, candidates, score, iou)


class Head(nn.Module):
    """Two branches of a level: class logits, and distributions of the four distances."""

    def __init__(self, channels: int, config: YOLOConfig, stride: int) -> None:
        super().__init__()
        width = min(channels, 4 * config.width)
        # A handful of objects is expected in a photograph of 640 px, whatever the places are.
        expected = min(0.01, 5 * (stride / 640) ** 2 / config.num_classes)
        start = torch.full((config.num_classes,), prior_bias(expected))
        self.classes = _branch(channels, width, start)
        bins = torch.arange(config.reg_max) + _LOWEST
        around = -((bins - _START) ** 2) / 2
        self.sides = _branch(channels, width, around.repeat(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, H, W] and [B, 4 * reg_max, H, W]."""
        return self.classes(x), self.sides(x)


def boxes_at(sides: Tensor, centre: Tensor, stride: Tensor) -> Tensor:
    """Boxes [..., 4] in pixels, unclipped, of distributions [..., 4, reg_max] at places.

    centre [..., 2] and stride [..., 1] in pixels. The distance is the distribution's mean.
    """
    bins = torch.arange(sides.shape[-1], device=sides.device, dtype=sides.dtype) + _LOWEST
    left_top, right_bottom = ((sides.softmax(dim=-1) @ bins) * stride).split(2, dim=-1)
    return torch.cat((centre - left_top, centre + right_bottom), dim=-1)


def distribution_focal_loss(sides: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy with the two bins about a distance, each by its nearness.

    sides [M, 4, reg_max] logits, distances [M, 4] in strides. Returns [M, 4]; equation 6 of Li et
    al. 2020, https://arxiv.org/abs/2006.04388.
    """
    bins = sides.shape[-1]
    at = (distances - _LOWEST).clamp(0, bins - 1)
    low = at.floor().clamp(max=bins - 2)
    index = low.long()[..., None]
    logs = sides.log_softmax(dim=-1)
    above = at - low
    near, far = logs.gather(-1, index)[..., 0], logs.gather(-1, index + 1)[..., 0]
    return -((1 - above) * near + above * far)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union [...] of boxes [..., 4] in pairs; 0 where one has no area."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    common = shared.prod(dim=-1)
    areas = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(dim=-1) + (b[..., 2:] - b[..., :2]).clamp(
        min=0
    ).prod(dim=-1)
    return common / (areas - common).clamp(min=1e-9)


def complete_iou(found: Tensor, true: Tensor) -> Tensor:
    """IoU less the distance of the centres and the difference of the ratios, [...] in pairs.

    Zheng et al. 2020, https://arxiv.org/abs/1911.08287. Found boxes may be inside out.
    """
    iou = paired_iou(found, true)
    hull = torch.maximum(found[..., 2:], true[..., 2:]) - torch.minimum(
        found[..., :2], true[..., :2]
    )
    apart = (found[..., :2] + found[..., 2:] - true[..., :2] - true[..., 2:]) / 2
    distance = apart.square().sum(dim=-1) / hull.square().sum(dim=-1).clamp(min=1e-9)
    ratio = 4 / math.pi**2 * (_angle(true) - _angle(found)).square()
    with torch.no_grad():
        weight = ratio / (1 - iou + ratio).clamp(min=1e-9)
    return iou - distance - weight * ratio


def _angle(xyxy: Tensor) -> Tensor:
    width, height = (xyxy[..., 2:] - xyxy[..., :2]).clamp(min=1e-3).unbind(-1)
    return torch.atan2(width, height)


def _assigner(config: YOLOConfig) -> Assigner:
    if config.assigner == "simota":
        return SimOTAAssigner(radius=config.radius)
    return TaskAlignedAssigner(
        alpha=config.alpha, beta=config.beta, topk=config.topk, radius=config.radius
    )


def _backbone(config: YOLOConfig) -> FeaturePyramid:
    if config.backbone == "csp":
        return CSPBackbone(
            config.width, config.depth, finest=config.finest, coarsest=config.coarsest
        )
    return Pyramid(
        config.backbone,
        config.backbone_options,
        finest=config.finest,
        coarsest=min(config.coarsest, COARSEST_OF_BACKBONES),
    )


def _branch(channels_in: int, width: int, start: Tensor) -> nn.Sequential:
    """Two convolutions and a third whose outputs are at first about `start` everywhere."""
    last = nn.Conv2d(width, len(start), 1)
    nn.init.normal_(last.weight, std=0.01)
    last.bias = nn.Parameter(start)
    return nn.Sequential(ConvNormSiLU(channels_in, width), ConvNormSiLU(width, width), last)


def _rows(level: Tensor) -> Tensor:
    """[B, H * W, N] of [B, N, H, W]."""
    return level.flatten(2).transpose(1, 2)
