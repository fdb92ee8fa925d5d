"""FCN: semantic segmentation of the boxes' insides; objects are the masks' connected components.

Long, Shelhamer, Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation"
(https://arxiv.org/abs/1411.4038): the coarsest map of a backbone is scored per class, lifted to the
next finer one bilinearly and added to that one's scores, down to stride 32, 16, 8 (FCN-32s, FCN-16s,
FCN-8s) or, here, 4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smallobj.detectors.backbone import Pyramid
from smallobj.detectors.base import DetectorConfig, Target
from smallobj.detectors.components import find_components
from smallobj.detectors.layers import ConvNormAct, conv_start, place_centres
from smallobj.detectors.registry import register
from smallobj.detectors.segmenter import Segmenter

_PRIOR = 0.01  # of an object at a place, before anything was learnt


@dataclass(frozen=True, kw_only=True)
class FCNConfig(DetectorConfig):
    """Settings of FCN."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "backbone": "resnet10t",
            "backbone_options": {"channels": (16, 32, 64, 64), "stem_width": 16},
            "coarsest": 16,
            "width": 32,
        },
        "small": {
            "backbone": "resnet18",
            "backbone_options": {"channels": (32, 64, 128, 256), "layers": (1, 1, 1, 1)},
            "width": 64,
        },
        "medium": {"backbone": "resnet18d", "width": 128},
        "large": {"backbone": "vgg16_bn", "width": 256},
    }

    skips: int = 4  # which decoder: 32 (none), 16, 8 or 4; stride of its finest scores, pixels
    coarsest: int = 32  # stride of the backbone's last map; batches must be multiples
    width: int = 64  # channels of the convolutions between the backbone and the scores
    skip_convs: int = 1  # convolutions of a skip before it is scored; the paper has 0
    loss: str = "focal"
    gamma: float = 2.0
    dice_weight: float = 1.0
    shrink: float = 0.0  # part of a box's sides that its mask leaves out, given back by decoding
    thresholds: int = 5  # of probability: 1/2, 1/4, ...
    least_area: float = 0.0  # square pixels; smaller components are dropped

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("skips", (4, 8, 16, 32))
        self._one_of("coarsest", (8, 16, 32))
        self._between("skips", 4, self.coarsest)
        self._between("width", 1, 4096)
        self._between("skip_convs", 0, 4)
        self._between("shrink", 0, 0.8)
        self._between("thresholds", 1, 16)
        self._between("least_area", 0, 1e9)


@register("fcn")
class FCN(Segmenter):
    """Every place tells its class; an object is a connected piece of its class's mask.

    Raw: `logits` [B, C + 1, h, w] at stride `skips`, the background last; their softmax is the
    share of a place that each class covers.
    """

    Config = FCNConfig
    config: FCNConfig

    def __init__(self, config: FCNConfig) -> None:
        super().__init__(config, stride=config.coarsest)
        self.encoder = Pyramid(
            config.backbone, config.backbone_options, finest=config.skips, coarsest=config.coarsest
        )
        *skips, last = self.encoder.channels
        width, scores = config.width, config.num_classes + 1
        self.top = nn.Sequential(
            ConvNormAct(last, width), ConvNormAct(width, width), conv_start(width, scores, 0.0)
        )
        self.skips = nn.ModuleList(self._skip(channels) for channels in skips)
        background = math.log(config.num_classes * (1 - _PRIOR) / _PRIOR)
        with torch.no_grad():
            self.top[-1].bias[-1] = background

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector.

        Scores are lifted by interpolation: the paper's transposed convolution, started bilinear,
        does the same inside the map but fades at its border, and learning it changed little there.
        """
        *maps, last = self.encoder(x)
        logits = self.top(last)
        for skip, finer in zip(reversed(self.skips), reversed(maps), strict=True):
            lifted = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
            logits = skip(finer) + lifted
        return {"logits": logits}

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Experimental."""
        logits = raw["logits"]
        share = torch.stack([self._shares(target, logits) for target in targets])
        log = logits.log_softmax(1)
        count = share[:, :-1].sum().clamp(min=1)
        cfg = self.config
        out = {}
        if "ce" in cfg.loss:
            out["mask"] = -(share * log).sum() / count
        if "weighted" in cfg.loss:
            fg = -(share[:, :-1] * log[:, :-1]).sum() / count
            bg = -(share[:, -1] * log[:, -1]).sum() / share[:, -1].sum().clamp(min=1)
            out["mask"] = fg + bg
        if "focal" in cfg.loss:
            out["mask"] = (
                -(share * log * (share - log.exp()).abs() ** cfg.gamma).sum() / count
            )
        if "dice" in cfg.loss:
            p = log.exp()[:, :-1]
            y = share[:, :-1]
            inter = (p * y).sum((0, 2, 3))
            total = (p * p).sum((0, 2, 3)) + (y * y).sum((0, 2, 3))
            dice = 1 - (2 * inter + 1) / (total + 1)
            out["dice"] = cfg.dice_weight * dice.mean()
        return out

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores and boxes of all components; a place is a component, those missing score 0."""
        logits = raw["logits"]
        images, _, height, width = logits.shape
        probability = logits.softmax(1)[:, :-1].reshape(-1, height, width)
        config = self.config
        found = find_components(
            probability.double().cpu().numpy(), tuple(0.5**n for n in range(1, config.thresholds + 1))
        )
        image, label = np.divmod(found.map, config.num_classes)
        kept = found.places * config.skips**2 >= config.least_area
        return _padded(image[kept], label[kept], found.xyxy[kept]*config.skips, found.score[kept], images, config, logits)

    def class_map(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """See Segmenter: the largest probability, bilinear between the places."""
        probability = raw["logits"].softmax(1)
        return F.interpolate(
            probability, image_size, mode="bilinear", align_corners=False
        ).argmax(1)

    def _skip(self, channels: int) -> nn.Sequential:
        convs, width = self.config.skip_convs, self.config.width
        steps = [ConvNormAct(width if i else channels, width) for i in range(convs)]
        last = conv_start(width if convs else channels, self.config.num_classes + 1, 0.0)
        return nn.Sequential(*steps, last)

    @torch.no_grad()
    def _shares(self, target: Target, logits: Tensor) -> Tensor:
        """The share of every place that each class covers, smaller boxes over larger ones.

        [C + 1, h, w], the background last, sums to 1.
        """
        stride, shrink = self.config.skips, self.config.shrink
        size = target.xyxy[:, 2:] - target.xyxy[:, :2]
        order = size.prod(dim=1).argsort(descending=True, stable=True)
        inset = size[order] * shrink / 2
        low = (target.xyxy[order, :2] + inset) / stride
        high = (target.xyxy[order, 2:] - inset) / stride
        x, y = place_centres(logits, 1)
        across = _covered(x, low[:, :1], high[:, :1])
        down = _covered(y.squeeze(1), low[:, 1:], high[:, 1:])
        covered = down[:, :, None] * across[:, None, :]
        # What the smaller boxes, later in the order, leave of each.
        left = torch.cat((covered.new_ones(1, *logits.shape[2:]), (1 - covered).flip(0)))
        left = left.cumprod(0)
        shares = torch.zeros_like(logits[0])
        shares.index_add_(0, target.label[order].flip(0), covered.flip(0) * left[:-1])
        shares[-1] = left[-1]
        return shares


def _covered(centre: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How much of the place about each centre [n] lies within low to high [M, 1]; [M, n] in 0..1."""
    return ((centre + 0.5).minimum(high) - (centre - 0.5).maximum(low)).clamp(0, 1)


def _padded(image, label, xyxy, score, images, config, logits):
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    half = (xyxy[:, 2:] - xyxy[:, :2]) / 2 / (1 - config.shrink)
    xyxy = np.concatenate((centre - half, centre + half), axis=1)
    # best first within each image, cut at max_candidates
    order = np.lexsort((-score, image))
    image, label, xyxy, score = image[order], label[order], xyxy[order], score[order]
    begin = np.searchsorted(image, np.arange(images))
    nth = np.arange(len(image)) - begin[image]
    kept = nth < config.max_candidates
    image, label, xyxy, score, nth = image[kept], label[kept], xyxy[kept], score[kept], nth[kept]
    most = int(nth.max(initial=0)) + 1
    scores = np.zeros((images, most, config.num_classes), np.float32)
    boxes = np.zeros((images, most, 4), np.float32)
    scores[image, nth, label] = score
    boxes[image, nth] = xyxy
    return torch.from_numpy(scores).to(logits.device), torch.from_numpy(boxes).to(logits.device)
