"""D-FINE: RT-DETR whose layers sharpen a distribution over the place of each side of a box.

Peng et al. 2024, "D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution
Refinement" (https://arxiv.org/abs/2410.13842), with the encoder, decoder and losses of the library
transformers; see detr.py for what is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from smallobj.detectors.backbone import BACKBONES
from smallobj.detectors.detr import Detr, DetrConfig, library
from smallobj.detectors.registry import register


@dataclass(frozen=True, kw_only=True)
class DFineConfig(DetrConfig):
    """Settings of D-FINE."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "coarsest": 16,
            "width": 32,
            "heads": 4,
            "feedforward": 64,
            "decoder_layers": 2,
            "encoder_blocks": 1,
            "queries": 50,
        },
        "small": {
            **BACKBONES["small"],
            "width": 64,
            "feedforward": 128,
            "encoder_blocks": 1,
        },
        "medium": {**BACKBONES["medium"], "width": 128},
        "large": {
            **BACKBONES["large"],
            "width": 256,
            "feedforward": 1024,
            "decoder_layers": 6,
            "encoder_blocks": 3,
        },
    }

    encoder_blocks: int = 2  # convolutions in each half of the encoder's blocks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("encoder_blocks", 1, 16)


@register("dfine")
class DFine(Detr):
    """Chosen places whose sides are sharpened: D-FINE of transformers on a timm pyramid."""

    Config = DFineConfig
    family = "d_fine"
    prefix = "DFine"
    config: DFineConfig

    def __init__(self, config: DFineConfig) -> None:
        super().__init__(config)
        # Constants of the method; as parameters they would wait for a gradient.
        for name in ("up", "reg_scale"):
            value = getattr(self.decoder, name).detach()
            delattr(self.decoder, name)
            self.decoder.register_buffer(name, value, persistent=False)

    def lane(self) -> nn.Module:
        """See Detr."""
        return nn.Identity()

    def box_head(self) -> nn.Module:
        """Logits of the bins of each of four sides."""
        width, bins = self.config.width, self.settings.max_num_bins + 1
        return self.part("MLP")(width, width, 4 * bins, 3)

    def criterion(self) -> Any:
        """See Detr."""
        return library("loss.loss_d_fine").DFineLoss(self.settings)

    def extra_settings(self) -> dict[str, Any]:
        """See Detr."""
        return {"depth_mult": self.config.encoder_blocks / 3}

    def layers(self, decoded: Any, queries: slice) -> list[dict[str, Tensor]]:
        """The box before the first distribution, then each layer, which learns from the last.

        Classes and boxes begin with that first box, sides do not; the library's own lists are a
        layer apart there, those of the paper's authors are not.
        """
        logits = decoded.intermediate_logits[:, :, queries].float().unbind(1)
        boxes = decoded.intermediate_reference_points[:, :, queries].clamp(0, 1).unbind(1)
        sides = decoded.intermediate_predicted_corners[:, :, queries].float().unbind(1)
        starts = decoded.initial_reference_points[:, :, queries].unbind(1)
        said = [{"logits": a, "pred_boxes": b} for a, b in zip(logits, boxes, strict=True)]
        first = len(said) - len(sides)
        for layer, side, start in zip(said[first:], sides, starts, strict=True):
            layer |= {
                "pred_corners": side,
                "ref_points": start,
                "teacher_corners": sides[-1].detach(),
                "teacher_logits": logits[-1].detach(),
            }
        return said
