from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smallobj.boxes import Array, BoxTable
from smallobj.evaluation.bootstrap import (
    Difference,
    Interval,
    bootstrap_scores,
    difference_of,
    interval_of,
)
from smallobj.evaluation.coco import coco_summary
from smallobj.evaluation.precision import METRICS, Interpolation, steps_of
from smallobj.evaluation.scores import Evaluation, evaluate_matches, match_by_size, without_nan


@dataclass(frozen=True, kw_only=True)
class RunScore:
    """One of several runs: its scores, how sure they are, and how it compares with the first."""

    evaluation: Evaluation
    intervals: dict[str, Interval]  # by metric; empty without bootstrap samples
    above_first: dict[str, Difference]  # by metric; empty for the first run
    coco: dict[str, float] | None  # COCO's twelve numbers, where asked for

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not known (NaN) becomes None."""
        named = {
            **asdict(self.evaluation),
            "intervals": {name: one._asdict() for name, one in self.intervals.items()},
            "above_first": {name: one._asdict() for name, one in self.above_first.items()},
            "coco": self.coco,
        }
        return without_nan(named)


def score_runs(
    truth: BoxTable,
    runs: Sequence[BoxTable],
    *,
    max_detections: int | None = 100,
    ap: Interpolation = "area",
    samples: int = 1000,
    seed: int = 0,
    coco: bool = False,
) -> list[RunScore]:
    """Score several runs on the same images, and on the same bootstrap draws of them.

    samples: 0 for no bootstrap. coco: COCO's twelve numbers too.
    Raises ValueError where images or classes of the tables differ.
    """
    scored: list[RunScore] = []
    first: tuple[Array, Evaluation] | None = None
    for table in runs:
        matches = match_by_size(truth, table, max_detections=max_detections)
        evaluation = evaluate_matches(matches, max_detections=max_detections, ap=ap)
        draws = bootstrap_scores(matches, samples=samples, seed=seed, ap=ap)
        scored.append(
            RunScore(
                evaluation=evaluation,
                intervals=_intervals(draws, evaluation) if samples else {},
                above_first=_differences(draws, evaluation, *first) if samples and first else {},
                coco=coco_summary(truth, table) if coco else None,
            )
        )
        first = first or (draws, evaluation)
    return scored


def _intervals(draws: Array, evaluation: Evaluation) -> dict[str, Interval]:
    return {
        name: interval_of(_of(draws, name), getattr(evaluation.overall, name)) for name in METRICS
    }


def _differences(
    draws: Array, evaluation: Evaluation, first_draws: Array, first: Evaluation
) -> dict[str, Difference]:
    return {
        name: difference_of(
            _of(draws, name),
            _of(first_draws, name),
            getattr(evaluation.overall, name) - getattr(first.overall, name),
        )
        for name in METRICS
    }


def _of(draws: Array, metric: str) -> Array:
    """A metric's draws [S] out of those at each IoU threshold [S, 10]."""
    return draws[:, steps_of(metric)].mean(axis=1)
