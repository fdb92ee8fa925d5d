"""Configs: what a user may set, and the one line they read where a value cannot be."""

import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from smallobj.boxes import InputError
from smallobj.detectors import build_detector, detector_class, list_detectors, register
from smallobj.detectors.centernet import CenterNet, CenterNetConfig
from smallobj.detectors.fcos import FCOSConfig

GIVEN: dict[str, Any] = {"num_classes": 2, "mean": (100.0,) * 3, "std": (50.0,) * 3}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown detector; known: .*centernet.*, got hough"):
        build_detector("hough", **GIVEN)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'centernet' is registered twice"):
        register("centernet")(CenterNet)
    assert list_detectors() == sorted(list_detectors())
    assert detector_class("centernet") is CenterNet


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": "huge"}, "unknown size; known: tiny, small, medium, large, got huge"),
        ({"colour": 1}, "unknown detector setting; known: num_classes, mean"),
        ({"width": "wide"}, "field width: must be of type int, got wide"),
        ({"width": 48.0}, "field width: must be of type int, got 48.0"),
        ({"width": True}, "field width: must be of type int, got True"),
        ({"width": 10**9}, "field width: must lie in 1 to 4096"),
        ({"finest": 3}, "field finest: must be one of 2, 4, got 3"),
        ({"num_classes": 0}, "field num_classes: must lie in 1 to 100000, got 0"),
        ({"min_score": 2}, "field min_score: must lie in 0 to 1, got 2.0"),
        ({"mean": (100.0, 100.0)}, "field mean: three numbers of 0 to 255 are wanted"),
        ({"std": (0.2, 0.2, 0.2)}, "field std: three numbers of 1 to 255 are wanted"),
        ({"std": (50.0, float("nan"), 1.0)}, "field std: three numbers"),
        ({"mean": "grey"}, "field mean: must be a list, got grey"),
        ({"mean": ("a", "b", "c")}, "field mean: three numbers"),
        ({"backbone": "resnet17"}, "field backbone: timm knows no such model; close: resnet"),
        ({"backbone": "vit_tiny_patch16_224"}, "has no feature map at stride 4"),
        ({"backbone_options": {"legs": 4}}, "cannot be built as a pyramid"),
        ({"backbone_options": 4}, "field backbone_options: must be a table, got 4"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        build_detector("centernet", **(GIVEN | {"size": "tiny"} | settings))
    assert "\n" not in str(caught.value)


def test_fcos_wants_a_width_of_whole_groups() -> None:
    with pytest.raises(InputError, match="field width: must be a multiple of 8, got 30"):
        FCOSConfig.of_size("tiny", width=30, **GIVEN)


def test_configs_are_frozen_and_survive_plain_values() -> None:
    config = CenterNetConfig.of_size("small", **GIVEN)
    assert CenterNetConfig.from_dict(config.as_dict()) == config
    with pytest.raises(FrozenInstanceError):
        config.width = 3  # type: ignore[misc]


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(InputError, match="field std: missing detector setting"):
        CenterNetConfig.from_dict({"num_classes": 2, "mean": [1, 2, 3]})


def test_another_backbone_does_not_take_the_options_of_the_sizes_own() -> None:
    config = CenterNetConfig.of_size("small", backbone="convnext_atto", **GIVEN)
    assert config.backbone_options == {}
    assert CenterNetConfig.of_size("small", **GIVEN).backbone_options
