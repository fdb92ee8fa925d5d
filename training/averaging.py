"""Several trained models averaged into one, its batch norms made to fit its new weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from smallobj.boxes import InputError, read_toml
from smallobj.datasets import Batch, CropConfig, CropLoader
from smallobj.detectors import Detector, detector_of
from smallobj.prediction import choose_device, printable
from smallobj.training.config import TrainConfig
from smallobj.training.data import Tell, load_data, load_training_part
from smallobj.training.folder import CHECKPOINTS, CONFIG, RunFolder
from smallobj.training.image_check import read_looked
from smallobj.training.learner import targets_of
from smallobj.training.log import code_revision, versions
from smallobj.training.part import Part
from smallobj.training.sampling import image_cache, loader_of, training_samples
from smallobj.weights import DTYPES, Manifest, read_manifest, run_folder
from smallobj.weights.averaging import MeanState, check_alike, origin_of_mean
from smallobj.weights.checkpoint import (
    apply_state,
    cast_weights,
    load_weights,
    require_finite,
    save_weights,
)

DEFAULT_BATCHES = 50


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """What an averaging came to."""

    folder: Path
    manifest: Manifest
    models: int
    renewed: int  # batch norms whose statistics were taken anew
    crops: int  # training crops that they were taken from


def average_runs(
    runs: Sequence[Path],
    out: Path,
    given: Mapping[str, Any] | None = None,
    *,
    batches: int = DEFAULT_BATCHES,
    device: str = "auto",
    overwrite: bool = False,
    tell: Tell = lambda line: None,
) -> Averaged:
    """Write the mean of the weights of `runs` into the folder `out`, as a model to predict with.

    runs: folders of trained models or of their checkpoints, alike in all that makes a detector.
    given: where training crops come from, as config.toml has it (data, images, kind, names,
    voc_origin, split); nothing: what the first run was trained on. They are needed where batch
    norms are, whose statistics are those of no mean of weights: they are taken anew from
    `batches` batches, but of norms that are the same in all runs, as those that were frozen are.

    Raises InputError where the runs differ, or there is no training image to look at.
    """
    RunFolder(out).check_free(overwrite=overwrite)
    if len(runs) < 2:
        raise InputError("two or more are needed for a mean", field="runs", value=len(runs))
    manifests = [read_manifest(run) for run in runs]
    check_alike(manifests, runs)
    mean = MeanState()
    for run in runs:
        mean.add(load_weights(run)[0], file=run)
    model = detector_of(manifests[0])
    apply_state(model, mean.mean(), file=runs[0])
    norms = _changed_norms(model, mean.same)
    crops = 0
    if norms:
        config = _config(runs[0], manifests[0], given or {})
        part = _training_part(runs[0], config, given=bool(given), tell=tell)
        model.to(choose_device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
        with _loader(part, config, model, manifests[0], tell) as loader:
            renew_statistics(model, norms, islice(loader, batches))
        crops = batches * config.batch
    manifest = _write(model, manifests, RunFolder(out))
    return Averaged(
        folder=out, manifest=manifest, models=len(runs), renewed=len(norms), crops=crops
    )


@torch.no_grad()
def renew_statistics(
    model: Detector, norms: Sequence[_BatchNorm], batches: Iterable[Batch]
) -> None:
    """Give batch norms the plain mean of the statistics of some training batches.

    As torch.optim.swa_utils.update_bn does, of those norms alone; the others stay as they are.
    """
    momenta = [norm.momentum for norm in norms]
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None
    device = model.mean.device
    for batch in batches:
        model(batch.images.to(device), targets_of(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _changed_norms(model: nn.Module, same: set[str]) -> list[_BatchNorm]:
    """The batch norms whose statistics are not the same in all models."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        and module.track_running_stats
        and not {f"{name}.running_mean", f"{name}.running_var"} <= same
    ]


def _config(run: Path, manifest: Manifest, given: Mapping[str, Any]) -> TrainConfig:
    """The settings that training crops are cut by, and where from."""
    stored = _stored_config(run)
    if "data" not in given and stored is not None:
        if given:
            raise InputError("says how --data is read", field=next(iter(given)))
        if not stored.data.exists():
            reason = "what the run was trained on is not there any more: name labels by --data"
            raise InputError(reason, file=stored.data)
        return stored
    if "data" not in given:
        raise InputError(
            "batch norms need training crops, and no config.toml tells where they are: name labels "
            "by --data",
            file=run,
        )
    config = TrainConfig.from_dict({"arch": manifest.arch, **given})
    if stored is not None:
        return replace(config, crops=stored.crops, batch=stored.batch, seed=stored.seed)
    crops = CropConfig(
        crop=manifest.train_crop_px, input=manifest.input, symmetry=manifest.symmetry
    )
    return replace(config, crops=crops)


def _stored_config(run: Path) -> TrainConfig | None:
    """The settings of a run, also of one of its checkpoints; None where it has none."""
    file = _trained_in(run) / CONFIG
    return TrainConfig.from_dict(read_toml(file)) if file.exists() else None


def _trained_in(run: Path) -> Path:
    """The folder of the training that a model comes from."""
    folder = run_folder(run).absolute()
    return folder.parent.parent if folder.parent.name == CHECKPOINTS else folder


def _training_part(run: Path, config: TrainConfig, *, given: bool, tell: Tell) -> Part:
    """Labelled training images; of the run's own those that it left out are left out again."""
    if given:
        return load_training_part(config, tell)
    looked = read_looked(RunFolder(_trained_in(run)))
    bad = {name for name, image in looked.items() if image.fault is not None}

    def leave_out(parts: Sequence[Part]) -> set[Path]:
        return {path for part in parts for path in part.paths if printable(path) in bad}

    return load_data(config, lambda line: None, leave_out=leave_out).train


def _loader(
    part: Part, config: TrainConfig, model: Detector, manifest: Manifest, tell: Tell
) -> CropLoader:
    if part.table.classes.names != manifest.classes.names:
        raise InputError(
            f"its classes are not those of the model, {', '.join(manifest.classes.names)}",
            file=config.data,
            value=", ".join(part.table.classes.names),
        )
    cache = image_cache(config, tell)
    crops = training_samples(config, part, cache, model)
    return loader_of(config, crops, on_gpu=model.mean.device.type == "cuda", tell=tell)


def _write(model: Detector, manifests: Sequence[Manifest], folder: RunFolder) -> Manifest:
    first = manifests[0]
    precision = next(name for name, dtype in DTYPES.items() if dtype == first.dtype)
    state = cast_weights(model.state_dict(), precision)
    require_finite(state)
    hashes = {manifest.data_hash for manifest in manifests}
    manifest = replace(
        first,
        id=folder.path.absolute().name,
        origin=origin_of_mean(manifests),
        largest_object_px=max(manifest.largest_object_px for manifest in manifests),
        data_hash=first.data_hash if len(hashes) == 1 else "",
        code_revision=code_revision(),
        versions=versions(),
        scores={},
    )
    folder.clear()
    return save_weights(folder.path, state, manifest)
