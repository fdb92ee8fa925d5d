"""What else is worth knowing of what was chosen: reliability, what each run brings, thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.ensemble.candidates import CalibrationKind, Candidate, fusing, with_weights
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.greedy import ScoreMemo, Weights
from smallobj.ensemble.judge import mean_known
from smallobj.ensemble.learner import Learner
from smallobj.ensemble.limits import Costs
from smallobj.ensemble.operating_point import apply_thresholds, choose_thresholds
from smallobj.ensemble.operating_records import Rates, Thresholds, total_rates
from smallobj.ensemble.pareto import FrontRow, pareto_front
from smallobj.ensemble.scorer import Scorer
from smallobj.ensemble.selection import without
from smallobj.evaluation.reliability import outcomes, reliability_of


class RunReliability(NamedTuple):
    """How far the scores of a run are from the share of its boxes that are right, out of fold."""

    model: str
    calibration: str
    before: float  # expected calibration error, 0..1, mean over folds
    after: float


class RunBrings(NamedTuple):
    """What a run brings to what was chosen."""

    model: str
    weight: float  # by all images
    gain: float  # out of fold, over the same without the run; NaN where no fold uses it


@dataclass(frozen=True, kw_only=True)
class WorkingPoint:
    """Thresholds on the fused boxes, and what such thresholds reach out of fold."""

    thresholds: Thresholds  # chosen on all images
    out_of_fold: tuple[
        Rates, ...
    ]  # of each class: chosen on the others, the boxes counted together

    @property
    def overall(self) -> Rates:
        """The rates out of fold of all classes together."""
        return total_rates(self.out_of_fold)

    def as_dict(self) -> dict[str, Any]:
        """Plain values: the thresholds, and the rates out of fold of every class and of all."""
        content = self.thresholds.as_dict()
        for entry, rates in zip(content["class"], self.out_of_fold, strict=True):
            entry["out_of_fold"] = _told(rates)
        return content | {"out_of_fold": _told(self.overall)}


def reliability_by_run(
    models: Sequence[str],
    tables: Sequence[BoxTable],
    fits: Fits,
    learner: Learner,
    kind: CalibrationKind,
) -> tuple[RunReliability, ...]:
    """The calibration error of every run before and after, each fold by what the others fitted."""
    errors = np.full((len(tables), fits.folds, 2), np.nan)
    for fit in range(1, len(fits)):
        calibrated = learner.tables(kind, fit)
        for run, (table, after) in enumerate(zip(tables, calibrated, strict=True)):
            found = learner.outcomes[run]
            rows = found.counted & fits.held_out(fit)[table.image_index]
            for state, scores in enumerate((table.score, after.score)):
                assert scores is not None
                errors[run, fit - 1, state] = reliability_of(scores[rows], found.hit[rows]).error
    return tuple(
        RunReliability(
            model, str(kind), mean_known(errors[run, :, 0]), mean_known(errors[run, :, 1])
        )
        for run, model in enumerate(models)
    )


def what_each_brings(
    models: Sequence[str], chosen: Sequence[Candidate], scorer: Scorer
) -> tuple[RunBrings, ...]:
    """The gain out of fold of each run, left out of what every fit chose; [R]."""
    runs = len(models)
    gains = np.full((runs, len(chosen) - 1), np.nan)
    for fit, candidate in enumerate(chosen):
        weights = candidate.config.weights_of(runs)
        used = [run for run in range(runs) if weights[run] > 0]
        if fit == 0 or len(used) < 2:
            continue
        fewer = [with_weights(candidate, without(weights, run)) for run in used]
        scores = scorer.score([candidate, *fewer], fit)[:, 1]
        gains[:, fit - 1] = 0.0  # a fit that leaves a run out gains nothing by it
        gains[used, fit - 1] = scores[0] - scores[1:]
    weights = chosen[0].config.weights_of(runs)
    return tuple(
        RunBrings(model, weights[run], mean_known(gains[run])) for run, model in enumerate(models)
    )


def cost_front(chosen: Candidate, scorer: Scorer, costs: Costs) -> tuple[FrontRow, ...]:
    """Subsets of the runs, fused as was chosen on all images, by score there and cost."""
    runs, every = scorer.runs, scorer.fits.own(0)[None].astype(np.int64)
    base = fusing(chosen, runs)

    def score(ensembles: Sequence[Weights]) -> Array:
        configs = [with_weights(base, tuple(weights)).config for weights in ensembles]
        return scorer.score_parts(configs, base.calibration, 0, every, name="front")

    return tuple(pareto_front(ScoreMemo(score), costs, base.config.weights_of(runs)))


def working_point(
    truth: BoxTable,
    chosen: Sequence[Candidate],
    fits: Fits,
    learner: Learner,
    goal: str,
) -> WorkingPoint:
    """Thresholds on what was chosen on all images; each fit's own are held against its fold."""
    total = [Rates(0, 0, 0)] * len(truth.classes)
    for fit, candidate in enumerate(chosen):
        fused = learner.fused(candidate, fit)
        found = choose_thresholds(truth, fused, goal=goal, images=fits.own(fit))
        if fit == 0:
            thresholds = found
            continue
        index = np.flatnonzero(fits.held_out(fit))
        kept = apply_thresholds(fused.take_images(index), found)
        reached = _rates(truth.take_images(index), kept)
        total = [rates.plus(more) for rates, more in zip(total, reached, strict=True)]
    return WorkingPoint(thresholds=thresholds, out_of_fold=tuple(total))


def _rates(truth: BoxTable, kept: BoxTable) -> list[Rates]:
    """Boxes kept, right and to be found, by class."""
    found, classes = outcomes(truth, kept), len(truth.classes)
    wanted = np.ones(len(truth), np.bool_) if truth.ignore is None else ~truth.ignore
    counts = [
        _count(label, classes)
        for label in (kept.label[found.counted], kept.label[found.hit], truth.label[wanted])
    ]
    return [Rates(*(int(count[label]) for count in counts)) for label in range(classes)]


def _count(label: NDArray[np.int32], classes: int) -> NDArray[np.int64]:
    return np.bincount(label, minlength=classes)


def _told(rates: Rates) -> dict[str, Any]:
    told = {name: getattr(rates, name) for name in ("precision", "recall", "f1")}
    return {**rates._asdict(), **told}
