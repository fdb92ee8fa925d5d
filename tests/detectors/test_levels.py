"""Levels of any strides through any neck, for every detector that has them."""

from collections.abc import Callable

import pytest
import torch

from smallobj.boxes import InputError
from smallobj.detectors import Detector, Target, detector_class, list_detectors
from smallobj.detectors.fcos import FCOSConfig
from smallobj.detectors.levels import Levels, LevelsConfig

Build = Callable[..., Detector]
WITH_LEVELS = [n for n in list_detectors() if issubclass(detector_class(n).Config, LevelsConfig)]


def levels(**settings: object) -> Levels:
    given = {"num_classes": 2, "mean": (110.0,) * 3, "std": (60.0,) * 3}
    return Levels(FCOSConfig.of_size("tiny", **given, **settings))


@pytest.mark.parametrize("neck", ["fpn", "pafpn"])
@pytest.mark.parametrize(("finest", "coarsest"), [(4, 16), (8, 128), (2, 8)])
def test_levels_have_their_strides_and_one_width(neck: str, finest: int, coarsest: int) -> None:
    pyramid = levels(neck=neck, finest=finest, coarsest=coarsest, backbone="lcnet_050")
    assert pyramid.strides[0] == finest
    with torch.no_grad():
        maps = pyramid.eval()(torch.zeros(1, 3, 128, 256))
    for features, stride in zip(maps, pyramid.strides, strict=True):
        assert features.shape == (1, 32, 128 // stride, 256 // stride)


def test_what_is_near_reaches_the_coarsest_level_by_the_way_up() -> None:
    """Of the maps of the backbone the finest one tells the coarsest level something."""
    pyramid = levels(neck="pafpn").eval()
    maps = [m.detach().requires_grad_() for m in pyramid.body(torch.rand(1, 3, 64, 64))]
    up = pyramid.up(pyramid.neck(list(maps)))[-1].sum()
    assert torch.autograd.grad(up, maps[0])[0].abs().sum() > 0
    without = levels(neck="fpn").eval()
    down = without.neck(list(maps))[-1].sum()
    assert torch.autograd.grad(down, maps[0], allow_unused=True)[0] is None


@pytest.mark.parametrize("name", WITH_LEVELS)
def test_every_detector_learns_through_another_neck_and_norm(name: str, tiny: Build) -> None:
    detector = tiny(name, neck="pafpn", norm="group", coarsest=64)
    assert not [m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    box = torch.tensor([[10.0, 20, 40, 60]])
    losses = detector(
        torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8),
        [Target(box, torch.tensor([1]))],
    )
    torch.stack(list(losses.values())).sum().backward()
    for key, weight in detector.named_parameters():
        assert weight.grad is not None, key
        assert bool(torch.isfinite(weight.grad).all()), key


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"neck": "giraffe"}, "field neck: must be one of fpn, pafpn, got giraffe"),
        ({"finest": 3}, "field finest: must be one of 2, 4, 8, 16, got 3"),
        ({"finest": 16, "coarsest": 8}, "field finest: must lie in 2 to 8, got 16"),
        ({"coarsest": 256}, "field coarsest: must be one of 8, 16, 32, 64, 128, got 256"),
    ],
)
def test_levels_that_cannot_be_are_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        levels(**settings)
