"""Named settings that stand where the user gives none: `--preset NAME`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smallobj.boxes import InputError
from smallobj.detectors import build_detector


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings as config.toml has them, `arch` among them; no paths, and no length of a run."""

    settings: Mapping[str, Any]
    crops: Mapping[str, Any] = field(default_factory=dict)
    sides: tuple[int, ...] = ()  # for `crop`: the first whose pixels the detector's stride divides


PRESETS: dict[str, Preset] = {
    # The reference of a contest on photographs of 2800 x 2100 px, to be beaten: an SSD300
    # (https://arxiv.org/abs/1512.02325) on ResNet-50.
    "baseline-300": Preset(
        settings={
            "arch": "ssd",
            "size": "baseline-300",
            "batch": 8,
            "optimizer": "adam",
            "lr": 1e-3,
            "momentum": 0.937,
        },
        crops={"input": "squash"},
        sides=(300, 320),
    ),
}


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `given` and, where they name a preset, its own for those that are not.

    Both are plain values as config.toml has them. The preset's size goes with its detector: it
    does not stand for another one that is given. Raises InputError where there is no such preset,
    or the detector that it comes to cannot be built.
    """
    if given.get("preset") is None:
        return dict(given)
    preset = _preset(given["preset"])
    merged = {**preset.settings, **given}
    if merged["arch"] != preset.settings["arch"] and "size" not in given:
        merged.pop("size", None)  # a size of another detector
    merged["crops"] = {**preset.crops, **given.get("crops", {})}
    if preset.sides and "crop" not in merged["crops"]:
        merged["crops"]["crop"] = _fitting_side(preset.sides, merged)
    return merged


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(f"unknown preset; known: {known}", field="preset", value=name)
    return PRESETS[name]


def _fitting_side(sides: tuple[int, ...], settings: Mapping[str, Any]) -> int:
    """The first side that is a multiple of the detector's stride; the first where none is."""
    backbone = {name: settings[name] for name in ("backbone",) if name in settings}
    detector = build_detector(
        settings["arch"],
        num_classes=1,
        mean=(127.5,) * 3,
        std=(64.0,) * 3,
        size=settings.get("size"),
        **(backbone | settings.get("detector", {})),
    )
    return next((side for side in sides if side % detector.stride == 0), sides[0])
