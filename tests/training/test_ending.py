"""How a run ends: with nothing held out, for want of patience, of memory; what it keeps."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from smallobj.boxes import InputError
from smallobj.datasets import CropLoader
from smallobj.detectors.centernet import CenterNet
from smallobj.training import Interrupted, TrainConfig, resume, train, validation
from smallobj.weights import read_manifest
from smallobj.weights.checkpoint import load_weights


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


def everything(quick: dict[str, Any], **settings: Any) -> TrainConfig:
    return TrainConfig.from_dict({**quick, "steps": 6, "hold_out": False, **settings})


def test_with_nothing_held_out_the_last_averaged_weights_are_kept_without_scores(
    tmp_path: Path, quick: dict[str, Any], listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation.Validation, "__init__", lambda *_, **__: 1 / 0)
    hear = listener()
    result = train(everything(quick), tmp_path / "a", reporter=hear)
    assert result.run is None
    assert not (tmp_path / "a.json").exists()
    assert not (tmp_path / "a.run.toml").exists()
    assert result.best_step == 6
    assert read_manifest(tmp_path / "a").scores == {}
    assert lines(tmp_path / "a", "validation") == []
    state = torch.load(tmp_path / "a" / "resume" / "state.pt", weights_only=True)
    weights, _ = load_weights(tmp_path / "a")
    for name, tensor in state["tensors"]["averaged"].items():
        assert torch.equal(tensor, weights[name])
    assert any("14 images, 28 boxes, none held out" in note for note in hear.notes)


def test_a_run_with_nothing_held_out_goes_on_as_if_never_stopped(
    tmp_path: Path, quick: dict[str, Any], listener: Any
) -> None:
    def at(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(everything(quick), tmp_path / "a", reporter=listener(at))
    assert resume(tmp_path / "a", reporter=listener()).run is None
    train(everything(quick), tmp_path / "b", reporter=listener())
    ours, theirs = ((tmp_path / n / "weights.safetensors").read_bytes() for n in ("a", "b"))
    assert ours == theirs


def test_a_time_limit_is_planned_without_validations(
    tmp_path: Path, quick: dict[str, Any], listener: Any
) -> None:
    settings = {n: v for n, v in quick.items() if n not in ("steps", "validate_every")}
    config = TrainConfig.from_dict({**settings, "hold_out": False, "time_limit": 2.0})
    hear = listener()
    result = train(config, tmp_path / "a", reporter=hear)
    assert result.steps == lines(tmp_path / "a", "length")[0]["steps"] >= 17
    assert result.best_step == result.steps
    assert any("keeps every" in note for note in hear.notes)


def test_a_run_that_diverged_with_nothing_held_out_keeps_the_last_good_weights(
    tmp_path: Path, quick: dict[str, Any], listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, count = CenterNet.network, 0

    def network(self: CenterNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal count
        count += 1
        return plain(self, x * float("nan") if count > 3 else x)

    monkeypatch.setattr(CenterNet, "network", network)
    result = train(everything(quick, steps=9), tmp_path / "a", reporter=listener())
    assert result.stopped is not None
    assert result.steps == 6
    weights, _ = load_weights(tmp_path / "a")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    assert resume(tmp_path / "a", reporter=listener()).steps == 6


def scored(monkeypatch: pytest.MonkeyPatch, *scores: float) -> None:
    """The metric of one validation after the other."""
    left = list(scores)
    monkeypatch.setattr(validation.Validation, "scores", lambda self, found: {"map50": left.pop(0)})


def test_a_run_ends_when_patience_is_at_its_end_and_stays_so(
    tmp_path: Path, quick: dict[str, Any], listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.1, 0.05, 0.2, 0.2, 0.1, 0.9)
    config = TrainConfig.from_dict({**quick, "validate_every": 1, "patience": 2})
    result = train(config, tmp_path / "a", reporter=listener())
    assert (result.steps, result.best_step) == (5, 3)
    assert result.early == "2 validations in a row without a better map50"
    assert result.stopped is None
    assert lines(tmp_path / "a", "end")[0]["stopped"] == result.early
    hear = listener()
    again = resume(tmp_path / "a", reporter=hear)
    assert (again.steps, again.early) == (5, result.early)
    assert any("finished already, after step 5" in note for note in hear.notes)


def test_patience_is_counted_across_a_stop(
    tmp_path: Path, quick: dict[str, Any], listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    scored(monkeypatch, 0.2, 0.1, 0.1, 0.1, 0.1)
    config = TrainConfig.from_dict({**quick, "validate_every": 1, "patience": 3})
    with pytest.raises(Interrupted):
        train(config, tmp_path / "a", reporter=listener(at))
    assert resume(tmp_path / "a", reporter=listener()).steps == 4


def test_the_last_weights_are_kept_as_models_of_their_own(
    tmp_path: Path, quick: dict[str, Any], listener: Any
) -> None:
    config = TrainConfig.from_dict({**quick, "steps": 10, "validate_every": 2, "keep_last": 3})
    result = train(config, tmp_path / "a", reporter=listener())
    place = tmp_path / "a" / "checkpoints"
    assert sorted(int(p.name) for p in place.iterdir()) == [6, 8, 10]
    scores = {line["step"]: line["map50"] for line in lines(tmp_path / "a", "validation")}
    for folder in place.iterdir():
        _, manifest = load_weights(folder)
        assert manifest.id == f"a-{folder.name}"
        assert manifest.scores["map50"] == scores[int(folder.name)]
    state = torch.load(tmp_path / "a" / "resume" / "state.pt", weights_only=True)
    last, _ = load_weights(place / "10")
    for name, tensor in state["tensors"]["averaged"].items():
        assert torch.equal(tensor, last[name])
    assert result.manifest.id == "a"
    train(TrainConfig.from_dict({**quick, "steps": 2}), tmp_path / "a", overwrite=True)
    assert not place.exists()


@pytest.mark.parametrize("trained", [0, 4])
def test_a_step_that_memory_does_not_suffice_for_names_what_takes_less(
    tmp_path: Path,
    quick: dict[str, Any],
    listener: Any,
    monkeypatch: pytest.MonkeyPatch,
    trained: int,
) -> None:
    plain, count = CenterNet.losses, 0

    def losses(self: CenterNet, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > trained:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return plain(self, *arguments)

    out = tmp_path / "runs" / "a"
    with monkeypatch.context() as patched:
        patched.setattr(CenterNet, "losses", losses)
        with pytest.raises(InputError, match=rf"step {trained + 1}: .*--batch .*--crop ") as told:
            train(TrainConfig.from_dict({**quick, "steps": 6}), out, reporter=listener())
    assert "\n" not in str(told.value)
    if not trained:
        assert not out.exists()
    else:
        load_weights(out)
        assert resume(out, reporter=listener()).steps == 6


def test_an_error_that_is_not_of_memory_is_not_called_so(
    tmp_path: Path, config: TrainConfig, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(CenterNet, "losses", wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(config, tmp_path / "a", reporter=listener())


def test_the_crop_loader_ends_its_threads_where_memory_does_not_suffice(
    tmp_path: Path, config: TrainConfig, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    plain = CropLoader.__exit__

    def close(self: CropLoader, *arguments: Any) -> None:
        plain(self, *arguments)
        closed.append(True)

    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(CropLoader, "__exit__", close)
    monkeypatch.setattr(CenterNet, "losses", full)
    shutil.rmtree(tmp_path / "a", ignore_errors=True)
    with pytest.raises(InputError):
        train(config, tmp_path / "a", reporter=listener())
    assert closed == [True]
