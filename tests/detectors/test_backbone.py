"""timm backbones as pyramids: stride by stride, in any memory layout, never downloaded."""

from typing import Any

import pytest
import torch

from smallobj.boxes import InputError
from smallobj.detectors.backbone import Pyramid


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("resnet10t", {"channels": [16, 32, 64, 64]}),
        ("convnext_atto", {}),
        ("efficientnet_lite0", {}),
        ("swinv2_cr_tiny_ns_224", {"img_size": [64, 96]}),  # gives its maps channels last
    ],
)
def test_maps_have_the_promised_shapes(backbone: str, options: dict[str, Any]) -> None:
    pyramid = Pyramid(backbone, options, finest=4, coarsest=16).eval()
    with torch.no_grad():
        maps = pyramid(torch.zeros(1, 3, 64, 96))
    assert pyramid.strides == (4, 8, 16)
    for features, stride, channels in zip(maps, pyramid.strides, pyramid.channels, strict=True):
        assert features.shape == (1, channels, 64 // stride, 96 // stride)


def test_layers_beyond_the_coarsest_map_are_left_out() -> None:
    def parameters(coarsest: int) -> int:
        pyramid = Pyramid("resnet10t", {}, finest=4, coarsest=coarsest)
        return sum(p.numel() for p in pyramid.parameters())

    assert parameters(16) < parameters(32) / 2


def test_a_missing_stride_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no feature map at stride 2; it has 4, 8, 16, 32"):
        Pyramid("convnext_atto", {}, finest=2, coarsest=32)
