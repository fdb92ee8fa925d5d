"""What candidates score on the images of every fit; nothing is computed twice."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.ensemble.candidates import CalibrationKind, Candidate
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.learner import Learner
from smallobj.ensemble.score_store import ScoreStore
from smallobj.ensemble.scoring import score_settings
from smallobj.evaluation import match, mean_precisions, prepare_truth, thresholds_of

_CHUNK = 96  # settings scored before they are kept on disk


class Scorer:
    """Scores candidates: raw ones on all fits at once, calibrated ones on one fit."""

    def __init__(
        self,
        truth: BoxTable,
        tables: Sequence[BoxTable],
        fits: Fits,
        *,
        metric: str,
        store: ScoreStore | None = None,
        on_scored: Callable[[int], None] | None = None,
    ) -> None:
        self.truth, self.fits, self.metric = truth, fits, metric
        self.learner = Learner(truth, tables, fits)
        self.runs = len(tables)
        self.on_scored = on_scored  # how many more were scored, from any thread
        self._store = store or ScoreStore()
        self._every = fits.parts()
        self._prepared = prepare_truth(truth)
        self._lock = Lock()

    def score(self, candidates: Sequence[Candidate], fit: int) -> Array:
        """Scores [S, 2] on a fit's own images and on its held-out fold; NaN without a true box."""
        scores = np.empty((len(candidates), 2))
        for place, candidate in enumerate(candidates):
            if candidate.learnt:
                scores[place] = self._learnt(candidate, fit)
        for kind, places in _by_calibration(candidates):
            configs = [candidates[place].config for place in places]
            if kind is None:
                scores[places] = self._raw(configs)[:, 2 * fit : 2 * fit + 2]
            else:
                parts = self.fits.parts([fit])
                scores[places] = self.score_parts(configs, kind, fit, parts, name="fit")
        return scores

    def _learnt(self, candidate: Candidate, fit: int) -> Array:
        """Scores [2] of a candidate whose confidence the fit learns."""
        key = f"learnt|{candidate.calibration}|{fit}|{candidate.config!r}"
        if self._store.get(key) is None:
            levels = thresholds_of(self.metric)
            fused = self.learner.fused(candidate, fit)
            found = match(self._prepared, fused, levels, max_detections=None)
            scores = mean_precisions(found, self.fits.parts([fit]))
            with self._lock:
                self._store.put([key], scores[None])
        if self.on_scored is not None:
            self.on_scored(1)
        return np.array(self._store.get(key), np.float64)

    def raw(self, configs: Sequence[FusionConfig]) -> Array:
        """Scores [S, 1 + F, 2] of settings without calibration, on every fit."""
        return self._raw(configs).reshape(len(configs), len(self.fits), 2)

    def _raw(self, configs: Sequence[FusionConfig]) -> Array:
        return self.score_parts(configs, None, 0, self._every, name="all")

    def score_parts(
        self,
        configs: Sequence[FusionConfig],
        kind: CalibrationKind | None,
        fit: int,
        parts: NDArray[np.int64],
        *,
        name: str,
    ) -> Array:
        """Scores [S, P] on parts [P, N], which go by a name; runs are calibrated for the fit."""
        where = f"{name}|{kind}|{fit}|"
        keys = {config: where + repr(config) for config in configs}
        new = [config for config, key in keys.items() if self._store.get(key) is None]
        for chunk in _chunks(sorted(new, key=_sharing)):
            scores = score_settings(
                self.truth,
                self.learner.tables(kind, fit),
                chunk,
                metric=self.metric,
                parts=parts,
                on_progress=self.on_scored,
            )
            with self._lock:
                self._store.put([keys[config] for config in chunk], scores)
        if self.on_scored is not None:
            self.on_scored(len(configs) - len(new))
        found = [self._store.get(keys[config]) for config in configs]
        return np.array(found, np.float64).reshape(len(configs), len(parts))


def _by_calibration(
    candidates: Sequence[Candidate],
) -> Iterable[tuple[CalibrationKind | None, list[int]]]:
    places: dict[CalibrationKind | None, list[int]] = {}
    for place, candidate in enumerate(candidates):
        if not candidate.learnt:
            places.setdefault(candidate.calibration, []).append(place)
    return places.items()


def _sharing(config: FusionConfig) -> tuple[Any, ...]:
    """Settings that share work side by side: what is done first stands first."""
    return (
        *(config.nms_iou or (), config.models or (), config.weights or ()),
        *(config.method, config.class_agnostic, config.iou, config.shift_px, config.sigma),
        *(config.soft, config.skip, config.allows_overflow, config.min_votes, config.conf_type),
    )


def _chunks(configs: Sequence[FusionConfig]) -> Iterable[list[FusionConfig]]:
    """Settings in chunks, those of the same weights and method together as far as they fit."""
    chunk: list[FusionConfig] = []
    for _, group in groupby(configs, key=lambda config: _sharing(config)[:4]):
        same = list(group)
        if chunk and len(chunk) + len(same) > _CHUNK:
            yield chunk
            chunk = []
        chunk += same
        while len(chunk) > _CHUNK:
            yield chunk[:_CHUNK]
            chunk = chunk[_CHUNK:]
    if chunk:
        yield chunk
