"""Presets stand where the user gives nothing, and are kept resolved."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from smallobj.boxes import InputError
from smallobj.detectors import build_detector, load_detector
from smallobj.training import PRESETS, Preset, TrainConfig, resume, train, with_preset

QUICK = Preset(
    settings={"arch": "centernet", "size": "tiny", "batch": 2, "optimizer": "adam", "lr": 2e-3},
    crops={"input": "squash", "crop": 64, "colour": 0.0},
)


@pytest.fixture(autouse=True)
def quick_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "quick", QUICK)


def test_a_preset_stands_where_nothing_is_given(photos: Path) -> None:
    config = TrainConfig.from_dict(with_preset({"data": str(photos), "preset": "quick"}))
    assert (config.arch, config.size, config.batch, config.lr) == ("centernet", "tiny", 2, 2e-3)
    assert config.preset == "quick"
    assert config.crops.input == "squash"
    assert config.crops.colour == 0
    assert config.crops.crop == 64


def test_what_is_given_goes_before(photos: Path) -> None:
    given = {"data": str(photos), "preset": "quick", "batch": 5, "lr": 0.5}
    config = TrainConfig.from_dict(with_preset({**given, "crops": {"crop": 96, "colour": 0.1}}))
    assert (config.batch, config.lr, config.optimizer) == (5, 0.5, "adam")
    assert (config.crops.crop, config.crops.colour, config.crops.input) == (96, 0.1, "squash")


def test_another_detector_does_not_get_the_size_of_the_presets_own(photos: Path) -> None:
    given = {"data": str(photos), "preset": "quick", "crops": {"crop": 64}}
    assert with_preset({**given, "arch": "fcos"}).get("size") is None
    assert with_preset({**given, "arch": "centernet"})["size"] == "tiny"
    assert with_preset({**given, "arch": "fcos", "size": "large"})["size"] == "large"


def test_without_a_preset_nothing_is_filled_in() -> None:
    assert with_preset({"arch": "fcos"}) == {"arch": "fcos"}


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"field preset: unknown preset; known: baseline-300"):
        with_preset({"preset": "baseline"})


@pytest.mark.parametrize("name", [*PRESETS])
def test_every_preset_is_of_known_settings(name: str, photos: Path) -> None:
    preset = PRESETS[name]
    settings = {"data": str(photos), "preset": name, **preset.settings}
    config = TrainConfig.from_dict({**settings, "crops": dict(preset.crops)})
    assert config.preset == name
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    assert f"`{name}`" in page


def test_the_baseline_is_an_ssd_of_squashed_images(photos: Path) -> None:
    config = TrainConfig.from_dict(with_preset({"data": str(photos), "preset": "baseline-300"}))
    assert (config.arch, config.size, config.batch) == ("ssd", "baseline-300", 8)
    assert (config.optimizer, config.highest_lr, config.momentum) == ("adam", 1e-3, 0.937)
    assert config.decay == 0
    assert config.crops.squash_px == 320
    assert (
        config.crops.crop
        % build_detector(
            "ssd", size="baseline-300", num_classes=1, mean=(9.0,) * 3, std=(9.0,) * 3
        ).stride
        == 0
    )


def test_a_run_of_a_preset_is_kept_resolved_and_resumed(
    photos: Path, tmp_path: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"data": str(photos), "preset": "quick", "threads": 1, "device": "cpu", "steps": 3}
    out = tmp_path / "a"
    train(TrainConfig.from_dict(with_preset(given)), out)
    stored = tomllib.loads((out / "config.toml").read_text())
    assert stored["preset"] == "quick"
    assert (stored["arch"], stored["optimizer"], stored["crops"]["crop"]) == (
        "centernet",
        "adam",
        64,
    )
    _, manifest = load_detector(out)
    assert (manifest.input, manifest.train_crop_px) == ("squash", 64)
    monkeypatch.delitem(PRESETS, "quick")  # a later version may have other presets
    assert resume(out, {"preset": "quick"}).steps == 3
    with pytest.raises(InputError, match="field preset: cannot change"):
        resume(out, {"preset": "baseline-300"})
