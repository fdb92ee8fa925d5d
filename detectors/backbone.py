"""timm backbones as pyramids: feature maps from the finest wanted stride to the coarsest."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from smallobj.boxes import InputError


class Pyramid(nn.Module):
    """Feature maps of a timm backbone, each at twice the stride of the one before.

    Weights are random: nothing is downloaded. Raises InputError where timm does not know the name
    or an option, or where a stride is missing (plain vision transformers have a single one).
    """

    def __init__(
        self, backbone: str, options: Mapping[str, Any], *, finest: int, coarsest: int
    ) -> None:
        super().__init__()
        strides = [finest]
        while strides[-1] < coarsest:
            strides.append(strides[-1] * 2)
        self.strides = tuple(strides)
        found = _create(backbone, options).feature_info.reduction()
        missing = [s for s in strides if s not in found]
        if missing:
            raise InputError(
                f"backbone {backbone} has no feature map at stride {missing[0]}; "
                f"it has {', '.join(str(s) for s in found)}",
                field="backbone",
                value=backbone,
            )
        # The last map of a stride has seen most; layers after the coarsest one are left out.
        last = {stride: index for index, stride in enumerate(found)}
        self.body = _create(backbone, options, out_indices=tuple(last[s] for s in strides))
        self.channels = tuple(self.body.feature_info.channels())
        self.channels_are_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        self._try_out(backbone)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps [B, channels[i], H / strides[i], W / strides[i]] of a batch [B, 3, H, W]."""
        maps = self.body(x)
        return [m.permute(0, 3, 1, 2) for m in maps] if self.channels_are_last else list(maps)

    @torch.no_grad()
    def _try_out(self, backbone: str) -> None:
        """Some backbones take one image size only: say so before training."""
        height, width = 2 * self.strides[-1], 3 * self.strides[-1]
        self.eval()
        try:
            self(torch.zeros(1, 3, height, width))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"backbone {backbone} does not take images of any size ({_line(error)}); "
                "some do with the option strict_img_size = false",
                field="backbone",
                value=backbone,
            ) from error
        self.train()


def _create(backbone: str, options: Mapping[str, Any], **selection: Any) -> Any:
    if not timm.is_model(backbone):
        close = timm.list_models(f"{backbone[:6]}*")[:8]
        hint = f"; close: {', '.join(close)}" if close else ""
        raise InputError(f"timm knows no such model{hint}", field="backbone", value=backbone)
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
    }
    try:
        return timm.create_model(
            backbone, pretrained=False, features_only=True, in_chans=3, **settings, **selection
        )
    except (TypeError, RuntimeError, AttributeError, AssertionError, ValueError) as error:
        raise InputError(
            f"backbone {backbone} cannot be built as a pyramid with options {settings}: "
            f"{_line(error)}",
            field="backbone",
            value=backbone,
        ) from error


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
