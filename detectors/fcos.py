"""FCOS: every place inside an object tells its class and its distances to the four sides.

Tian, Shen, Chen, He 2019, "FCOS: Fully Convolutional One-Stage Object Detection"
(https://arxiv.org/abs/1904.01355). Head, matching, loss and box coding are torchvision's
(torchvision.models.detection.fcos); the pyramid is timm's and begins at stride 4. torchvision
matches by distance d to the farthest side: the finest level takes d < 8 anchors, the next ones
4 to 8 of theirs, the coarsest the rest. With anchors of one stride, stride 4 holds objects up to
about 56 px, stride 8 up to about 112 px.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import (
    FCOSClassificationHead,
    FCOSHead,
    FCOSRegressionHead,
)

from smallobj.boxes import InputError
from smallobj.detectors.backbone import BACKBONES
from smallobj.detectors.base import Detector, Target
from smallobj.detectors.layers import start_from_nothing
from smallobj.detectors.levels import Levels, LevelsConfig
from smallobj.detectors.registry import register


@dataclass(frozen=True, kw_only=True)
class FCOSConfig(LevelsConfig):
    """Settings of FCOS."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "coarsest": 16,
            "width": 32,
            "head_convs": 1,
        },
        "small": {
            **BACKBONES["small"],
            "coarsest": 16,
            "width": 64,
            "head_convs": 1,
        },
        "medium": {**BACKBONES["medium"], "width": 64, "head_convs": 2},
        "large": {**BACKBONES["large"], "width": 128, "head_convs": 4},
    }

    head_convs: int = 2  # convolutions of each of the head's two branches
    anchor_strides: float = 1.0  # side of a level's anchor, in strides of the level
    class_weight: float = 3.0  # of the class loss beside the others' 1
    center_radius: float = 1.5  # anchors from a box's centre within which places are positive

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 8:
            raise InputError("must be a multiple of 8", field="width", value=self.width)
        self._between("head_convs", 0, 16)
        self._between("anchor_strides", 0.5, 8)
        self._between("center_radius", 0.5, 100)
        self._between("class_weight", 0, 1000)


@register("fcos")
class FCOSDetector(Detector):
    """Every place inside an object tells class and box: torchvision's FCOS on a timm pyramid.

    Raw, over the places of all levels, finest first, each row by row: `cls_logits` [B, P, C];
    `bbox_regression` [B, P, 4] distances to left, top, right, bottom in anchors; `bbox_ctrness`
    [B, P, 1] logits of the centredness.
    """

    Config = FCOSConfig
    licence = "BSD-3-Clause (torchvision)"
    config: FCOSConfig

    def __init__(self, config: FCOSConfig) -> None:
        super().__init__(config, stride=config.coarsest)
        pyramid = Levels(config)
        self.strides = pyramid.strides
        anchors = tuple((round(s * config.anchor_strides),) for s in self.strides)
        self.model = FCOS(
            pyramid,
            config.num_classes,
            anchor_generator=AnchorGenerator(anchors, ((1.0,),) * len(anchors)),
            head=_head(config),
            center_sampling_radius=config.center_radius,
        )

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector."""
        return self.model.head(self.model.backbone(x))

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """torchvision's: focal loss, GIoU loss, centredness; each a mean over positive places."""
        levels = self._anchors(image_size, raw["cls_logits"].device)
        losses: dict[str, Tensor] = self.model.compute_loss(
            [{"boxes": t.xyxy, "labels": t.label} for t in targets],
            raw,
            [torch.cat(levels)] * len(targets),
            [len(level) for level in levels],
        )
        return losses | {"classification": self.config.class_weight * losses["classification"]}

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores, the geometric mean of class and centredness; boxes of all places."""
        anchors = torch.cat(self._anchors(image_size, raw["cls_logits"].device))
        score = (raw["cls_logits"].sigmoid() * raw["bbox_ctrness"].sigmoid()).sqrt()
        xyxy = self.model.box_coder.decode(
            raw["bbox_regression"], anchors.expand(len(score), -1, -1)
        )
        return score, xyxy

    def _anchors(self, image_size: tuple[int, int], device: torch.device) -> list[Tensor]:
        """Anchors [P, 4] of each level."""
        generator = self.model.anchor_generator
        generator.set_cell_anchors(torch.float32, device)
        height, width = image_size
        return generator.grid_anchors(
            [[height // s, width // s] for s in self.strides],
            [[torch.tensor(s, device=device)] * 2 for s in self.strides],
        )


def _head(config: FCOSConfig) -> FCOSHead:
    """torchvision's head with groups of 8 channels, as it has at its own 256.

    It starts differently: torchvision's own start (deviation 0.01) is made for a trained backbone,
    and from random weights finds a fifth less after 400 steps (map50 on DeepPCB).
    """
    norm = partial(nn.GroupNorm, config.width // 8)
    head = FCOSHead(config.width, 1, config.num_classes, config.head_convs)
    head.classification_head = FCOSClassificationHead(
        config.width, 1, config.num_classes, config.head_convs, norm_layer=norm
    )
    head.regression_head = FCOSRegressionHead(config.width, 1, config.head_convs, norm_layer=norm)
    start_from_nothing(head.classification_head.conv)
    start_from_nothing(head.regression_head.conv)
    # Above 0, where the ReLU behind it lets gradients through at every place from the first step.
    nn.init.constant_(head.regression_head.bbox_reg.bias, 2.0)
    return head
