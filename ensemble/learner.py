"""What the fits of a tuning learn from labels, each from its own images alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable
from smallobj.ensemble.calibration import Calibration, fit_outcomes
from smallobj.ensemble.candidates import CalibrationKind, Candidate
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.fusion import fuse, fuse_traced
from smallobj.ensemble.learnt_confidence import LearntConfidence, fit_confidence, fuse_learnt
from smallobj.ensemble.recipe import config_of
from smallobj.evaluation.reliability import Outcomes, outcomes

_MOST_TABLES = 4  # calibrated sets of tables that are held


class Learner:
    """What every fit learns from its own images: calibrations and confidence; fuses by them."""

    def __init__(self, truth: BoxTable, tables: Sequence[BoxTable], fits: Fits) -> None:
        self._truth, self._tables, self._fits = truth, tables, fits
        self._outcomes: list[Outcomes] = []  # of every run, once they are asked for
        self._fitted: dict[tuple[CalibrationKind, int], tuple[Calibration, ...]] = {}
        self._confidences: dict[tuple[Candidate, int], LearntConfidence] = {}
        self._applied: dict[tuple[CalibrationKind, int], list[BoxTable]] = {}

    @property
    def outcomes(self) -> list[Outcomes]:
        """Which boxes of each run are right."""
        if not self._outcomes:
            self._outcomes = [outcomes(self._truth, table) for table in self._tables]
        return self._outcomes

    def fitted(self, kind: CalibrationKind, fit: int) -> tuple[Calibration, ...]:
        """The calibration of every run."""
        key = (kind, fit)
        if key not in self._fitted:
            self._fitted[key] = tuple(
                fit_outcomes(
                    table, found, method=kind.method, by=kind.by, images=self._fits.own(fit)
                )
                for table, found in zip(self._tables, self.outcomes, strict=True)
            )
        return self._fitted[key]

    def tables(self, kind: CalibrationKind | None, fit: int) -> Sequence[BoxTable]:
        """The runs as a fit sees them."""
        if kind is None:
            return self._tables
        key = (kind, fit)
        if key not in self._applied:
            while len(self._applied) >= _MOST_TABLES:
                del self._applied[next(iter(self._applied))]
            self._applied[key] = [
                calibration.apply(table)
                for calibration, table in zip(self.fitted(kind, fit), self._tables, strict=True)
            ]
        return self._applied[key]

    def confidence(self, candidate: Candidate, fit: int) -> LearntConfidence:
        """The confidence of fused boxes as the fit's images teach it, for the runs that are used.

        Boxes are fused as the candidate says, but for the cap.
        """
        key = (candidate, fit)
        if key not in self._confidences:
            tables, config = self._used(candidate, fit)
            fused, trace = fuse_traced(tables, replace(config, max_detections=None))
            own = self._fits.own(fit)
            self._confidences[key] = fit_confidence(self._truth, fused, trace, tables, images=own)
        return self._confidences[key]

    def fused(
        self, candidate: Candidate, fit: int, index: NDArray[np.int64] | None = None
    ) -> BoxTable:
        """Images at `index` [K], or all, fused as a candidate says with what the fit learnt."""
        tables, config = self._used(candidate, fit)
        if index is not None:
            tables = [table.take_images(index) for table in tables]
        if candidate.learnt:
            return fuse_learnt(tables, config, self.confidence(candidate, fit))[0]
        return fuse(tables, config)

    def _used(self, candidate: Candidate, fit: int) -> tuple[list[BoxTable], FusionConfig]:
        """The runs that take part, as the fit sees them, and the settings for those."""
        tables = self.tables(candidate.calibration, fit)
        weights = candidate.config.weights_of(len(tables))
        used = [run for run, weight in enumerate(weights) if weight > 0]
        return [tables[run] for run in used], config_of(candidate.config, used, len(tables))
