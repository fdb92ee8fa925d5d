"""RT-DETR: queries chosen among all places are refined by looking at a few points a level.

Lv et al. 2024, "RT-DETRv2: Improved Baseline with Bag-of-Freebies for Real-Time Detection
Transformer" (https://arxiv.org/abs/2407.17140), with the encoder, decoder and losses of the library
transformers; see detr.py for what is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from smallobj.detectors.backbone import BACKBONES
from smallobj.detectors.detr import Detr, DetrConfig, library, projection
from smallobj.detectors.registry import register


@dataclass(frozen=True, kw_only=True)
class RTDetrConfig(DetrConfig):
    """Settings of RT-DETR."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "coarsest": 16,
            "width": 32,
            "heads": 4,
            "feedforward": 64,
            "decoder_layers": 2,
            "queries": 50,
        },
        "small": {
            **BACKBONES["small"],
            "width": 64,
            "feedforward": 128,
        },
        "medium": {**BACKBONES["medium"], "width": 128},
        "large": {
            **BACKBONES["large"],
            "width": 256,
            "feedforward": 1024,
            "decoder_layers": 6,
        },
    }


@register("rtdetr")
class RTDetr(Detr):
    """Chosen places refined layer by layer: RT-DETRv2 of transformers on a timm pyramid."""

    Config = RTDetrConfig
    family = "rt_detr_v2"
    prefix = "RTDetrV2"

    def lane(self) -> nn.Module:
        """See Detr."""
        return projection(self.config.width, self.config.width)

    def box_head(self) -> nn.Module:
        """See Detr."""
        width = self.config.width
        return self.part("MLPPredictionHead")(width, width, 4, num_layers=3)

    def criterion(self) -> Any:
        """See Detr."""
        return library("loss.loss_rt_detr").RTDetrLoss(self.settings)

    def layers(self, decoded: Any, queries: slice) -> list[dict[str, Tensor]]:
        """See Detr."""
        logits = decoded.intermediate_logits[:, :, queries].float().unbind(1)
        boxes = decoded.intermediate_reference_points[:, :, queries].unbind(1)
        return [{"logits": a, "pred_boxes": b} for a, b in zip(logits, boxes, strict=True)]
