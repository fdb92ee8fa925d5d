"""Settings name what is wrong with them, and come back from TOML as they went."""

from pathlib import Path
from typing import Any

import pytest

from smallobj.boxes import InputError, read_toml
from smallobj.training import TrainConfig, parse_duration
from smallobj.training.config import DEFAULT_STEPS, write_config
from smallobj.training.length import Length, measured_length, planned_length


def test_settings_come_back_from_toml(tmp_path: Path, config: TrainConfig) -> None:
    write_config(tmp_path / "config.toml", config)
    assert TrainConfig.from_dict(read_toml(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch", 0),
        ("lr", -1.0),
        ("metric", "f1"),
        ("optimizer", "adagrad"),
        ("momentum", 1.0),
        ("precision", "fp8"),
        ("steps", "many"),
        ("epochs", 3.0),
        ("seed", -1),
        ("fold", 2),
        ("batch", 2.5),
        ("deeper", 1),
        ("ema", 1.0),
    ],
)
def test_a_wrong_setting_is_named(quick: dict[str, Any], field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"field {field}: "):
        TrainConfig.from_dict({**quick, field: value})


def test_a_wrong_crop_setting_is_named(quick: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="field crop: "):
        TrainConfig.from_dict({**quick, "crops": {"crop": 5}})
    with pytest.raises(InputError, match="field cropp: unknown setting"):
        TrainConfig.from_dict({**quick, "crops": {"cropp": 64}})
    with pytest.raises(InputError, match="field input: must be one of crops, squash"):
        TrainConfig.from_dict({**quick, "crops": {"input": "tiles"}})


@pytest.mark.parametrize("name", ["data", "arch"])
def test_what_must_be_given_is_named(quick: dict[str, Any], name: str) -> None:
    del quick[name]
    with pytest.raises(InputError, match=f"field {name}: setting is missing"):
        TrainConfig.from_dict(quick)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 min", 120)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3s", "3x", "1e3"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(InputError, match="time_limit"):
        parse_duration(text)


def test_the_length_is_steps_or_epochs_or_a_default(quick: dict[str, Any]) -> None:
    def steps(**settings: Any) -> int | None:
        config = TrainConfig.from_dict({**quick, "validate_every": 5, **settings})
        length = planned_length(config, crops=100, val_pixels=10**6)
        return None if length is None else length.steps

    del quick["steps"]
    assert steps() == DEFAULT_STEPS
    assert steps(steps=7) == 7
    assert steps(epochs=1.5) == 38  # 150 crops, 4 a step
    assert steps(time_limit=60.0) is None


def test_validation_takes_about_a_seventh(quick: dict[str, Any]) -> None:
    del quick["validate_every"]
    config = TrainConfig.from_dict({**quick, "steps": 3000})
    trained = 3000 * 4 * 64**2 * 3
    length = planned_length(config, crops=100, val_pixels=trained // 40)
    assert length == Length(steps=3000, validate_every=500)
    huge = planned_length(config, crops=100, val_pixels=trained)
    assert huge == Length(steps=3000, validate_every=3000)


def test_a_measured_length_fits_the_time(quick: dict[str, Any]) -> None:
    del quick["steps"], quick["validate_every"]
    config = TrainConfig.from_dict({**quick, "time_limit": 100.0})
    length = measured_length(config, done=16, left_s=90, step_s=[0.1, 0.1, 9], validation_s=2)
    validations = -(-length.steps // length.validate_every)
    spent = (length.steps - 16) * 0.1 + validations * 2
    assert validations >= 4
    assert 75 < spent <= 92
    late = measured_length(config, done=16, left_s=-5, step_s=[0.1], validation_s=2)
    assert late.steps == 17


def test_validation_comes_at_intervals_and_at_the_end() -> None:
    length = Length(steps=10, validate_every=4)
    assert [s for s in range(11) if length.validates_after(s)] == [4, 8, 10]
