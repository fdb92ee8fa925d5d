"""SSD: default boxes of every level tell their class, background among them, and their box.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg 2016, "SSD: Single Shot MultiBox Detector"
(https://arxiv.org/abs/1512.02325). Head, default boxes, matching, mining of hard negatives and box
coding are torchvision's (torchvision.models.detection.ssd). The paper's levels have no neck and
begin at stride 8; here they begin at stride 4 and pass through one, but for `baseline-300`: SSD300
with ResNet-50 (for VGG) as many a contest's reference has it. From random weights every level has
batch norm, without which SSD hardly learns (Zhu et al. 2019, ScratchDet, arXiv:1810.08425).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead

from smallobj.boxes import InputError
from smallobj.detectors.anchors import decoded, matched
from smallobj.detectors.backbone import BACKBONES
from smallobj.detectors.base import Detector, Target
from smallobj.detectors.levels import Levels
from smallobj.detectors.registry import register
from smallobj.detectors.similarity import AnchorsConfig, similarity_of

_COARSEST_MULTIPLE = 64  # pixels; of levels coarser than that, sides are rounded up


@dataclass(frozen=True, kw_only=True)
class SSDConfig(AnchorsConfig):
    """Settings of SSD.

    The size `baseline-300` is SSD300's for images of 320 x 320 px, the nearest multiple of its
    stride 64: maps of 40, 20, 10, 5 and 3 places a side (SSD300: 38, 19, 10, 5, 3 and 1), boxes of
    the same part of the image as SSD300 has on COCO.
    """

    NECKS: ClassVar[tuple[str, ...]] = (*AnchorsConfig.NECKS, "none")
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "width": 32,
        },
        "small": {
            **BACKBONES["small"],
            "width": 64,
        },
        "medium": {**BACKBONES["medium"], "width": 96},
        "large": {**BACKBONES["large"], "width": 192},
        "baseline-300": {
            "backbone": "resnet50",
            "finest": 8,
            "coarsest": 128,
            "width": 256,
            "neck": "none",
            # Of 320 px: 7, 15, 33, 51, 69 and 87 %.
            "box_sides": (22.4, 48.0, 105.6, 163.2, 220.8, 278.4),
            "box_ratios": (2, 3, 3, 3, 2),
        },
    }

    box_sides: tuple[float, ...] = ()  # px of each level's boxes, and one more; (): 2 strides
    box_ratios: tuple[int, ...] = ()  # each level's longest, long side to short; (): 2
    positive_iou: float = 0.5  # similarity with a box, from which a default box learns it
    positive_share: float = 0.25  # of the default boxes that the class loss counts

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = len(self.strides)
        sides, ratios = self.box_sides, self.box_ratios
        if sides and not (len(sides) == levels + 1 and _rising(sides)):
            wish = f"{levels + 1} rising numbers of pixels are wanted, one a level and one more"
            raise InputError(wish, field="box_sides", value=sides)
        if ratios and not (len(ratios) == levels and all(r in (1, 2, 3) for r in ratios)):
            raise InputError(
                f"{levels} numbers of 1 to 3 are wanted", field="box_ratios", value=ratios
            )
        self._between("positive_iou", 0, 1)
        self._between("positive_share", 0.01, 0.99)


@register("ssd")
class SSDDetector(Detector):
    """Default boxes tell class or background, and box: torchvision's SSD on a timm pyramid.

    Raw, over the default boxes of all levels, finest first, each row by row and box by box:
    `cls_logits` [B, P, 1 + C], background first; `bbox_regression` [B, P, 4] tenths of the shift
    of the centre in sides of the default box (x, y) and fifths of the logarithm of the growth of
    its sides (width, height).
    """

    Config = SSDConfig
    licence = "BSD-3-Clause (torchvision)"
    config: SSDConfig

    def __init__(self, config: SSDConfig) -> None:
        super().__init__(config, stride=min(config.coarsest, _COARSEST_MULTIPLE))
        levels = Levels(config)
        default_boxes = _default_boxes(config)
        self.model = SSD(
            levels,
            default_boxes,
            (1, 1),  # of a resizing that is not used
            config.num_classes + 1,
            head=_head(config, levels.channels, default_boxes.num_anchors_per_location()),
            iou_thresh=config.positive_iou,
            positive_fraction=config.positive_share,
        )

        self.similarity = similarity_of(config)

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector."""
        return self.model.head(self.model.backbone(x))

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """torchvision's: cross entropy and smooth L1, each a sum over the number of positives.

        Hard negatives are mined among the whole batch, not image by image: images without objects
        give some too.
        """
        boxes = self._default_boxes(image_size, raw["cls_logits"].device)
        before = torch.tensor([0, *(len(t.label) for t in targets)]).cumsum(0).tolist()
        match = [
            torch.where(one >= 0, one + start, one)
            for one, start in zip(
                matched(self.model.proposal_matcher, self.similarity, targets, boxes),
                before,
                strict=False,
            )
        ]
        # As one long image, which is how torchvision's loss sees the whole batch at once.
        truth = {
            "boxes": torch.cat([t.xyxy for t in targets]),
            "labels": torch.cat([t.label for t in targets]) + 1,
        }
        return self.model.compute_loss(
            [truth],
            {name: value.flatten(0, 1)[None] for name, value in raw.items()},
            [boxes.repeat(len(targets), 1)],
            [torch.cat(match)],
        )

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores of the classes, background left out, and boxes of all default boxes."""
        default = self._default_boxes(image_size, raw["cls_logits"].device)
        xyxy = decoded(self.model.box_coder, raw["bbox_regression"], default)
        return raw["cls_logits"].softmax(dim=2)[:, :, 1:], xyxy

    def _default_boxes(self, image_size: tuple[int, int], device: torch.device) -> Tensor:
        """Default boxes [P, 4] in pixels, unclipped."""
        maps = [
            torch.empty(1, 1, *(-(-side // stride) for side in image_size), device=device)
            for stride in self.config.strides
        ]
        # The generator speaks in parts of an image: of one of 1 x 1 px they are pixels.
        unit = ImageList(torch.empty(1, 3, 1, 1), [(1, 1)])
        return self.model.anchor_generator(unit, maps)[0]


def _head(config: SSDConfig, channels: Sequence[int], per_place: list[int]) -> SSDHead:
    """torchvision's head, which says the share of background everywhere and default boxes at first.

    torchvision's own start scatters the logits, and mining chooses the worst of them.
    """
    head = SSDHead(list(channels), per_place, config.num_classes + 1)
    for layer in (*head.classification_head.module_list, *head.regression_head.module_list):
        nn.init.normal_(layer.weight, std=0.01)
    background = math.log((1 / config.positive_share - 1) * config.num_classes)
    for layer, count in zip(head.classification_head.module_list, per_place, strict=True):
        with torch.no_grad():
            layer.bias.view(count, -1)[:, 0] = background
    return head


def _default_boxes(config: SSDConfig) -> DefaultBoxGenerator:
    strides = config.strides
    sides = config.box_sides or [2.0 * stride for stride in (*strides, 2 * strides[-1])]
    ratios = [list(range(2, longest + 1)) for longest in config.box_ratios or (2,) * len(strides)]
    return DefaultBoxGenerator(ratios, scales=list(sides), steps=list(strides), clip=False)


def _rising(values: Sequence[float]) -> bool:
    pairs = zip((0, *values), values, strict=False)
    return all(isinstance(b, int | float) and a < b for a, b in pairs)
