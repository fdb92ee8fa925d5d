"""A run learns, leaves its files whole, and ends cleanly whatever happens to it."""

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.detectors import load_detector
from smallobj.detectors.centernet import CenterNet
from smallobj.evaluation import map_score
from smallobj.formats import align_runs, read_labels, read_run
from smallobj.training import Interrupted, TrainConfig, resume, train
from smallobj.training.image_check import ImageCheck

Fingerprint = Callable[[Path], tuple[str, str]]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> tuple[Path, TrainConfig]:
    config = TrainConfig.from_dict(
        {
            "data": str(photos),
            "arch": "centernet",
            "size": "tiny",
            "batch": 8,
            "steps": 80,
            "warmup_steps": 5,
            "validate_every": 40,
            "threads": 1,
            "device": "cpu",
            "crops": {"crop": 64},
        }
    )
    out = tmp_path_factory.mktemp("finished") / "runs" / "squares"
    train(config, out)
    return out, config


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


def test_a_run_learns_squares(finished: tuple[Path, TrainConfig]) -> None:
    out, _ = finished
    assert lines(out, "validation")[-1]["map50"] > 0.3
    steps = lines(out, "step")
    assert steps[-1]["loss"] < 0.6 * steps[0]["loss"]


def test_a_run_on_squashed_oblong_photographs_learns_squares(
    tmp_path: Path, quick: dict[str, Any], own_photos: Path
) -> None:
    """Labels are shares of the sides, so that photographs twice as wide keep theirs."""
    for path in own_photos.rglob("*.png"):
        with Image.open(path) as image:
            image.resize((192, 96), Image.Resampling.BILINEAR).save(path)
    settings = {"data": str(own_photos), "optimizer": "adam", "lr": 4e-3, "batch": 8, "steps": 80}
    crops = {"crop": 64, "input": "squash"}
    config = TrainConfig.from_dict(
        {**quick, **settings, "warmup_steps": 5, "validate_every": 40, "crops": crops}
    )
    result = train(config, tmp_path / "a")
    assert result.manifest.scores["map50"] > 0.3
    run = read_run(result.run)
    assert run.info is not None
    assert run.info.views == ("squash=64",)
    wide = run.table.xyxy[run.table.score > 0.3]
    assert np.median((wide[:, 2] - wide[:, 0]) / (wide[:, 3] - wide[:, 1])) == pytest.approx(2, 0.2)


def test_the_files_of_a_run_fit_each_other(finished: tuple[Path, TrainConfig]) -> None:
    out, config = finished
    detector, manifest = load_detector(out)
    assert manifest.id == "squares"
    assert manifest.train_crop_px == 64
    assert manifest.classes.names == ("blue", "yellow")
    assert detector.config.num_classes == 2
    assert not list(out.rglob("*.tmp"))
    run = read_run(out.parent / "squares.json")
    assert run.info is not None
    assert run.info.model == "squares"
    assert run.info.fold == "val"
    assert run.info.weight_mb == (out / "weights.safetensors").stat().st_size / 1e6
    assert run.info.latency_ms is not None
    assert 0 < run.info.latency_ms < 60_000
    truth = read_labels(config.data, split="val").table
    aligned = align_runs([run], images=truth.images, classes=truth.classes)
    score = map_score(truth, aligned.tables[0], "map50")
    assert score == pytest.approx(manifest.scores["map50"], abs=1e-5)
    assert manifest.scores["map50"] == max(v["map50"] for v in lines(out, "validation"))


def test_the_log_says_on_what_and_how_long(finished: tuple[Path, TrainConfig]) -> None:
    out, _ = finished
    (start,), (end,) = lines(out, "start"), lines(out, "end")
    assert start["device"] == "cpu"
    assert start["threads"] == 1
    assert start["versions"]["torch"] == torch.__version__.split("+")[0] or start["versions"]
    assert start["code_revision"]
    assert end["seconds"] > 0
    assert end["memory_mb"] > 50
    step = lines(out, "step")[-1]
    assert step["step"] == 80
    assert 0 <= step["waiting"] <= 1
    assert step["lr"] < 1e-4


def test_a_folder_with_a_run_is_left_alone(finished: tuple[Path, TrainConfig]) -> None:
    out, config = finished
    before = (out / "weights.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a trained model already"):
        train(config, out)
    assert (out / "weights.safetensors").read_bytes() == before


def test_a_finished_run_is_not_trained_again(
    finished: tuple[Path, TrainConfig], listener: Any, fingerprint: Fingerprint
) -> None:
    out, _ = finished
    before = fingerprint(out)
    hear = listener()
    result = resume(out, reporter=hear)
    assert result.steps == 80
    assert any("finished already" in note for note in hear.notes)
    assert fingerprint(out) == before


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"batch": 3}, "batch"),
        ({"crops": {"crop": 96}}, "crop"),
        ({"arch": "fcos"}, "arch"),
        ({"seed": 5}, "seed"),
    ],
)
def test_a_changed_setting_stops_a_resume(
    finished: tuple[Path, TrainConfig], given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError, match=rf"config\.toml: field {field}: cannot change"):
        resume(finished[0], given)


def test_what_does_not_touch_the_weights_may_change(
    finished: tuple[Path, TrainConfig], tmp_path: Path
) -> None:
    free = {"workers": 3, "cache_mb": 10.0, "cache_dir": str(tmp_path / "cache"), "cache_gb": 1.0}
    assert resume(finished[0], {**free, "batch": 8}).steps == 80
    assert list((tmp_path / "cache").rglob("*.pixels"))


def test_nothing_to_resume_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to resume"):
        resume(tmp_path / "none")


def test_overwrite_begins_anew(
    tmp_path: Path, config: TrainConfig, fingerprint: Fingerprint
) -> None:
    out = tmp_path / "a"
    train(config, out)
    first = fingerprint(out)
    (out / "notes.txt").write_text("mine")
    train(config, out, overwrite=True)
    assert fingerprint(out) == first
    assert len(lines(out, "start")) == 1
    assert (out / "notes.txt").read_text() == "mine"


def test_weights_do_not_depend_on_workers_or_cache(
    tmp_path: Path, quick: dict[str, Any], fingerprint: Fingerprint
) -> None:
    for name, workers, cache_mb in (("a", 0, 100.0), ("b", 3, 0.0)):
        config = TrainConfig.from_dict({**quick, "workers": workers, "cache_mb": cache_mb})
        train(config, tmp_path / name)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_another_seed_is_another_model(
    tmp_path: Path, quick: dict[str, Any], fingerprint: Fingerprint
) -> None:
    for seed in (1, 2):
        train(TrainConfig.from_dict({**quick, "seed": seed}), tmp_path / str(seed))
    assert fingerprint(tmp_path / "1") != fingerprint(tmp_path / "2")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_state_and_resume_ends_as_if_nothing_had_been(
    tmp_path: Path,
    config: TrainConfig,
    listener: Any,
    fingerprint: Fingerprint,
    number: int,
) -> None:
    def at(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    stopped = listener(at)
    with pytest.raises(Interrupted) as caught:
        train(config, tmp_path / "stopped", reporter=stopped)
    assert caught.value.status == 128 + number
    assert "--resume" in stopped.notes[-1]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not (tmp_path / "stopped.json").exists()
    resume(tmp_path / "stopped")
    train(config, tmp_path / "straight")
    assert fingerprint(tmp_path / "stopped") == fingerprint(tmp_path / "straight")
    for kind in ("step", "validation"):
        ours, theirs = (
            [(line["step"], line.get("loss"), line.get("map50")) for line in lines(out, kind)]
            for out in (tmp_path / "stopped", tmp_path / "straight")
        )
        assert ours == theirs


def test_resume_on_other_labels_is_refused(
    tmp_path: Path, quick: dict[str, Any], own_photos: Path, listener: Any
) -> None:
    def at(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    config = TrainConfig.from_dict({**quick, "data": str(own_photos)})
    with pytest.raises(Interrupted):
        train(config, tmp_path / "a", reporter=listener(at))
    file = own_photos / "labels" / "train" / "train0.txt"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="run on other labels"):
        resume(tmp_path / "a")


def spoil_losses(monkeypatch: pytest.MonkeyPatch, spoilt: set[int]) -> None:
    """The losses of these training steps (from 1) become NaN, by way of the network."""
    plain = CenterNet.network
    count = 0

    def network(self: CenterNet, x: Tensor) -> dict[str, Tensor]:
        nonlocal count
        count += self.training
        return plain(self, x * float("nan") if self.training and count in spoilt else x)

    monkeypatch.setattr(CenterNet, "network", network)


def test_a_step_without_a_finite_loss_is_skipped_and_told(
    tmp_path: Path, config: TrainConfig, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_losses(monkeypatch, {3, 4})
    hear = listener()
    result = train(config, tmp_path / "a", reporter=hear)
    assert result.stopped is None
    assert sum("step skipped" in note for note in hear.notes) == 2
    detector, _ = load_detector(result.folder)
    assert all(torch.isfinite(v).all() for v in detector.state_dict().values())


@pytest.mark.parametrize("first", [2, 7])
def test_three_such_steps_end_the_run_with_the_last_good_weights(
    tmp_path: Path,
    config: TrainConfig,
    listener: Any,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
) -> None:
    spoil_losses(monkeypatch, {first, first + 1, first + 2})
    result = train(config, tmp_path / "a", reporter=listener())
    assert result.stopped is not None
    assert "3 steps in a row" in result.stopped
    assert result.steps == first + 2
    detector, _ = load_detector(result.folder)
    assert all(torch.isfinite(v).all() for v in detector.state_dict().values())
    assert np.isfinite(list(result.manifest.scores.values())).all()
    assert result.run.exists()


def test_a_time_limit_is_planned_once_and_kept(
    tmp_path: Path, quick: dict[str, Any], listener: Any
) -> None:
    settings = {name: v for name, v in quick.items() if name not in ("steps", "validate_every")}
    config = TrainConfig.from_dict({**settings, "time_limit": 3.0, "snapshot_s": 60})
    result = train(config, tmp_path / "a", reporter=listener())
    (length,) = lines(tmp_path / "a", "length")
    assert result.steps == length["steps"] > 16
    assert len(lines(tmp_path / "a", "validation")) >= 1


def test_an_unknown_detector_lists_the_known_ones(tmp_path: Path, quick: dict[str, Any]) -> None:
    config = TrainConfig.from_dict({**quick, "arch": "mask_rcnn"})
    with pytest.raises(InputError, match=r"known: centernet, .*fcos"):
        train(config, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_crop_that_does_not_fit_the_detector_is_named_at_once(
    tmp_path: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageCheck, "__call__", lambda *_: 1 / 0)  # before the images are looked at
    config = TrainConfig.from_dict({**quick, "crops": {"crop": 70}})
    with pytest.raises(InputError, match="field crop: must be a multiple of"):
        train(config, tmp_path / "a")


def test_settings_are_kept_as_toml(finished: tuple[Path, TrainConfig]) -> None:
    stored = tomllib.loads((finished[0] / "config.toml").read_text())
    assert stored["crops"]["crop"] == 64
    assert stored["steps"] == 80
