"""From settings to a trained model on disk."""

import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from smallobj.datasets import Samples, colour_statistics
from smallobj.detectors import Detector, describe, detector_class
from smallobj.prediction import choose_device, choose_precision, views_of
from smallobj.training.config import TrainConfig
from smallobj.training.data import TrainingData, load_data
from smallobj.training.folder import RunFolder
from smallobj.training.image_check import ImageCheck
from smallobj.training.learner import TooLargeStepError
from smallobj.training.log import RunLog, code_revision, environment, memory_mb, versions
from smallobj.training.loop import DivergedError, Loop
from smallobj.training.reporting import PlainReporter, Reporter, duration
from smallobj.training.sampling import image_cache, training_samples
from smallobj.training.snapshot import has_snapshot, load_best
from smallobj.training.start import bare_model, check_crop, first_model, with_init_settings
from smallobj.training.stop import Interrupted, StopRequest
from smallobj.training.validation import Validation, write_validation_run
from smallobj.weights import DTYPES, Manifest, read_manifest


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run came to."""

    folder: Path  # weights.safetensors, manifest.toml, config.toml, log.jsonl, resume/
    run: Path | None  # predictions on the images held out by the best weights; None: nothing was
    manifest: Manifest
    steps: int
    best_step: int
    seconds: float
    stopped: str | None = None  # what went wrong, where it ended for that before its last step
    early: str | None = None  # why it ended early with nothing wrong


def train(
    config: TrainConfig,
    out: Path,
    *,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Train a detector from random weights into the folder `out`, say runs/NAME.

    Beside it stand `NAME.json` and `NAME.run.toml`, what the best weights find in the images held
    out. Raises InputError on wrong input, Interrupted on Ctrl-C with the state kept. Where losses
    stop being finite the result says so and the last good weights are kept.
    """
    folder, reporter = RunFolder(out), reporter or PlainReporter()
    detector_class(config.arch)
    folder.check_free(overwrite=overwrite)
    config = with_init_settings(config)
    check_crop(config, bare_model(config))  # now, as a look at all images may take minutes
    prepared = _prepare(config, folder, reporter, resumed=False)
    folder.start_new(prepared.config)
    prepared.check.keep()
    return _train(prepared, folder, reporter, resumed=False)


def resume(
    out: Path, given: dict[str, Any] | None = None, *, reporter: Reporter | None = None
) -> TrainResult:
    """Go on with a run that was interrupted or killed, from its last snapshot.

    On a CPU the weights come out as if nothing had happened, bit for bit. given: settings as
    config.toml has them; raises InputError, naming the field, where one differs from the run's.
    """
    folder, reporter = RunFolder(out), reporter or PlainReporter()
    config = folder.stored_config(dict(given or {}))
    prepared = _prepare(config, folder, reporter, resumed=True)
    prepared.check.keep()
    return _train(prepared, folder, reporter, resumed=True)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """All that can be wrong with the input was found: nothing is written yet."""

    started: float  # time.monotonic()
    config: TrainConfig
    data: TrainingData
    check: ImageCheck
    model: Detector
    crops: Samples
    precision: str


def _prepare(
    config: TrainConfig, folder: RunFolder, reporter: Reporter, *, resumed: bool
) -> _Prepared:
    started = time.monotonic()
    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cache = image_cache(config, reporter.note)
    check = ImageCheck(folder, config, cache, reporter, resumed=resumed)
    data = load_data(config, reporter.note, leave_out=check)
    torch.manual_seed(config.seed)
    mean, std = colour_statistics(data.train.paths, cache)
    model, origin = first_model(
        config,
        num_classes=len(data.train.table.classes),
        mean=mean,
        std=std,
        restored=resumed and has_snapshot(folder.resume),
        tell=reporter.note,
    )
    check_crop(config, model)
    crops = training_samples(config, data.train, cache, model)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Prepared(
        started=started,
        config=replace(config, origin=origin),
        data=data,
        check=check,
        model=model,
        crops=crops,
        precision=choose_precision(device, config.precision),
    )


def _train(
    prepared: _Prepared, folder: RunFolder, reporter: Reporter, *, resumed: bool
) -> TrainResult:
    config, data, model = prepared.config, prepared.data, prepared.model
    manifest = _manifest(config, data, model, folder.path.name)
    validation = None
    if data.val is not None:
        views = views_of(manifest, model.stride)
        validation = Validation(data.val, views=views, precision=prepared.precision)
    with StopRequest() as stop:
        loop = Loop(
            config,
            model,
            prepared.crops,
            validation,
            folder=folder,
            manifest=manifest,
            precision=prepared.precision,
            reporter=reporter,
            stop=stop,
            started=prepared.started,
        )
        restored = resumed and loop.restore()
        log = RunLog(folder.log, keep_until_step=loop.progress.step if restored else None)
        _log_start(log, config, data, loop, model)
        reporter.note(_summary(config, data, model, loop, restored=restored))
        return _run(loop, log, folder, data)


def _run(loop: Loop, log: RunLog, folder: RunFolder, data: TrainingData) -> TrainResult:
    progress, reporter = loop.progress, loop.reporter
    stopped = None
    try:
        if not progress.done:
            loop.run(log)
    except DivergedError as error:
        stopped = str(error)
        if not progress.best_step or loop.validation is None:
            loop.validate()
        progress.done = True
        loop.snapshot()
    except Interrupted:
        loop.snapshot()
        log.write("interrupted", step=progress.step)
        reporter.note(
            f"stopped after step {progress.step}; go on with: "
            f"smallobj train --resume --out {shlex.quote(str(folder.path))}"
        )
        raise
    except TooLargeStepError:
        if not (progress.step and has_snapshot(folder.resume)):
            folder.forget()
        raise
    manifest = read_manifest(folder.path)
    if loop.validation is not None:
        write_validation_run(
            folder.run,
            load_best(loop.resume_folder, loop.validation.truth),
            loop.validation,
            manifest=manifest,
            latency_ms=progress.best_latency_ms,
            held_out=data.held_out,
            data=loop.config.data,
        )
    early = loop.why_early
    seconds = loop.seconds
    log.write(
        "end",
        step=progress.step,
        best_step=progress.best_step,
        scores=dict(manifest.scores),
        stopped=stopped or early,
        seconds=round(seconds, 1),
        **memory_mb(loop.device),
    )
    return TrainResult(
        folder=folder.path,
        run=None if loop.validation is None else folder.run,
        manifest=manifest,
        steps=progress.step,
        best_step=progress.best_step,
        seconds=seconds,
        stopped=stopped,
        early=early,
    )


def _manifest(config: TrainConfig, data: TrainingData, model: Detector, name: str) -> Manifest:
    return Manifest(
        id=name,
        **describe(model),
        classes=data.train.table.classes,
        train_crop_px=config.crops.crop,
        largest_object_px=round(data.largest_object_px, 2),
        input=config.crops.input,
        symmetry=config.crops.symmetry,
        origin=config.origin,
        dtype=DTYPES[config.store],
        data_hash=data.label_hash,
        code_revision=code_revision(),
        versions=versions(),
    )


def _log_start(
    log: RunLog, config: TrainConfig, data: TrainingData, loop: Loop, model: Detector
) -> None:
    log.write(
        "start",
        step=loop.progress.step,
        arch=config.arch,
        parameters=sum(p.numel() for p in model.parameters()),
        precision=loop.learner.precision,
        train_images=len(data.train.paths),
        train_boxes=len(data.train.table),
        val_images=0 if data.val is None else len(data.val.paths),
        val_boxes=0 if data.val is None else len(data.val.table),
        left_out=data.left_out,
        held_out=data.held_out,
        crops_an_epoch=len(loop.crops),
        **environment(loop.device),
        **memory_mb(loop.device),
    )


def _summary(
    config: TrainConfig, data: TrainingData, model: Detector, loop: Loop, *, restored: bool
) -> str:
    length = loop.progress.length
    if length is not None:
        end = f"{length.steps} steps"
    else:
        end = f"for {duration(config.time_limit or 0)}"
    if loop.progress.done:
        return f"is finished already, after step {loop.progress.step}"
    begin = f"goes on from step {loop.progress.step}" if restored else "trains"
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    held_out = "none" if data.val is None else f"{len(data.val.paths)} images"
    return (
        f"{begin}: {config.arch} ({parameters:.2f} M parameters, {loop.learner.precision} on "
        f"{loop.device}), {end}, {len(data.train.paths)} images, {len(data.train.table)} boxes, "
        f"{held_out} held out"
    )
