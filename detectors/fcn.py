"""FCN: semantic segmentation of the boxes' insides; objects are the masks' connected components.

Long, Shelhamer, Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation"
(https://arxiv.org/abs/1411.4038): the coarsest map of a backbone is scored per class, lifted to the
next finer one bilinearly and added to that one's scores, down to stride 32, 16, 8 (FCN-32s,
FCN-16s, FCN-8s) or, here, 4. In place of the paper's 4096 channels wide fully convolutional layers
stand two convolutions of `width`, and a skip may be convolved before it is scored.

Chosen on DeepPCB, by map50 of short trainings: focal loss .29, with plain cross entropy .24, with
that and dice .29 (tiny, 120 steps); every component at the threshold that suits its peak .24, all
components of the same thresholds .17, those of probability 1/2 alone .06 (small, 120 steps).

Objects of a class that touch melt into one. Masks of shrunk boxes, as PSENet learns shrunk text
(Wang et al. 2019, https://arxiv.org/abs/1903.12473), keep them apart: of boxes drawn exactly and
2 px apart 0.2 separates all of 20 px, 0.3 all of 10 px. By default boxes are not shrunk: map50 of
objects that lie apart was the same (.36 and .38 with 0.2) and the masks are no longer the objects'.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from smallobj.boxes import Array
from smallobj.detectors.backbone import BACKBONES, Pyramid
from smallobj.detectors.base import DetectorConfig, Target
from smallobj.detectors.components import find_components
from smallobj.detectors.layers import ConvNormAct, conv_start, place_centres
from smallobj.detectors.registry import register
from smallobj.detectors.segmenter import Segmenter

_PRIOR = 0.01  # of an object at a place, before anything was learnt
_LIFTED = 16  # classes lifted to the image's pixels at a time


@dataclass(frozen=True, kw_only=True)
class FCNConfig(DetectorConfig):
    """Settings of FCN."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "coarsest": 16,
            "width": 32,
        },
        "small": {
            **BACKBONES["small"],
            "width": 128,
        },
        "medium": {**BACKBONES["medium"], "width": 128},
        "large": {"backbone": "vgg16_bn", "width": 256},
    }

    skips: int = 4  # which decoder: 32 (none), 16, 8 or 4; stride of its finest scores, pixels
    coarsest: int = 32  # stride of the backbone's last map; batches must be multiples
    width: int = 64  # channels of the convolutions between the backbone and the scores
    skip_convs: int = 1  # convolutions of a skip before it is scored; the paper has 0
    gamma: float = 2.0  # of the focal loss; 0: plain cross entropy
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
        self._between("gamma", 0, 5)
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
        score = conv_start(width, scores, 0.0)
        with torch.no_grad():
            assert score.bias is not None
            score.bias[-1] = math.log(config.num_classes * (1 - _PRIOR) / _PRIOR)
        self.top = nn.Sequential(ConvNormAct(last, width), ConvNormAct(width, width), score)
        self.skips = nn.ModuleList(self._skip(channels) for channels in skips)

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector.

        Scores are lifted by interpolation: the paper's transposed convolution, started bilinear,
        does the same inside the map but fades at its border.
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
        """Focal cross entropy with the shares that boxes cover, by the places they cover in all.

        What is right weighs little, |share - probability| ** gamma, so the background, nearly all
        of an image, does not drown the rest (Li et al. 2020, https://arxiv.org/abs/2006.04388).
        """
        logits = raw["logits"]
        share = self.shares(targets, logits)
        log = logits.log_softmax(1)
        wrong = (share - log.exp()).abs() ** self.config.gamma
        covered = share[:, :-1].sum().clamp(min=1)
        return {"mask": -(wrong * share * log).sum() / covered}

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores and boxes of the components, at most max_candidates an image; a place is one.

        The score is the mean probability over the component. Where an image has fewer components
        than another its last places score 0.
        """
        config, logits = self.config, raw["logits"]
        images, _, height, width = logits.shape
        probability = logits.softmax(1)[:, :-1].reshape(-1, height, width)
        lit = (probability.amax(dim=(1, 2)) >= self.thresholds[-1]).nonzero().squeeze(1)
        found = find_components(probability[lit].cpu().numpy(), self.thresholds)
        found = found.take(found.places * config.skips**2 >= config.least_area)
        image, label = np.divmod(lit.cpu().numpy()[found.map], config.num_classes)
        place, chosen = _places(image, found.score, most=config.max_candidates)
        shape = (images, int(place.max(initial=-1)) + 1)
        score = np.zeros((*shape, config.num_classes), np.float32)
        score[image[chosen], place, label[chosen]] = found.score[chosen]
        xyxy = np.zeros((*shape, 4), np.float32)
        xyxy[image[chosen], place] = _grown(found.xyxy[chosen], config.shrink) * config.skips
        device = logits.device
        return torch.from_numpy(score).to(device), torch.from_numpy(xyxy).to(device)

    def class_map(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """See Segmenter: the class of the largest share, bilinear between the places' centres."""
        share = raw["logits"].softmax(1)
        classes = torch.zeros(len(share), *image_size, dtype=torch.int64, device=share.device)
        most = torch.full_like(classes, -1, dtype=share.dtype)
        # A few at a time: hundreds of classes at the full resolution fit no memory.
        for first, few in enumerate(share.split(_LIFTED, dim=1)):
            lifted = F.interpolate(few, image_size, mode="bilinear", align_corners=False)
            value, label = lifted.max(dim=1)
            classes = torch.where(value > most, label + first * _LIFTED, classes)
            most = torch.maximum(value, most)
        return classes

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of probability, from a half down by halves."""
        return tuple(0.5**n for n in range(1, self.config.thresholds + 1))

    @torch.no_grad()
    def shares(self, targets: Sequence[Target], places: Tensor) -> Tensor:
        """The share of every place that each class covers, smaller boxes over larger ones.

        places [B, ..., h, w]: a tensor of their number, type and device. Returns [B, C + 1, h, w],
        the background last; sums to 1.
        """
        return torch.stack([self._shares(target, places) for target in targets])

    def _shares(self, target: Target, places: Tensor) -> Tensor:
        size = target.xyxy[:, 2:] - target.xyxy[:, :2]
        order = size.prod(dim=1).argsort(stable=True)
        inset = size[order] * self.config.shrink / 2
        low = (target.xyxy[order, :2] + inset) / self.config.skips
        high = (target.xyxy[order, 2:] - inset) / self.config.skips
        x, y = place_centres(places, 1)
        across = _covered(x, low[:, :1], high[:, :1])
        down = _covered(y.squeeze(1), low[:, 1:], high[:, 1:])
        covered = down[:, :, None] * across[:, None, :]
        # What the boxes before a box leave to it; after the last, to the background.
        left = torch.cat((torch.ones_like(places[0, :1]), 1 - covered)).cumprod(dim=0)
        share = left.new_zeros(self.config.num_classes + 1, *left.shape[1:])
        share.index_add_(0, target.label[order], covered * left[:-1])
        share[-1] = left[-1]
        return share

    def _skip(self, channels: int) -> nn.Sequential:
        """From a map of the backbone to scores."""
        config = self.config
        widths = [channels, *[config.width] * config.skip_convs]
        convs = [ConvNormAct(a, b) for a, b in itertools.pairwise(widths)]
        return nn.Sequential(*convs, conv_start(widths[-1], config.num_classes + 1, 0.0))


def _covered(centre: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The part of a place about each centre [n] within low to high [M, 1]; [M, n] in 0..1."""
    return ((centre + 0.5).minimum(high) - (centre - 0.5).maximum(low)).clamp(0, 1)


def _places(
    image: NDArray[np.int64], score: Array, *, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of components [K] within their image, best first, and the rows they stand in.

    At most `most` an image are left.
    """
    order = np.lexsort((-score, image))
    place = np.arange(len(order)) - np.searchsorted(image[order], image[order])
    return place[place < most], order[place < most]


def _grown(xyxy: Array, shrink: float) -> Array:
    """Boxes [K, 4] as they were before `shrink` of their sides was left out."""
    grow = (xyxy[:, 2:] - xyxy[:, :2]) * (shrink / (1 - shrink) / 2)
    return xyxy + np.concatenate((-grow, grow), axis=1)
