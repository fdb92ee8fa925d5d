"""timm backbones as pyramids: stride by stride, in any memory layout, never downloaded."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from smallobj.boxes import InputError
from smallobj.detectors.backbone import Pyramid
from smallobj.detectors.norms import with_group_norm

KINDS = [
    ("resnet10t", {"channels": [16, 32, 64, 64]}),
    ("convnext_atto", {}),
    ("edgenext_xx_small", {}),
    ("efficientnet_lite0", {}),
    ("fastvit_t8", {}),
    ("ghostnet_100", {}),
    ("hgnetv2_b0", {}),
    ("lcnet_050", {}),
    ("mambaout_femto", {}),  # gives its maps channels last
    ("mobilenetv3_small_050", {}),
    ("mobilevit_xxs", {}),
    ("pvt_v2_b0", {}),
    ("regnetx_002", {}),
    ("repvgg_a0", {}),
    ("tiny_vit_5m_224", {}),
]


@pytest.mark.parametrize(("backbone", "options"), KINDS)
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
        ("dla34", "gives other maps than timm says: [(32, 16, 24), "),
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


def tiny_resnet() -> Pyramid:
    return Pyramid("resnet10t", {"channels": [16, 32, 64, 64]}, finest=4, coarsest=16)


@pytest.mark.parametrize(("backbone", "options"), [KINDS[0], KINDS[1], KINDS[8], KINDS[11]])
def test_frozen_stages_do_not_learn_and_the_others_do(
    backbone: str, options: dict[str, Any]
) -> None:
    pyramid = Pyramid(backbone, options, finest=4, coarsest=16)
    pyramid.freeze(2)
    before = {name: value.clone() for name, value in pyramid.state_dict().items()}
    images = torch.rand(2, 3, 64, 96)
    kept = [m.detach() for m in pyramid.eval()(images)]
    optimiser = torch.optim.SGD([p for p in pyramid.parameters() if p.requires_grad], lr=1.0)
    torch.stack([m.square().mean() for m in pyramid.train()(images)]).sum().backward()
    optimiser.step()
    after = [m.detach() for m in pyramid.eval()(images)]
    assert torch.equal(after[0], kept[0])
    assert torch.equal(after[1], kept[1])
    assert not torch.allclose(after[2], kept[2])
    assert any(not torch.equal(v, before[n]) for n, v in pyramid.state_dict().items())


def test_norms_of_frozen_stages_keep_their_statistics_in_training() -> None:
    pyramid = tiny_resnet()
    pyramid.freeze(1)
    norms = {name: m for name, m in pyramid.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert pyramid.train().training
    resting = {name for name, norm in norms.items() if not norm.training}
    assert resting
    assert resting == {
        n for n, m in norms.items() if not any(p.requires_grad for p in m.parameters())
    }
    assert len(resting) < len(norms)


def test_there_are_only_so_many_stages_to_freeze() -> None:
    with pytest.raises(InputError, match="field freeze: the backbone has 3 stages, got 4"):
        tiny_resnet().freeze(4)


def test_freezing_nothing_freezes_nothing() -> None:
    pyramid = tiny_resnet()
    pyramid.freeze(0)
    assert all(weight.requires_grad for weight in pyramid.parameters())


@pytest.mark.parametrize(("backbone", "options"), [KINDS[0], KINDS[3], KINDS[13]])
def test_group_norms_take_the_place_of_batch_norms(backbone: str, options: dict[str, Any]) -> None:
    """With one group of statistics an image tells nothing of its batch."""
    pyramid = Pyramid(backbone, options, finest=4, coarsest=16)
    weights = sum(p.numel() for p in pyramid.parameters())
    with_group_norm(pyramid)
    assert not [m for m in pyramid.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(p.numel() for p in pyramid.parameters()) == weights
    images = torch.rand(2, 3, 64, 96)
    together, alone = pyramid.train()(images), pyramid(images[:1])
    for batch, single in zip(together, alone, strict=True):
        torch.testing.assert_close(batch[:1], single, rtol=1e-4, atol=1e-4)


def test_pretrained_weights_are_taken_from_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm is made to look for them in a file, as nothing is downloaded here."""
    torch.manual_seed(1)
    trained = timm.create_model("resnet10t")
    file = tmp_path / "resnet10t.pth"
    torch.save(trained.state_dict(), file)
    create = timm.create_model

    def from_file(*names: str, pretrained: bool, **options: Any) -> Any:
        overlay = {"file": str(file)} if pretrained else None
        return create(*names, pretrained=pretrained, pretrained_cfg_overlay=overlay, **options)

    monkeypatch.setattr(timm, "create_model", from_file)
    pyramid = Pyramid("resnet10t", {}, finest=4, coarsest=32)
    stem = pyramid.body.conv1[0].weight
    assert not torch.equal(stem, trained.conv1[0].weight)
    assert pyramid.load_pretrained() == "resnet10t.c3_in1k"
    assert torch.equal(stem, trained.conv1[0].weight)
    own = tiny_resnet()
    with pytest.raises(InputError, match=r"built with \{'channels': .* cannot be had: "):
        own.load_pretrained()


def test_pretrained_weights_out_of_reach_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution\nand more")

    pyramid = tiny_resnet()
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(InputError, match="cannot be had: Temporary failure") as caught:
        pyramid.load_pretrained()
    assert "\n" not in str(caught.value)
