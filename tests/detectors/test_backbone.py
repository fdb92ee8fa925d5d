"""timm backbones as pyramids: stride by stride, in any memory layout, never downloaded."""

import re
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
        ("mambaout_femto", {}),  # gives its maps channels last
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


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("swin_tiny_patch4_window7_224", "does not take images of any size (Input height"),
        ("inception_v3", "does not take images of any size (Calculated padded"),
    ],
)
def test_a_backbone_that_cannot_take_every_crop_is_refused_at_once(
    backbone: str, said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        Pyramid(backbone, {}, finest=4, coarsest=16)


def test_a_backbone_for_one_size_may_be_told_to_take_any() -> None:
    pyramid = Pyramid(
        "swin_tiny_patch4_window7_224", {"strict_img_size": False}, finest=4, coarsest=16
    )
    assert pyramid.channels_are_last
    assert pyramid.training
