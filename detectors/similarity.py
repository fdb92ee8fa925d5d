"""How alike a box and an anchor are: by what they share, or by how far one is from the other.

A box of 8 px that is 2 px off in both directions shares 0.39 with where it was, one of 64 px as far
off 0.88: overlap makes small boxes learn from few anchors, and from none that it does not touch.
Wang, Xu, Yang, Yu 2021, "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection"
(https://arxiv.org/abs/2110.13389), measure the distance W of two boxes taken as Gaussians and call
exp(-W / C) their similarity, with C about the size of the objects: 12.8 px on AI-TOD.

A fixed C suits objects of one size. With C = 12.8 and a threshold of 0.4 an anchor may be 12 px
from its box, whatever the box: of RetinaNet's here, 160 learn a box of 8 px, many of which do not
touch it, 17 one of 32 px, and a single one a box of 64 px. So C is by default a share of the two
boxes' own size, and the similarity does not change when both grow alike. With half of it, squares
that are apart in one direction are as alike as their IoU says, to 0.05 at IoUs from 0.3 up, so that
thresholds keep their meaning; those apart in two, or of two sizes, are more alike than that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import box_iou

from smallobj.detectors.levels import LevelsConfig

Similarity = Callable[[Tensor, Tensor], Tensor]  # of boxes [N, 4] and [M, 4] in pixels: [N, M]


@dataclass(frozen=True, kw_only=True)
class AnchorsConfig(LevelsConfig):
    """Settings of detectors whose anchors learn the boxes that they are most alike."""

    similarity: str = "iou"  # of box and anchor: iou, or nwd, by the distance between them
    nwd_scale: float = 0.5  # of nwd: its C, in sides of the two boxes (root of their mean area)
    nwd_px: float = 0.0  # of nwd: its C in pixels, for boxes of any size; 0: nwd_scale

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("similarity", ("iou", "nwd"))
        self._between("nwd_scale", 0.05, 10)
        self._between("nwd_px", 0, 1000)


def similarity_of(config: AnchorsConfig) -> Similarity:
    """What the settings name: a function of boxes [N, 4] and anchors [M, 4], to 0..1 [N, M]."""
    if config.similarity == "iou":
        return box_iou
    return partial(gaussian_similarity, scale=config.nwd_scale, px=config.nwd_px)


def gaussian_similarity(a_xyxy: Tensor, b_xyxy: Tensor, *, scale: float, px: float = 0.0) -> Tensor:
    """The normalised Gaussian Wasserstein distance of every pair: 1 for equal boxes, above 0.

    a_xyxy [N, 4] and b_xyxy [M, 4] in pixels; returns [N, M]. Equations 8 and 9 of Wang et al.
    2021 with C = px, or, where that is 0, scale x the root of the mean area of the two.
    """
    a, b = _gaussian(a_xyxy), _gaussian(b_xyxy)
    # Not by matrix products: those lose the small differences of large coordinates.
    distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    if px:
        return (-distance / px).exp()
    area_a, area_b = (4 * one[:, 2] * one[:, 3] for one in (a, b))
    side = ((area_a[:, None] + area_b) / 2).sqrt()
    return (-distance / (scale * side).clamp(min=1e-6)).exp()


def _gaussian(xyxy: Tensor) -> Tensor:
    """Mean and deviations [N, 4]: centre (x, y) and half sides (width, height)."""
    low, high = xyxy.split(2, dim=1)
    return torch.cat(((low + high) / 2, (high - low) / 2), dim=1)
