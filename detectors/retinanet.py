"""RetinaNet: every anchor tells its class by the focal loss, and how the box differs from it.

Lin, Goyal, Girshick, He, Dollar 2017, "Focal Loss for Dense Object Detection"
(https://arxiv.org/abs/1708.02002). Head, matching, losses and box coding are torchvision's
(torchvision.models.detection.retinanet); the pyramid is timm's and begins at stride 4. The paper's
anchors are 4 strides wide, 32 px on its finest level; here they are 2 strides, 8 px on stride 4, in
steps of half an octave: sides of 8 to 90 px on strides 4 to 32. The paper's thresholds are 0.5 and
0.4; a box of 8 px often reaches 0.5 with a single anchor, and 0.4 with four to twelve at any size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetHead

from smallobj.boxes import InputError
from smallobj.detectors.anchors import Anchors, check_ratios, decoded, matched, octave
from smallobj.detectors.backbone import BACKBONES
from smallobj.detectors.base import Detector, Target
from smallobj.detectors.layers import start_from_nothing
from smallobj.detectors.levels import Levels
from smallobj.detectors.registry import register
from smallobj.detectors.similarity import AnchorsConfig, similarity_of

_MOST_CONVS = 4  # of a branch of torchvision's head


@dataclass(frozen=True, kw_only=True)
class RetinaNetConfig(AnchorsConfig):
    """Settings of RetinaNet."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "width": 32,
            "head_convs": 1,
        },
        "small": {
            **BACKBONES["small"],
            "width": 56,
            "head_convs": 1,
        },
        "medium": {**BACKBONES["medium"], "width": 64, "head_convs": 2},
        "large": {**BACKBONES["large"], "width": 128, "head_convs": 4},
    }

    head_convs: int = 2  # convolutions of each of the head's two branches
    anchor_strides: float = 2.0  # side of a level's smallest anchor, in strides of the level
    anchor_octaves: int = 2  # sides of anchors within a doubling
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height to width
    positive_iou: float = 0.4  # similarity with a box, from which an anchor learns it
    negative_iou: float = 0.3  # with every box, below which an anchor is background
    box_loss: str = "giou"  # giou, or l1 of the codes
    class_weight: float = 1.0  # of the class loss beside the box loss's 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 8:
            raise InputError("must be a multiple of 8", field="width", value=self.width)
        self._between("head_convs", 0, _MOST_CONVS)
        self._between("anchor_strides", 0.5, 16)
        self._between("anchor_octaves", 1, 8)
        check_ratios("anchor_ratios", self.anchor_ratios)
        self._between("positive_iou", 0, 1)
        self._between("negative_iou", 0, self.positive_iou)
        self._one_of("box_loss", ("giou", "l1"))
        self._between("class_weight", 0, 1000)


@register("retinanet")
class RetinaNet(Detector):
    """Every anchor tells class and box: torchvision's RetinaNet on a timm pyramid.

    Raw, over the anchors of all levels, finest first, each row by row and anchor by anchor:
    `cls_logits` [B, P, C]; `bbox_regression` [B, P, 4] shift of the centre in sides of the anchor
    (x, y) and logarithm of the growth of its sides (width, height).
    """

    Config = RetinaNetConfig
    licence = "BSD-3-Clause (torchvision)"
    config: RetinaNetConfig

    def __init__(self, config: RetinaNetConfig) -> None:
        super().__init__(config, stride=config.coarsest)
        self.levels = Levels(config)
        sides = [config.anchor_strides * factor for factor in octave(config.anchor_octaves)]
        self.anchors = Anchors(config.strides, sides, config.anchor_ratios)
        self.head = _head(config, self.anchors.per_place)
        self.matcher = Matcher(
            config.positive_iou, config.negative_iou, allow_low_quality_matches=True
        )
        self.similarity = similarity_of(config)
        self.coder: BoxCoder = self.head.regression_head.box_coder

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector."""
        return self.head(self.levels(x))

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """torchvision's: focal loss and L1 of the codes; each a mean over positive anchors."""
        anchors = self.anchors(image_size)
        losses: dict[str, Tensor] = self.head.compute_loss(
            [{"boxes": t.xyxy, "labels": t.label} for t in targets],
            raw,
            [anchors] * len(targets),
            matched(self.matcher, self.similarity, targets, anchors),
        )
        return losses | {"classification": self.config.class_weight * losses["classification"]}

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores of the classes and boxes of all anchors."""
        xyxy = decoded(self.coder, raw["bbox_regression"], self.anchors(image_size))
        return raw["cls_logits"].sigmoid(), xyxy


def _head(config: RetinaNetConfig, per_place: int) -> RetinaNetHead:
    """torchvision's head with groups of 8 channels, started for random weights."""
    norm = partial(nn.GroupNorm, config.width // 8)
    head = RetinaNetHead(config.width, per_place, config.num_classes, norm_layer=norm)
    head.regression_head._loss_type = config.box_loss
    for branch in (head.classification_head, head.regression_head):
        branch.conv = branch.conv[: config.head_convs]
        start_from_nothing(branch.conv)
    return head
