"""Named settings that stand where the user gives none: `--preset NAME`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smallobj.boxes import InputError


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings as config.toml has them, `arch` among them; no paths, and no length of a run."""

    settings: Mapping[str, Any]
    crops: Mapping[str, Any] = field(default_factory=dict)


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
        crops={"input": "squash", "crop": 320},  # the multiple of its stride nearest to 300
    ),
}


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `given` and, where they name a preset, its own for those that are not.

    Both are plain values as config.toml has them. The preset's size goes with its detector: it
    does not stand for another one that is given. Raises InputError where there is no such preset.
    """
    if given.get("preset") is None:
        return dict(given)
    preset = _preset(given["preset"])
    merged = {**preset.settings, **given}
    if merged["arch"] != preset.settings["arch"] and "size" not in given:
        merged.pop("size", None)  # a size of another detector
    merged["crops"] = {**preset.crops, **given.get("crops", {})}
    return merged


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(f"unknown preset; known: {known}", field="preset", value=name)
    return PRESETS[name]
