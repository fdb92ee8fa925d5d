"""What a run begins with: random weights, an earlier run's, pretrained ones; and what stays so."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from smallobj.boxes import InputError
from smallobj.detectors import load_detector
from smallobj.detectors.backbone import Pyramid
from smallobj.formats import read_run
from smallobj.prediction import predict
from smallobj.training import Interrupted, TrainConfig, detector_settings, resume, train
from smallobj.weights import read_manifest

BACKBONE = "encoder.body."


@pytest.fixture(scope="module")
def parent(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a second, with a setting of its own."""
    out = tmp_path_factory.mktemp("parent") / "mother"
    config = TrainConfig.from_dict(settings(photos, arch="centernet", size="tiny"))
    train(replace(config, detector={"width": 24}), out)
    return out


def settings(photos: Path, **more: Any) -> dict[str, Any]:
    common = {"data": str(photos), "batch": 4, "steps": 3, "threads": 1, "device": "cpu"}
    return {**common, "crops": {"crop": 64}, "snapshot_s": 0, **more}


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "weights.safetensors")


def test_a_run_begins_from_the_detector_and_the_weights_of_another(
    parent: Path, photos: Path, tmp_path: Path, listener: Callable[..., Any]
) -> None:
    config = TrainConfig.from_dict(settings(photos, init=str(parent), lr=1e-9, ema=0.0))
    told = listener()
    train(config, tmp_path / "child", reporter=told)
    mother, child = read_manifest(parent), read_manifest(tmp_path / "child")
    assert (child.arch, child.config, child.mean) == (mother.arch, mother.config, mother.mean)
    assert child.origin == "mother (random weights)"
    assert any(note.startswith("begins from all") for note in told.notes)
    before, after = weights(parent), weights(tmp_path / "child")
    for name in before:
        if before[name].dim() > 1:  # hardly anything was learnt at such a rate
            torch.testing.assert_close(after[name], before[name], atol=1e-5, rtol=0)


def test_weights_that_do_not_fit_stay_random_and_are_told(
    parent: Path, photos: Path, tmp_path: Path, listener: Callable[..., Any]
) -> None:
    told = listener()
    config = TrainConfig.from_dict(settings(photos, init=str(parent), detector={"width": 32}))
    train(config, tmp_path / "wider", reporter=told)
    assert any("tensors fit; random are decoder." in note for note in told.notes)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"arch": "fcos"}, "field arch: --init begins from a centernet, got fcos"),
        ({"size": "tiny"}, "field size: --init brings the size of its own, got tiny"),
        ({"backbone": "resnet18"}, "field backbone: --init begins from a resnet10t"),
        ({"pretrained": True}, "field pretrained: --init brings weights of its own"),
        ({"freeze": 9}, "field freeze: the backbone has 3 stages, got 9"),
    ],
)
def test_what_does_not_go_with_an_earlier_run_is_named(
    parent: Path, photos: Path, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        train(TrainConfig.from_dict(settings(photos, init=str(parent), **more)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_run_to_begin_from_is_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/manifest.toml: cannot be read"):
        TrainConfig.from_dict(settings(photos, init=str(tmp_path / "nowhere")))


def test_frozen_stages_end_as_they_began(parent: Path, photos: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_dict(settings(photos, init=str(parent), freeze=2))
    train(config, tmp_path / "child")
    before, after = weights(parent), weights(tmp_path / "child")
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {n for n in before if n.startswith((f"{BACKBONE}conv1", f"{BACKBONE}layer2"))}
    assert frozen
    assert frozen <= same
    assert not [n for n in same if n.startswith("decoder") and before[n].dim() > 1]


def test_a_run_from_another_goes_on_without_it(
    parent: Path,
    photos: Path,
    tmp_path: Path,
    listener: Callable[..., Any],
    fingerprint: Callable[[Path], tuple[str, str]],
) -> None:
    """The weights are in the snapshot, the settings in config.toml: the other run may be gone."""
    mother = tmp_path / "mother"
    for name in ("weights.safetensors", "manifest.toml"):
        mother.mkdir(exist_ok=True)
        (mother / name).write_bytes((parent / name).read_bytes())
    config = TrainConfig.from_dict(settings(photos, init=str(mother), freeze=1, validate_every=1))
    train(config, tmp_path / "whole")

    def stop(step: int) -> None:
        if step == 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config, tmp_path / "cut", reporter=listener(stop))
    for file in mother.iterdir():
        file.unlink()
    resume(tmp_path / "cut")
    whole, cut = fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")
    assert whole == cut
    assert read_manifest(tmp_path / "cut").origin == "mother (random weights)"


def test_pretrained_weights_are_told_in_the_manifest(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What timm would download is handed over here."""
    torch.manual_seed(3)
    state = timm.create_model("resnet14t", features_only=True, out_indices=(1, 2, 3)).state_dict()

    def load(pyramid: Pyramid) -> str:
        pyramid.body.load_state_dict(state)
        return "resnet14t.c3_in1k"

    monkeypatch.setattr(Pyramid, "load_pretrained", load)
    given = settings(photos, arch="centernet", size="tiny", backbone="resnet14t", pretrained=True)
    train(TrainConfig.from_dict(given | {"freeze": 3}), tmp_path / "run")
    assert read_manifest(tmp_path / "run").origin == "pretrained resnet14t.c3_in1k"
    after = weights(tmp_path / "run")
    assert all(torch.equal(after[f"{BACKBONE}{name}"], value) for name, value in state.items())


@pytest.mark.parametrize(("store", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_weights_are_validated_as_they_are_stored(
    photos: Path, tmp_path: Path, store: str, dtype: torch.dtype
) -> None:
    given = settings(photos, arch="centernet", size="tiny", store=store)
    result = train(TrainConfig.from_dict(given), tmp_path / "run")
    kept = weights(result.folder)
    assert {v.dtype for v in kept.values() if v.is_floating_point()} == {dtype}
    detector, manifest = load_detector(result.folder)
    assert manifest.dtype == str(dtype).removeprefix("torch.")
    assert manifest.weight_bytes < 2.2 * sum(p.numel() for p in detector.parameters())
    told = read_run(result.run).table
    images = told.images.ids
    again = predict(
        detector,
        [photos / "images" / "val" / Path(name).name for name in images],
        list(images),
        classes=manifest.classes,
        views=views(manifest, detector.stride),
    )
    assert again.score is not None
    assert told.score is not None
    assert len(again) == len(told)
    np.testing.assert_allclose(again.score, told.score, atol=1e-4)


def views(manifest: Any, stride: int) -> Any:
    from smallobj.prediction import views_of

    return views_of(manifest, stride)


def test_settings_of_a_detector_are_read_as_toml_reads_them() -> None:
    given = ["width=96", "neck=pafpn", "box_weight=2.5", "backbone_options={layers=[1, 1]}"]
    assert detector_settings(given, levels="3-6", norm="group") == {
        "width": 96,
        "neck": "pafpn",
        "box_weight": 2.5,
        "backbone_options": {"layers": [1, 1]},
        "finest": 8,
        "coarsest": 64,
        "norm": "group",
    }
    assert detector_settings([]) == {}


@pytest.mark.parametrize(
    ("given", "levels", "said"),
    [
        (["width"], None, "field set: NAME=VALUE is wanted, got width"),
        (["=3"], None, "field set: NAME=VALUE is wanted"),
        (["width=3", "width=4"], None, "field width: is set twice"),
        (["finest=4"], "2-5", "field finest: is set twice"),
        ([], "5-2", "field levels: must be two levels of 1 to 7 such as 2-5, got 5-2"),
        ([], "2", "field levels: must be two levels"),
    ],
)
def test_wrong_settings_of_a_detector_are_named(
    given: list[str], levels: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        detector_settings(given, levels=levels)


def test_a_setting_that_the_detector_lacks_is_named(photos: Path, tmp_path: Path) -> None:
    given = settings(photos, arch="centernet", size="tiny", detector={"necks": "fpn"})
    with pytest.raises(InputError, match=r"unknown detector setting; known: .* got necks"):
        train(TrainConfig.from_dict(given), tmp_path / "run")
