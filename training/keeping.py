"""Which weights of a run are kept: the best, or where nothing is held out the last."""

import copy
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from smallobj.detectors import Detector
from smallobj.training.config import TrainConfig
from smallobj.training.data import Tell
from smallobj.training.folder import RunFolder
from smallobj.training.log import RunLog
from smallobj.training.snapshot import Progress, save_best
from smallobj.training.validation import Validation
from smallobj.weights import FULL, Manifest
from smallobj.weights.checkpoint import apply_state, cast_weights, require_finite, save_weights


class Keeper:
    """Scores the averaged weights as they are stored, and keeps them where they are the best."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        manifest: Manifest,
        validation: Validation | None,
        tell: Tell,
    ) -> None:
        """manifest: all but scores. validation: None where nothing is held out."""
        self._config, self._folder, self._manifest = config, folder, manifest
        self._validation, self._tell = validation, tell

    def keep(
        self,
        averaged: Detector,
        progress: Progress,
        log: RunLog,
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Take note of the weights after `progress.step`, and in `progress` of how good they are.

        Where nothing is held out they are kept as they come.
        """
        model, state = _as_stored(averaged, self._config.store)
        scores: dict[str, float] = {}
        if self._validation is None:
            progress.best_step = progress.step
            save_weights(self._folder.path, state, self._manifest)
            log.write("kept", step=progress.step)
        else:
            scores = self._judge(
                self._validation, model, state, progress, log=log, on_progress=on_progress
            )
        progress.validated = progress.step
        self._keep_checkpoint(state, scores, progress.step)

    def _judge(
        self,
        validation: Validation,
        model: Detector,
        state: Mapping[str, Tensor],
        progress: Progress,
        *,
        log: RunLog,
        on_progress: Callable[[int, int], None],
    ) -> dict[str, float]:
        started = time.perf_counter()
        found = validation.predict(model, on_progress)
        latency_ms = 1000 * (time.perf_counter() - started) / len(found.images)
        pixels = validation.pixel_scores(model, on_progress)
        scores = validation.scores(found) | pixels
        name = self._config.metric
        best = scores[name] > progress.best_score
        progress.since_best += 1
        if best:
            progress.best_step, progress.best_score = progress.step, scores[name]
            progress.best_latency_ms, progress.since_best = round(latency_ms, 3), 0
            save_best(self._folder.resume, found)
            save_weights(self._folder.path, state, replace(self._manifest, scores=scores))
        seconds = round(time.perf_counter() - started, 2)
        step = progress.step
        log.write("validation", step=step, **scores, best=best, boxes=len(found), seconds=seconds)
        told = "".join(f", {name} {value:.4f}" for name, value in pixels.items())
        self._tell(f"step {step}: {name} {scores[name]:.4f}{' (best)' if best else ''}{told}")
        return scores

    def _keep_checkpoint(
        self, state: Mapping[str, Tensor], scores: Mapping[str, float], step: int
    ) -> None:
        """Write checkpoints/STEP and drop those that are no longer among the last."""
        if not self._config.keep_last:
            return
        place = self._folder.checkpoints
        manifest = replace(self._manifest, id=f"{self._manifest.id}-{step}", scores=scores)
        save_weights(place / str(step), state, manifest)
        for folder in kept_checkpoints(place)[: -self._config.keep_last]:
            shutil.rmtree(folder)


def kept_checkpoints(place: Path) -> list[Path]:
    """The folders of a run's checkpoints by step."""
    found = [folder for folder in place.iterdir() if folder.name.isdecimal()]
    return sorted(found, key=lambda folder: int(folder.name))


def _as_stored(model: Detector, precision: str) -> tuple[Detector, Mapping[str, Tensor]]:
    """The averaged weights as they will be read back, and as they are written."""
    state = cast_weights(model.state_dict(), precision)
    require_finite(state)
    if precision != FULL:
        model = copy.deepcopy(model)
        apply_state(model, state)
    return model, state
