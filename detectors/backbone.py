"""Backbones as pyramids: feature maps from the finest wanted stride to the coarsest."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import timm
import torch
from torch import Tensor, nn

from smallobj.boxes import InputError

# By size, for detectors that have no reason for others; small is ResNet-18 of half the depth and
# width, for two cores.
BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "backbone": "resnet10t",
        "backbone_options": {"channels": (16, 32, 64, 64), "stem_width": 16},
    },
    "small": {
        "backbone": "resnet18",
        "backbone_options": {"channels": (32, 64, 128, 256), "layers": (1, 1, 1, 1)},
    },
    "medium": {"backbone": "resnet18d"},
    "large": {"backbone": "resnet34d"},
}


class FeaturePyramid(nn.Module, ABC):
    """A backbone whose maps each have twice the stride of the one before.

    A subclass sets `strides` (pixels of the input a place) and `channels`, one a map, and gives
    `forward`.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    _at_rest: tuple[nn.Module, ...] = ()  # norms that no longer follow the batches

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps [B, channels[i], H / strides[i], W / strides[i]] of a batch [B, 3, H, W]."""

    def freeze(self, stages: int) -> None:
        """Let the first `stages` maps, and all that they are made of, keep their weights.

        Batch norms among it keep their statistics too. Raises InputError where there are fewer.
        """
        if not 0 <= stages <= len(self.strides):
            raise InputError(
                f"the backbone has {len(self.strides)} stages", field="freeze", value=stages
            )
        if not stages:
            return
        # What a map is made of is what its gradient reaches, whatever the backbone calls it.
        mode = self.training
        maps = self.eval()(torch.zeros(1, 3, *self._smallest(), device=self._device()))
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        grown = torch.autograd.grad(
            sum(m.float().sum() for m in maps[:stages]), weights, allow_unused=True
        )
        for weight, gradient in zip(weights, grown, strict=True):
            weight.requires_grad_(gradient is None)
        self._at_rest = tuple(
            module
            for module in self.modules()
            if hasattr(module, "running_mean")
            and not any(weight.requires_grad for weight in module.parameters(recurse=False))
        )
        self.train(mode)

    def train(self, mode: bool = True) -> Self:
        """See nn.Module; what is frozen stays as it was."""
        super().train(mode)
        for module in self._at_rest:
            module.training = False
        return self

    def _smallest(self) -> tuple[int, int]:
        """Height and width of an image that every map sees more than one place of."""
        return 2 * self.strides[-1], 3 * self.strides[-1]

    def _device(self) -> torch.device:
        return next(self.parameters()).device


class Pyramid(FeaturePyramid):
    """Feature maps of a timm backbone.

    Weights are random: nothing is downloaded. Raises InputError where timm does not know the name
    or an option, or where a stride is missing (plain vision transformers have a single one).
    """

    def __init__(
        self, backbone: str, options: Mapping[str, Any], *, finest: int, coarsest: int
    ) -> None:
        super().__init__()
        self.strides = doubled(finest, coarsest)
        found = _create(backbone, options).feature_info.reduction()
        missing = [s for s in self.strides if s not in found]
        if missing:
            raise InputError(
                f"backbone {backbone} has no feature map at stride {missing[0]}; "
                f"it has {', '.join(str(s) for s in found)}",
                field="backbone",
                value=backbone,
            )
        # The last map of a stride has seen most; layers after the coarsest one are left out.
        last = {stride: index for index, stride in enumerate(found)}
        self._made_by = (backbone, dict(options), tuple(last[s] for s in self.strides))
        self.body = self._made()
        self.channels = tuple(self.body.feature_info.channels())
        self.channels_are_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        self._try_out(backbone)

    def forward(self, x: Tensor) -> list[Tensor]:
        """See FeaturePyramid."""
        maps = self.body(x)
        return [m.permute(0, 3, 1, 2) for m in maps] if self.channels_are_last else list(maps)

    def load_pretrained(self) -> str:
        """Take the weights that timm offers for the backbone, downloading them; returns their name.

        Raises InputError where there are none for it as it is built, or none can be had.
        """
        backbone, options, _ = self._made_by
        built = (
            f" built with {options} (--set backbone_options={{}} leaves that)" if options else ""
        )
        try:
            self.body.load_state_dict(self._made(pretrained=True).state_dict())
        except Exception as error:  # of a dozen kinds: no network, no such weights, other shapes
            raise InputError(
                f"pretrained weights of this backbone{built} cannot be had: {_line(error)}",
                field="pretrained",
                value=backbone,
            ) from error
        known = timm.get_pretrained_cfg(backbone)
        return f"{backbone.split('.')[0]}.{known.tag}" if known and known.tag else backbone

    def _made(self, **selection: Any) -> Any:
        backbone, options, indices = self._made_by
        return _create(backbone, options, out_indices=indices, **selection)

    @torch.no_grad()
    def _try_out(self, backbone: str) -> None:
        """Some backbones take one image size only, or misstate their maps: say so at once."""
        self.eval()
        height, width = self._smallest()
        try:
            maps = self(torch.zeros(1, 3, height, width))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"backbone {backbone} does not take images of any size ({_line(error)}); "
                "some do with the option strict_img_size = false",
                field="backbone",
                value=backbone,
            ) from error
        shapes = [tuple(m.shape[1:]) for m in maps]
        stated = list(zip(self.channels, self.strides, strict=True))
        if shapes != [(c, height // s, width // s) for c, s in stated]:
            raise InputError(
                f"backbone {backbone} gives other maps than timm says: {shapes} of "
                f"{height} x {width} px",
                field="backbone",
                value=backbone,
            )
        self.train()


def doubled(finest: int, coarsest: int) -> tuple[int, ...]:
    """Strides from the finest to the coarsest."""
    strides = [finest]
    while strides[-1] < coarsest:
        strides.append(strides[-1] * 2)
    return tuple(strides)


def _create(
    backbone: str, options: Mapping[str, Any], *, pretrained: bool = False, **selection: Any
) -> Any:
    if not timm.is_model(backbone):
        close = timm.list_models(f"{backbone[:6]}*")[:8]
        hint = f"; close: {', '.join(close)}" if close else ""
        raise InputError(f"timm knows no such model{hint}", field="backbone", value=backbone)
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
    }
    try:
        return timm.create_model(
            backbone, pretrained=pretrained, features_only=True, in_chans=3, **settings, **selection
        )
    except (TypeError, RuntimeError, AttributeError, AssertionError, ValueError) as error:
        raise InputError(
            f"backbone {backbone} cannot be built as a pyramid with options {dict(options)}: "
            f"{_line(error)}",
            field="backbone",
            value=backbone,
        ) from error


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
