"""What a GPU computes is what a CPU computes, and commands run there: pytest -m gpu."""

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.cli.main import main
from smallobj.datasets import Batch
from smallobj.datasets.shipped import DEEPPCB
from smallobj.detectors import Detector, Target, build_detector, list_detectors
from smallobj.formats import read_run
from smallobj.training import TrainConfig
from smallobj.training.learner import Learner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
]

TARGETS = [
    Target(torch.tensor([[10.0, 12, 40, 60], [70, 30, 82, 44]]), torch.tensor([0, 1])),
    Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
]


@pytest.fixture(autouse=True)
def plain_float32() -> Iterator[None]:
    """Convolutions and products of float32 are not rounded to TF32."""
    allowed = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    yield
    torch.backends.cudnn.allow_tf32 = allowed[0]
    torch.set_float32_matmul_precision(allowed[1])


def tiny(name: str) -> Detector:
    torch.manual_seed(0)
    return build_detector(name, num_classes=2, mean=(110.0,) * 3, std=(60.0,) * 3, size="tiny")


def noise(count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 96, 128), dtype=torch.uint8, generator=random)


def call(*arguments: object) -> int:
    try:
        main([*map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("name", list_detectors())
def test_raw_and_boxes_are_those_of_the_cpu(name: str) -> None:
    detector, images = tiny(name).eval(), noise(2)
    with torch.inference_mode():
        expected = detector(images)
        boxes = detector.decode(expected, (96, 128))
        detector.cuda()
        found = detector(images.cuda())
        for key, value in expected.items():
            torch.testing.assert_close(found[key].cpu(), value, rtol=1e-3, atol=1e-3)
        same = detector.decode({key: value.cuda() for key, value in expected.items()}, (96, 128))
    for ours, theirs in zip(same, boxes, strict=True):
        assert ours.score.device.type == "cuda"
        torch.testing.assert_close(ours.score.cpu(), theirs.score)
        differ = ~torch.isclose(ours.xyxy.cpu(), theirs.xyxy, atol=1e-3).all(dim=1)
        assert int(differ.sum()) <= len(differ) / 100  # near ties change places


@pytest.mark.parametrize("name", list_detectors())
def test_a_step_in_bf16_has_losses_and_gradients(name: str) -> None:
    detector = tiny(name).cuda().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    targets = [Target(t.xyxy.cuda(), t.label.cuda()) for t in TARGETS]
    with torch.autocast("cuda", torch.bfloat16):
        losses = detector(noise(2).cuda(), targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    for key, weight in detector.named_parameters():
        assert weight.grad is not None, key
        assert bool(torch.isfinite(weight.grad).all()), key


@pytest.mark.parametrize("name", ["centernet", "yolo", "fcos", "retinanet", "ssd"])
def test_a_recorded_network_learns_what_a_plain_one_learns(name: str) -> None:
    batch = Batch(noise(2), *zip(*TARGETS, strict=True))
    config = TrainConfig.from_dict({"data": "none", "arch": name, "batch": 2})
    weights, losses = [], []
    for record in (False, True):
        model = tiny(name).cuda()
        learner = Learner(replace(config, record=record), model, "fp32", tell=pytest.fail)
        losses.append([learner.step(batch, step, 1e-4)[0]["loss"] for step in range(4)])
        weights.append(model.state_dict())
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    for key, value in weights[0].items():
        if "running" in key or "num_batches" in key:
            torch.testing.assert_close(weights[1][key], value, rtol=1e-2, atol=1e-2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gpu") / "runs" / "a"
    words = ("--arch", "yolo", "--size", "tiny", "--data", DEEPPCB, "--out", out)
    assert call("train", *words, "--device", "cuda", "--steps", 60, "--warmup-steps", 10) == 0
    return out


def lines(run: Path, kind: str) -> list[dict[str, float]]:
    found = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line for line in found if line["kind"] == kind]


def test_train_learns(trained: Path) -> None:
    steps = lines(trained, "step")
    assert steps[-1]["loss"] < 0.8 * steps[0]["loss"]
    assert steps[-1]["gpu_memory_mb"] > 0


def test_a_run_goes_on(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    words = ("--arch", "yolo", "--size", "tiny", "--data", DEEPPCB, "--out", out)
    words = (*words, "--stages", "0.5:0.5")  # two shapes of batches
    assert call("train", *words, "--steps", 4, "--warmup-steps", 1, "--keep-last", 2) == 0
    assert call("train", "--resume", "--out", out) == 0
    assert call("weights", "average", trained, out, "--out", tmp_path / "mean") == 0


def test_predict_finds_what_the_cpu_finds(trained: Path, tmp_path: Path) -> None:
    scans = sorted((DEEPPCB / "images" / "val").iterdir())[:4]
    runs = []
    for device in ("cuda", "cpu"):
        out = tmp_path / f"{device}.json"
        words = ("--device", device, "--precision", "fp32", "--tta", "--out", out)
        assert call("predict", trained, *scans, *words) == 0
        runs.append(read_run(out).table)
    ours, theirs = runs
    assert len(ours) == len(theirs)
    assert len(ours)
    np.testing.assert_allclose(np.sort(ours.score), np.sort(theirs.score), atol=2e-3)


def test_predict_halves_batches_that_memory_does_not_hold(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = tmp_path / "large.png"
    pixels = np.random.default_rng(0).integers(0, 255, (4000, 5000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(large)
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 0.4e9 / total))
    try:
        words = ("--tile", 640, "--batch", 64, "--out", tmp_path / "a.json")
        assert call("predict", trained, large, *words) == 0
        assert "going on with half as many" in capsys.readouterr().err
        words = ("--data", DEEPPCB, "--batch", 2048, "--steps", 2, "--out", tmp_path / "b")
        assert call("train", "--arch", "yolo", *words) == 2
        assert "--batch" in capsys.readouterr().err
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_profile_measures_the_gpu(trained: Path, tmp_path: Path) -> None:
    assert call("profile", trained, "--device", "cuda", "--json", tmp_path / "p.json") == 0
    assert json.loads((tmp_path / "p.json").read_text())


def test_no_such_gpu_is_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.json"
    assert call("predict", trained, DEEPPCB, "--device", "cuda:77", "--out", out) == 2
    assert "no such device here" in capsys.readouterr().err
