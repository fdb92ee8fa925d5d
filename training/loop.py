"""The training loop: steps, validations, snapshots, until the planned end."""

import math
import time
from collections import deque
from collections.abc import Collection
from typing import Any

from smallobj.datasets import CropConfig, CropLoader, Samples, make_batch
from smallobj.detectors import Detector
from smallobj.training.config import TrainConfig
from smallobj.training.folder import RunFolder
from smallobj.training.keeping import Keeper
from smallobj.training.learner import Learner
from smallobj.training.length import (
    MOST_MEASURED_STEPS,
    Length,
    is_measured,
    measured_length,
    planned_length,
)
from smallobj.training.log import RunLog, memory_mb
from smallobj.training.optimise import learning_rate
from smallobj.training.phases import Phase, Phases
from smallobj.training.reporting import Reporter
from smallobj.training.sampling import loader_of
from smallobj.training.snapshot import Progress, load_snapshot, save_snapshot
from smallobj.training.stop import StopRequest
from smallobj.training.validation import Validation
from smallobj.weights import Manifest

FAILED_STEPS = 3  # in a row end a run
_KEEPING_S = 0.1  # about what it takes to write weights, where nothing is validated


class DivergedError(Exception):
    """Loss or gradient were not finite several times in a row."""


class Loop:
    """One run from its first step, or from its snapshot, to its last."""

    def __init__(
        self,
        config: TrainConfig,
        model: Detector,
        crops: Samples,
        validation: Validation | None,
        *,
        folder: RunFolder,
        manifest: Manifest,
        precision: str,
        reporter: Reporter,
        stop: StopRequest,
        started: float,
    ) -> None:
        """validation: None where nothing is held out. manifest: all but scores.

        started: time.monotonic() of the run.
        """
        self.config, self.crops, self.validation = config, crops, validation
        self.learner = Learner(config, model, precision, reporter.note)
        self.manifest, self.resume_folder = manifest, folder.resume  # where snapshots lie
        self.reporter, self.stop, self.device = reporter, stop, model.mean.device
        self.keeper = Keeper(config, folder, manifest, validation, reporter.note)
        self.phases = Phases(config, stride=model.stride)
        self.progress = Progress(
            length=planned_length(
                config,
                crops=len(crops),
                val_pixels=0 if validation is None else validation.pixels,
                mean_cost=self.phases.mean_cost,
            )
        )
        self._started = self._last_snapshot = started
        self._before = 0.0  # seconds of earlier starts
        self._step_s: deque[float] = deque(maxlen=MOST_MEASURED_STEPS)
        self._native_s: deque[float] = deque(maxlen=100)  # of a step at native scale, estimated
        self._validation_s = 0.0
        self._losses: list[dict[str, float]] = []

    @property
    def seconds(self) -> float:
        """Spent on the run, earlier starts included."""
        return self._before + time.monotonic() - self._started

    def restore(self) -> bool:
        """Go back to the last snapshot; False where there is none."""
        found = load_snapshot(self.resume_folder, self.manifest.data_hash)
        if found is None:
            return False
        self.progress, state = found
        self._before = self.progress.seconds
        self.learner.restore(state)
        return True

    def run(self, log: RunLog) -> None:
        """Train to the end. Raises Interrupted or DivergedError, with what is needed kept."""
        self.log = log
        with loader_of(
            self.config,
            self.crops,
            on_gpu=self.learner.on_gpu,
            tell=self.reporter.note,
            first_step=self.progress.step,
            config_at=lambda step: self._phase_at(step).crops,
        ) as loader:
            while not self._finished():
                self.stop.raise_if_asked()
                self._one_step(loader)
        self.progress.done = True
        self.snapshot()

    def snapshot(self) -> None:
        """Write what the run can be resumed from."""
        self.progress.seconds = self.seconds
        state = self.learner.state()
        save_snapshot(self.resume_folder, self.progress, state, self.manifest.data_hash)
        self._last_snapshot = time.monotonic()

    def validate(self) -> None:
        """Score the averaged weights, and keep them where they are the best so far."""
        started = time.perf_counter()
        self.keeper.keep(self.learner.averaged.model, self.progress, self.log, self._validating)
        self._validation_s = time.perf_counter() - started

    @property
    def why_early(self) -> str | None:
        """Why it ends before its last step, or did, for want of patience; None: it does not."""
        patience, validations = self.config.patience, self.progress.since_best
        if patience is None or validations < patience:
            return None
        plural = "s" if validations > 1 else ""
        return f"{validations} validation{plural} in a row without a better {self.config.metric}"

    def _finished(self) -> bool:
        """Do what is due between two steps; True where the last step is done."""
        progress = self.progress
        length = progress.length
        due = length is not None and length.validates_after(progress.step)
        if due and progress.validated != progress.step:
            self.validate()
            self.snapshot()
        elif time.monotonic() - self._last_snapshot > self.config.snapshot_s:
            self.snapshot()
        ended = length is not None and progress.step >= length.steps
        return ended or self.why_early is not None

    def _validating(self, done: int, images: int) -> None:
        self.reporter.validating(done, images)
        self.stop.raise_if_asked()

    def _phase_at(self, step: int) -> Phase:
        return self.phases.at(step, self.progress.length)

    def _one_step(self, loader: CropLoader) -> None:
        started, waited = time.perf_counter(), loader.waited_s
        progress = self.progress
        length = None if progress.length is None else progress.length.steps
        phase = self._phase_at(progress.step)
        rate = learning_rate(progress.step, length, self.config)
        losses, wrong = self.learner.step(next(loader), progress.step, rate)
        self._step_s.append(time.perf_counter() - started)
        self._native_s.append(self._step_s[-1] / phase.cost)
        self._losses.append({**losses, "waited": loader.waited_s - waited})
        progress.step += 1
        progress.failed = progress.failed + 1 if wrong else 0
        if wrong:
            self._tell_skipped(wrong)
        if progress.step == phase.first_step + 1:
            self._tell_phase(phase)
        if progress.step % self.config.log_every == 0:
            self._log_steps(rate)
        self.reporter.step(progress, losses["loss"], self._left_s())
        if progress.failed >= FAILED_STEPS:
            raise DivergedError(f"loss or gradient not finite in {FAILED_STEPS} steps in a row")
        if progress.length is None and is_measured(self._step_s, self.config.time_limit or 0):
            self._settle_length()

    def _tell_phase(self, phase: Phase) -> None:
        """Once its first step is done, so that a run that goes on tells it once."""
        step, crops = self.progress.step, phase.crops
        self.log.write("phase", step=step, crop=crops.crop, scale=crops.scale, plain=phase.plain)
        if phase.first_step or self.config.stages:
            self.reporter.note(f"step {step}: {phase.told()}")

    def _tell_skipped(self, wrong: list[str]) -> None:
        step = self.progress.step
        self.reporter.note(f"step {step}: {', '.join(wrong)} not finite, step skipped")
        self.log.write("skipped", step=step, wrong=wrong)

    def _log_steps(self, rate: float) -> None:
        names = [name for name in self._losses[-1] if name != "waited"]
        means = {name: _mean([line[name] for line in self._losses]) for name in names}
        recent = list(self._step_s)[-len(self._losses) :]
        waited = sum(line["waited"] for line in self._losses)
        self.log.write(
            "step",
            step=self.progress.step,
            epoch=round(self.progress.step * self.config.batch / len(self.crops), 3),
            **{name: _plain(value) for name, value in means.items()},
            lr=float(f"{rate:.6g}"),
            seconds_a_step=round(_mean(recent), 4),
            waiting=round(waited / max(sum(recent), 1e-9), 4),
            seconds=round(self.seconds, 2),
            **memory_mb(self.device),
        )
        self._losses.clear()

    def _step_s_of(self, crops: CropConfig) -> float:
        batch = make_batch(self.crops, self.config.batch, self.progress.step, crops)
        return self.learner.seconds_of(batch)

    def _settle_length(self) -> None:
        if self.validation is not None:
            self._validation_s = self.validation.seconds(self.learner.averaged.model)
        if self.config.stages:
            step_s = {crops.crop: self._step_s_of(crops) for crops in self.phases.configs}
            self.phases = Phases(self.config, stride=self.learner.model.stride, step_s=step_s)
            self._native_s.clear()
        assert self.config.time_limit is not None
        measured = list(self._step_s)[len(self._step_s) // 4 :]  # the first ones warm up
        length = measured_length(
            self.config,
            done=self.progress.step,
            left_s=self.config.time_limit - self.seconds,
            step_s=measured,
            validation_s=self._validation_s or _KEEPING_S,
            first_cost=self._phase_at(0).cost,
            mean_cost=self.phases.mean_cost,
        )
        self.progress.length = length
        self.snapshot()
        self.log.write("length", step=self.progress.step, **_settled(length))
        self.reporter.note(
            f"{length.steps} steps fit into the time limit; "
            f"{'keeps' if self.validation is None else 'validates'} every {length.validate_every}"
        )

    def _left_s(self) -> float | None:
        length = self.progress.length
        if length is None:
            return None
        steps = length.steps - self.progress.step
        validations = math.ceil(steps / length.validate_every)
        native_steps = self.phases.cost_left(self.progress.step, length)
        return native_steps * _mean(self._native_s) + validations * self._validation_s


def _settled(length: Length) -> dict[str, Any]:
    return {"steps": length.steps, "validate_every": length.validate_every}


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)


def _plain(value: float) -> float | None:
    """A number JSON knows: NaN is no number there."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
