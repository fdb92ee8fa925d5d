"""What a detector sees depends on the step and on the settled length, whatever stops the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smallobj.boxes import InputError
from smallobj.datasets import Batch
from smallobj.training import TrainConfig, resume, train
from smallobj.training.dry_step import dry_step_s
from smallobj.training.learner import Learner
from smallobj.training.length import MEASURED_STEPS, Length, measured_length, planned_length
from smallobj.training.phases import Phases

STRIDE = 32
Settings = dict[str, Any]


def phases_of(quick: Settings, crop: int = 64, **settings: Any) -> Phases:
    config = TrainConfig.from_dict({**quick, **settings, "crops": {"crop": crop}})
    return Phases(config, stride=STRIDE)


def seen(phases: Phases, length: Length) -> list[tuple[int, bool]]:
    """The side of the crops and whether they are plain, step by step."""
    steps = [phases.at(step, length) for step in range(length.steps)]
    return [(phase.crops.crop, phase.plain) for phase in steps]


def test_the_last_tenth_is_not_augmented(quick: Settings) -> None:
    length = Length(steps=200, validate_every=10)
    assert seen(phases_of(quick), length) == [(64, False)] * 180 + [(64, True)] * 20
    last = phases_of(quick).at(199, length).crops
    assert (last.mosaic, last.paste, last.scale_jitter, last.colour) == (0, 0, 0, 0)
    assert last.symmetry == "all"
    assert seen(phases_of(quick, plain_end=0.0), length) == [(64, False)] * 200


def test_stages_and_the_plain_end_may_overlap(quick: Settings) -> None:
    phases = phases_of(quick, crop=128, stages="0.25:0.1, 0.5:0.8", plain_end=0.3)
    length = Length(steps=100, validate_every=10)
    wanted = [(32, False)] * 10 + [(64, False)] * 60 + [(64, True)] * 20 + [(128, True)] * 10
    assert seen(phases, length) == wanted
    assert [phase.cost for phase in phases.of(length)] == [1 / 16, 1 / 4, 1 / 4, 1]
    assert phases.at(0, None).crops.scale == 0.25
    assert phases.mean_cost == pytest.approx(0.1 / 16 + 0.8 / 4 + 0.1)
    assert phases.cost_left(0, length) == pytest.approx(100 * phases.mean_cost)
    assert phases.cost_left(85, length) == pytest.approx(5 / 4 + 10)


def test_a_stage_keeps_the_field_of_view_in_multiples_of_the_stride(quick: Settings) -> None:
    crops = phases_of(quick, crop=192, stages="0.4:0.5").at(0, None).crops
    assert crops.crop == 64
    assert crops.crop / crops.scale == pytest.approx(192)


@given(
    st.integers(1, 400),
    st.integers(0, 40),
    st.sampled_from([None, "0.5:0.4", "0.5:0.02,0.25:0.02", "0.5:0.97"]),
    st.sampled_from([0.0, 0.1, 0.9]),
)
def test_no_phase_begins_at_a_step_that_did_not_know_of_it(
    steps: int, settled: int, stages: str | None, plain_end: float
) -> None:
    config = TrainConfig(data=Path("a"), arch="b", stages=stages, plain_end=plain_end)
    phases = Phases(config, stride=STRIDE)
    length = Length(steps=steps, validate_every=1, settled=min(settled, steps - 1))
    first, *later = phases.of(length)
    assert first.first_step == 0
    assert all(length.settled <= phase.first_step < steps for phase in later)
    for step in range(length.settled):
        assert phases.at(step, length).crops == phases.at(step, None).crops


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ("half:0.4", "SCALE:SHARE is wanted"),
        ("0.5", "SCALE:SHARE is wanted"),
        ("0.5:0.4,", "SCALE:SHARE is wanted"),
        ("", "SCALE:SHARE is wanted"),
        ("0.05:0.4", r"a scale must lie in 0\.1 to 1"),
        ("2:0.4", r"a scale must lie in 0\.1 to 1"),
        ("0.5:0", "a share must be above 0"),
        ("0.5:0.4,0.7:0.6", "shares must sum to less than 1"),
    ],
)
def test_wrong_stages_are_named(quick: Settings, stages: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"field stages: {reason}"):
        TrainConfig.from_dict({**quick, "stages": stages})


def test_stages_are_for_crops_that_stay_large_enough(tmp_path: Path, quick: Settings) -> None:
    squash = {**quick, "stages": "0.5:0.4", "crops": {"crop": 64, "input": "squash"}}
    with pytest.raises(InputError, match="field stages: is for crops"):
        TrainConfig.from_dict(squash)
    with pytest.raises(InputError, match=r"field scale: .*--stages"):
        TrainConfig.from_dict({**quick, "crops": {"scale": 0.5}})
    config = TrainConfig.from_dict({**quick, "stages": "0.2:0.4"})
    with pytest.raises(InputError, match=r"field stages: crops of 64 px become 16 px at 0\.2"):
        train(config, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_whole_plan_of_stages_fits_the_time(quick: Settings) -> None:
    """Cheap steps first: more fit than native ones, and all of them into what is left."""
    del quick["steps"], quick["validate_every"]
    config = TrainConfig.from_dict({**quick, "time_limit": 100.0, "stages": "0.5:0.4"})
    phases = Phases(config, stride=STRIDE)
    measured = {"done": 16, "left_s": 90, "validation_s": 2}
    costs = {"first_cost": phases.at(0, None).cost, "mean_cost": phases.mean_cost}
    length = measured_length(config, **measured, step_s=[0.025], **costs)  # type: ignore[arg-type]
    native = measured_length(config, **measured, step_s=[0.1])  # type: ignore[arg-type]
    validations = -(-length.steps // length.validate_every)
    spent = phases.cost_left(16, length) * 0.1 + validations * 2
    assert length.settled == 16
    assert 75 < spent <= 92
    assert length.steps == pytest.approx(native.steps / 0.7, rel=0.02)


def test_a_planned_length_validates_oftener_where_steps_cost_more(quick: Settings) -> None:
    del quick["validate_every"]
    config = TrainConfig.from_dict({**quick, "steps": 3000})
    pixels = 3000 * 4 * 64**2 * 3 // 40
    whole, cheap = (
        planned_length(config, crops=100, val_pixels=pixels, mean_cost=cost) for cost in (1, 0.5)
    )
    assert whole == Length(steps=3000, validate_every=500)
    assert cheap == Length(steps=3000, validate_every=1000)


def test_measured_seconds_change_costs_and_not_phases(quick: Settings) -> None:
    config = TrainConfig.from_dict({**quick, "stages": "0.5:0.4"})
    by_pixels = Phases(config, stride=STRIDE)
    measured = Phases(config, stride=STRIDE, step_s={32: 0.3, 64: 0.4})
    length = Length(steps=100, validate_every=10)
    assert seen(measured, length) == seen(by_pixels, length)
    assert measured.mean_cost == pytest.approx(0.4 * 0.75 + 0.6)
    assert by_pixels.mean_cost == pytest.approx(0.4 * 0.25 + 0.6)


def test_a_dry_step_leaves_the_model_as_it_was() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert dry_step_s(model, lambda: {"loss": model(torch.rand(4, 3)).square().sum()}) > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


LEVERS = {
    "stages": "0.5:0.4",
    "plain_end": 0.25,
    "crops": {"crop": 64, "mosaic": 0.5, "paste": 0.5, "balance": 1.0},
}


def stop_after(steps: set[int]) -> Callable[[int], None]:
    def on_step(step: int) -> None:
        if step in steps:
            steps.remove(step)
            raise KeyboardInterrupt

    return on_step


def test_a_run_stopped_in_each_phase_ends_with_the_same_weights(
    tmp_path: Path,
    quick: Settings,
    listener: Any,
    fingerprint: Callable[[Path], tuple[str, str]],
) -> None:
    """Phases begin at the steps 0, 5 and 9: stopped within each, and where two meet."""
    config = TrainConfig.from_dict({**quick, **LEVERS, "workers": 0})
    train(config, tmp_path / "straight", reporter=listener())
    out, stops = tmp_path / "stopped", {3, 6, 8, 10}
    for attempt in range(len(stops) + 1):
        hear = listener(stop_after(stops))
        try:
            if attempt:
                resume(out, {"workers": attempt % 3}, reporter=hear)
            else:
                train(config, out, reporter=hear)
        except KeyboardInterrupt:
            continue
    assert not stops
    assert fingerprint(out) == fingerprint(tmp_path / "straight")
    told = [(x["step"], x["crop"], x["scale"], x["plain"]) for x in lines(out, "phase")]
    assert told == [(1, 32, 0.5, False), (6, 64, 1, False), (10, 64, 1, True)]


def test_with_a_time_limit_the_phases_follow_the_length_that_was_settled(
    tmp_path: Path,
    quick: Settings,
    listener: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every batch is that of its phase, those among them that were cut ahead of the settling."""
    del quick["steps"]
    sides: list[int] = []
    plain = Learner._losses

    def losses_of(self: Learner, batch: Batch) -> dict[str, torch.Tensor]:
        sides.append(batch.images.shape[-1])
        return plain(self, batch)

    def short(*_: Any, done: int, **__: Any) -> Length:
        return Length(steps=done + 4, validate_every=20, settled=done)

    monkeypatch.setattr(Learner, "_losses", losses_of)
    monkeypatch.setattr("smallobj.training.learner.dry_step_s", lambda *_: 0.1)
    monkeypatch.setattr("smallobj.training.loop.measured_length", short)
    config = TrainConfig.from_dict({**quick, **LEVERS, "time_limit": 5.0, "workers": 3})
    result = train(config, tmp_path / "a", reporter=listener())
    assert result.steps == MEASURED_STEPS + 4
    assert sides == [32] * MEASURED_STEPS + [64] * 4
    assert [x["step"] for x in lines(tmp_path / "a", "phase")] == [1, 17]
