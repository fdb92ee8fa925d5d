"""Weights: what is saved comes back, what is damaged or foreign is refused in one line."""

import hashlib
import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smallobj.boxes import Classes, InputError
from smallobj.weights import Manifest, read_manifest, write_manifest
from smallobj.weights.checkpoint import (
    apply_state,
    cast_weights,
    copy_fitting,
    load_weights,
    require_finite,
    save_weights,
)

MANIFEST = Manifest(
    id="a",
    arch="centernet",
    backbone="resnet18",
    config={},
    classes=Classes.of(["nut"]),
    train_crop_px=192,
    largest_object_px=90,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_saved_weights_come_back(tmp_path: Path) -> None:
    net = model().to(memory_format=torch.channels_last)
    saved = save_weights(tmp_path, net.state_dict(), MANIFEST)
    state, manifest = load_weights(tmp_path / "weights.safetensors")
    assert same(state, dict(net.state_dict()))
    size = (tmp_path / "weights.safetensors").stat().st_size
    assert manifest == saved == replace(MANIFEST, sha256=manifest.sha256, weight_bytes=size)
    assert manifest.weight_mb == size / 1e6
    assert (
        manifest.sha256
        == hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    )
    fresh = model()
    nn.init.zeros_(fresh[0].weight)
    apply_state(fresh, state)
    assert same(dict(fresh.state_dict()), dict(net.state_dict()))


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    save_weights(tmp_path, {"a": base[:4], "b": base[2:]}, MANIFEST)
    state, _ = load_weights(tmp_path)
    assert state["b"].tolist() == [2, 3, 4, 5]


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path, model().state_dict(), MANIFEST)
    file = tmp_path / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.safetensors: is damaged or of another run"):
        load_weights(tmp_path)


def test_weights_without_their_checksum_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path, model().state_dict(), MANIFEST)
    write_manifest(tmp_path, MANIFEST)
    with pytest.raises(InputError, match=r"manifest\.toml: field sha256: field is missing"):
        load_weights(tmp_path)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(MANIFEST, sha256="0" * 64))
    with pytest.raises(InputError, match=r"weights\.safetensors: cannot be read: No such file"):
        load_weights(tmp_path)


def header(shape: list[int], end: int) -> bytes:
    text = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        header([1 << 40], 4 << 40) + b"\0" * 16,  # four terabytes promised, 16 bytes there
        header([1 << 40], 16) + b"\0" * 16,
        header([4], 16) + b"\0" * 12,
        struct.pack("<Q", 1 << 60),
        b"",
        b"not safetensors at all",
    ],
    ids=["huge", "huge in 16 bytes", "cut off", "huge header", "empty", "text"],
)
def test_a_file_that_promises_more_than_it_holds_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    write_manifest(tmp_path, replace(MANIFEST, sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(InputError, match=r"weights\.safetensors: is not safetensors") as caught:
        load_weights(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.bias": None}, "item 0.bias: tensor is missing"),
        (
            {"2.weight": torch.zeros(2, 4, 3, 3)},
            "item 2.weight: tensor must have shape [2, 4, 1, 1]",
        ),
        ({"3.weight": torch.zeros(1)}, "item 3.weight: the model has no such tensor"),
        (
            {"0.bias": torch.zeros(4, dtype=torch.int64)},
            "item 0.bias: tensor must be torch.float32",
        ),
    ],
)
def test_weights_of_another_model_name_the_tensor(
    change: dict[str, Tensor | None], said: str
) -> None:
    net = model()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = {n: torch.ones_like(t) for n, t in before.items()} | change
    with pytest.raises(InputError) as caught:
        apply_state(net, {n: t for n, t in state.items() if t is not None}, file="runs/a")
    assert str(caught.value).startswith(f"runs/a: {said}")
    assert same(dict(net.state_dict()), before)


def test_half_precision_fills_float32_weights() -> None:
    net = model()
    state = {n: t.half() if t.is_floating_point() else t for n, t in net.state_dict().items()}
    apply_state(net, state)
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight, state["0.weight"].float())


def test_a_full_disk_leaves_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tmp_path, model().state_dict(), MANIFEST)
    before = load_weights(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left"):
            save_weights(tmp_path, {"a": torch.zeros(3)}, replace(MANIFEST, id="b"))
    state, manifest = load_weights(tmp_path)
    assert same(state, before[0])
    assert manifest == before[1]
    assert read_manifest(tmp_path).id == "a"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.toml", "weights.safetensors"]


def test_a_weight_too_large_for_half_precision_is_named() -> None:
    state = {"large": torch.tensor([1.0, 7e4]), "count": torch.tensor(10**6)}
    require_finite(cast_weights(state, "bf16"))
    half = cast_weights(state, "fp16")
    assert half["count"] == 10**6
    with pytest.raises(InputError, match=r"item large: a weight is too large for torch\.float16"):
        require_finite(half)


def test_what_fits_is_copied_and_what_does_not_is_named() -> None:
    module = torch.nn.Linear(2, 3)
    bias = module.bias.detach().clone()
    state = {"weight": torch.ones(3, 2), "bias": torch.ones(4), "more": torch.ones(1)}
    assert copy_fitting(module, state) == ["bias"]
    assert bool((module.weight == 1).all())
    assert torch.equal(module.bias, bias)
