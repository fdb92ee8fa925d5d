"""Trained models averaged: the mean of their weights, with batch norms that fit it."""

import shutil
import tomllib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smallobj.boxes import InputError
from smallobj.datasets import Batch, CropLoader, ImageCache, samples_of
from smallobj.detectors import build_detector, list_detectors, load_detector
from smallobj.prediction import neutral_colour
from smallobj.training import TrainConfig, average_runs, train
from smallobj.training.averaging import renew_statistics
from smallobj.training.data import load_data
from smallobj.weights.checkpoint import cast_weights, load_weights, save_weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A run that kept its last three checkpoints, of steps 2, 4 and 6."""
    out = tmp_path_factory.mktemp("runs") / "a"
    config = TrainConfig.from_dict(
        {
            "data": str(photos),
            "arch": "centernet",
            "size": "tiny",
            "batch": 4,
            "steps": 6,
            "validate_every": 2,
            "keep_last": 3,
            "threads": 1,
            "device": "cpu",
            "crops": {"crop": 64},
        }
    )
    train(config, out)
    return out


def checkpoints(trained: Path) -> list[Path]:
    return [trained / "checkpoints" / str(step) for step in (2, 4, 6)]


class Looking(nn.Module):
    """A detector that update_bn can call: images alone."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Any:
        return self.detector(images)


def test_weights_are_the_mean_and_statistics_those_of_torch(trained: Path, tmp_path: Path) -> None:
    runs, out = checkpoints(trained), tmp_path / "runs" / "mean"
    done = average_runs(runs, out, batches=3, device="cpu")
    assert (done.models, done.crops) == (3, 12)
    states = [load_weights(run)[0] for run in runs]
    found, manifest = load_weights(out)
    assert manifest.id == "mean"
    assert manifest.origin == "mean of a-2, a-4, a-6 (random weights)"
    assert manifest.scores == {}
    statistics = {n for n in found if "running_" in n or n.endswith("num_batches_tracked")}
    for name in found.keys() - statistics:
        mean = torch.stack([state[name].double() for state in states]).mean(0)
        assert torch.equal(found[name], mean.float())
    assert done.renewed * 3 == len(statistics) > 0

    detector, _ = load_detector(out)
    config = TrainConfig.from_dict(tomllib.loads((trained / "config.toml").read_text()))
    part = load_data(config, lambda line: None).train
    crops = samples_of(
        part.table,
        part.paths,
        config.crops,
        seed=0,
        cache=ImageCache(100),
        pad=neutral_colour(detector),
    )
    with CropLoader(crops, 4, workers=0) as loader:
        batches = [batch.images for batch in islice(loader, 3)]
    torch.optim.swa_utils.update_bn(batches, Looking(detector))
    for name, tensor in detector.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_statistics_differ_from_the_mean_of_statistics(trained: Path, tmp_path: Path) -> None:
    average_runs(checkpoints(trained), tmp_path / "mean", batches=2, device="cpu")
    found, _ = load_weights(tmp_path / "mean")
    states = [load_weights(run)[0] for run in checkpoints(trained)]
    name = next(name for name in found if name.endswith("running_var"))
    assert not torch.allclose(found[name], torch.stack([s[name] for s in states]).mean(0))


def test_models_that_are_the_same_need_no_crops(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("weights.safetensors", "manifest.toml"):
        shutil.copy(trained / name, copy / name)
    done = average_runs([copy, trained], tmp_path / "mean")
    assert (done.renewed, done.crops) == (0, 0)
    ours, theirs = load_weights(tmp_path / "mean")[0], load_weights(trained)[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_models_without_batch_norms_need_no_crops(
    tmp_path: Path, quick: dict[str, Any], own_photos: Path
) -> None:
    for seed in (0, 1):
        settings = {**quick, "data": str(own_photos), "steps": 2, "seed": seed}
        config = TrainConfig.from_dict({**settings, "detector": {"norm": "group"}})
        train(config, tmp_path / str(seed))
    shutil.rmtree(own_photos)
    done = average_runs([tmp_path / "0", tmp_path / "1"], tmp_path / "mean")
    assert done.renewed == 0
    load_detector(tmp_path / "mean")


def test_crops_come_from_what_is_named_where_the_runs_own_data_is_gone(
    trained: Path, tmp_path: Path, photos: Path, own_photos: Path
) -> None:
    runs = [shutil.copytree(run, tmp_path / "alone" / run.name) for run in checkpoints(trained)]
    with pytest.raises(InputError, match=r"batch norms need training crops.*by --data"):
        average_runs(runs, tmp_path / "mean")
    given = {"data": str(photos)}
    done = average_runs(runs, tmp_path / "mean", given, batches=1, device="cpu")
    assert done.crops == 16
    with pytest.raises(InputError, match="holds a trained model already"):
        average_runs(runs, tmp_path / "mean", given)
    yaml = own_photos / "data.yaml"
    yaml.write_text(yaml.read_text().replace("blue", "green"))
    with pytest.raises(InputError, match="not those of the model, blue, yellow, got green, yellow"):
        average_runs(runs, tmp_path / "other", {"data": str(own_photos)})
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="field split: says how --data is read"):
        average_runs(checkpoints(trained), tmp_path / "other", {"split": "train"})


def test_one_run_is_no_mean(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two or more"):
        average_runs([trained], tmp_path / "mean")


def test_half_precision_stays_so(trained: Path, tmp_path: Path) -> None:
    runs = [tmp_path / run.name for run in checkpoints(trained)]
    for run, half in zip(checkpoints(trained), runs, strict=True):
        state, manifest = load_weights(run)
        save_weights(half, cast_weights(state, "fp16"), replace(manifest, dtype="float16"))
    given = {"data": str(tomllib.loads((trained / "config.toml").read_text())["data"])}
    done = average_runs(runs, tmp_path / "mean", given, batches=1, device="cpu")
    found, manifest = load_weights(tmp_path / "mean")
    assert manifest.dtype == "float16"
    assert {t.dtype for t in found.values()} == {torch.float16, torch.int64}
    assert done.manifest.weight_bytes == (tmp_path / "mean" / "weights.safetensors").stat().st_size


@pytest.mark.parametrize("name", list_detectors())
def test_batch_norms_of_every_detector_can_be_renewed(name: str) -> None:
    settings = {"num_classes": 2, "mean": (128.0,) * 3, "std": (64.0,) * 3, "size": "tiny"}
    model = build_detector(name, **settings)  # type: ignore[arg-type]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    rest, renewed = norms[:1], norms[1:]
    kept = [norm.running_mean.clone() for norm in norms]
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    boxes = (torch.tensor([[10.0, 10, 40, 40]]), torch.zeros(0, 4))
    batch = Batch(images, boxes, (torch.tensor([1]), torch.zeros(0, dtype=torch.int64)))
    renew_statistics(model, renewed, [batch, batch])
    assert not model.training
    assert all(int(norm.num_batches_tracked) == 2 for norm in renewed)
    assert all(bool(torch.isfinite(norm.running_var).all()) for norm in renewed)
    changed = [not torch.equal(n.running_mean, k) for n, k in zip(norms, kept, strict=True)]
    assert changed == [False] * len(rest) + [True] * len(renewed)
    assert all(norm.momentum is not None for norm in norms)
