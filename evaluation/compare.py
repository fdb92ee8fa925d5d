"""Several runs side by side: their scores, what each found, and how different they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.evaluation.bootstrap import (
    Difference,
    Interval,
    bootstrap_scores,
    difference_of,
    interval_of,
)
from smallobj.evaluation.diversity import Overlap, rank_correlation, shared_boxes
from smallobj.evaluation.found import (
    FoundBoxes,
    WorkingPoint,
    false_alarms,
    found_boxes,
    working_point,
)
from smallobj.evaluation.matching import Matches, PreparedTruth
from smallobj.evaluation.precision import (
    METRICS,
    Interpolation,
    average_precision,
    class_mean,
    steps_of,
)
from smallobj.evaluation.scores import SIZE_BINS, Evaluation, evaluate_matches, match_by_size

Fairness: TypeAlias = Literal["alarms", "f1"]
FAIRNESS: tuple[Fairness, ...] = ("alarms", "f1")
ALL_SIZES = "all"


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRun:
    """One of the runs: its scores, and what it found of the true boxes."""

    evaluation: Evaluation
    by_iou: Array  # [10], mean average precision at IoU 0.5, 0.55 to 0.95
    best_f1: WorkingPoint  # where it stands best on its own
    at: WorkingPoint  # where the runs are held against each other
    found: FoundBoxes
    intervals: dict[str, Interval] = field(default_factory=dict)  # by metric; empty without draws


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    """Two of the runs, by their places in the list."""

    first: int
    second: int
    above: dict[str, Difference]  # by metric: the second above the first; empty without samples
    any_score: Overlap  # true boxes found by any box that counts
    at: Overlap  # at the working points
    at_by_size: dict[str, Overlap]  # the same of each size bin
    score_correlation: float  # Spearman's, over the true boxes both found with any score
    alarms_of_first: float  # share of its false alarms that the second makes too; NaN: it has none
    alarms_of_second: float  # share of the second's that the first makes too


@dataclass(frozen=True, kw_only=True)
class FoundBy:
    """How many runs found the true boxes of a size."""

    size: str
    boxes: int
    every: int  # found by all runs
    none: int  # found by no run
    only: tuple[int, ...]  # by run: found by it alone


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Runs compared on one truth."""

    truth: PreparedTruth
    to_find: NDArray[np.bool_]  # [G], the true boxes that are not ignored
    against: int  # the run that the others are measured by
    fairness: Fairness
    runs: tuple[ComparedRun, ...]
    pairs: tuple[ComparedPair, ...]  # every two runs, the earlier first
    any_score: tuple[FoundBy, ...]  # of all sizes, then of each size bin
    at: tuple[FoundBy, ...]  # the same at the working points

    def pair(self, a: int, b: int) -> ComparedPair:
        """The pair of two runs, in either order."""
        return next(p for p in self.pairs if {p.first, p.second} == {a, b})

    def above(self, run: int, other: int) -> dict[str, Difference]:
        """By how much a run is above another, by metric."""
        pair = self.pair(run, other)
        if pair.second == run:
            return pair.above
        return {name: Difference(-d.mean, -d.high, -d.low) for name, d in pair.above.items()}

    def best_pair(self) -> ComparedPair:
        """The two runs that find most together, at the working points."""
        return max(self.pairs, key=lambda pair: pair.at.together)

    def best_alone(self) -> int:
        """The run that finds most at its working point, the earlier of equal ones."""
        return max(range(len(self.runs)), key=lambda run: self.runs[run].at.found)


def compare_runs(
    truth: BoxTable,
    tables: Sequence[BoxTable],
    *,
    against: int = 0,
    fairness: Fairness = "alarms",
    max_detections: int | None = 100,
    ap: Interpolation = "area",
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs or more on the same images, and on the same bootstrap draws of them.

    What is found is judged at IoU 0.5 among the best `max_detections` of an image, once at any
    score and once at working points. fairness "alarms": every run is cut where it makes no more
    false alarms than the run `against` does at its best F1; "f1": each at its own best F1.
    samples: 0 for no intervals. Raises ValueError where images or classes of the tables differ.
    """
    if len(tables) < 2:
        raise ValueError(f"two runs or more can be compared, got {len(tables)}")
    if fairness not in FAIRNESS:
        raise ValueError(f"unknown fairness {fairness!r}; known: {', '.join(FAIRNESS)}")
    matches = [match_by_size(truth, table, max_detections=max_detections) for table in tables]
    best_f1 = [working_point(*one) for one in zip(matches, tables, strict=True)]
    most = best_f1[against].false_alarms if fairness == "alarms" else None
    sides = []
    for one, table, best in zip(matches, tables, best_f1, strict=True):
        run = ComparedRun(
            evaluation=evaluate_matches(one, max_detections=max_detections, ap=ap),
            by_iou=class_mean(average_precision(one, ap=ap).average),
            best_f1=best,
            at=best if most is None else working_point(one, table, most_false_alarms=most),
            found=found_boxes(one, table),
        )
        draws = bootstrap_scores(one, samples=samples, seed=seed, ap=ap)
        sides.append(_Side.of(run, one, table, draws))
    sizes = (ALL_SIZES, *(one.name for one in SIZE_BINS))
    in_bin = dict(zip(sizes, matches[0].counted, strict=True))
    return Comparison(
        truth=matches[0].truth,
        to_find=matches[0].counted[0],
        against=against,
        fairness=fairness,
        runs=tuple(side.run for side in sides),
        pairs=tuple(
            _pair(a, b, sides[a], sides[b], in_bin) for a, b in combinations(range(len(sides)), 2)
        ),
        any_score=_found_by([side.any_score for side in sides], in_bin),
        at=_found_by([side.at for side in sides], in_bin),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """What is needed of a run to hold it against another."""

    run: ComparedRun
    table: BoxTable
    draws: Array  # [S, 10]
    any_score: NDArray[np.bool_]  # [G], found
    at: NDArray[np.bool_]  # [G], found at the working point
    alarms: NDArray[np.bool_]  # [M], false alarms at the working point

    @classmethod
    def of(cls, run: ComparedRun, matches: Matches, table: BoxTable, draws: Array) -> "_Side":
        """From a run without intervals, which are added."""
        assert table.score is not None
        intervals = {
            name: interval_of(_of(draws, name), getattr(run.evaluation.overall, name))
            for name in METRICS
        }
        alarms = np.zeros(len(table), np.bool_)
        alarms[false_alarms(matches)] = True
        return cls(
            run=replace(run, intervals=intervals if len(draws) else {}),
            table=table,
            draws=draws,
            any_score=run.found.found,
            at=run.found.found_at(run.at.threshold),
            alarms=alarms & (table.score >= run.at.threshold),
        )


def _pair(
    first: int, second: int, a: _Side, b: _Side, in_bin: Mapping[str, NDArray[np.bool_]]
) -> ComparedPair:
    both = a.any_score & b.any_score
    shared = shared_boxes(a.table, a.alarms, b.table, b.alarms)
    at_by_size = {size: Overlap.of(a.at[one], b.at[one]) for size, one in in_bin.items()}
    every = in_bin[ALL_SIZES]
    return ComparedPair(
        first=first,
        second=second,
        above=_differences(b, a) if len(a.draws) else {},
        any_score=Overlap.of(a.any_score[every], b.any_score[every]),
        at=at_by_size.pop(ALL_SIZES),
        at_by_size=at_by_size,
        score_correlation=rank_correlation(a.run.found.score[both], b.run.found.score[both]),
        alarms_of_first=_share(shared[0], a.alarms),
        alarms_of_second=_share(shared[1], b.alarms),
    )


def _differences(b: _Side, a: _Side) -> dict[str, Difference]:
    return {
        name: difference_of(
            _of(b.draws, name),
            _of(a.draws, name),
            getattr(b.run.evaluation.overall, name) - getattr(a.run.evaluation.overall, name),
        )
        for name in METRICS
    }


def _found_by(
    found_by_run: Sequence[NDArray[np.bool_]], in_bin: Mapping[str, NDArray[np.bool_]]
) -> tuple[FoundBy, ...]:
    """From what every run found of all true boxes, [R] of [G]."""
    found = np.array(found_by_run)
    times = found.sum(axis=0)
    return tuple(
        FoundBy(
            size=size,
            boxes=int(chosen.sum()),
            every=int((times[chosen] == len(found)).sum()),
            none=int((times[chosen] == 0).sum()),
            only=tuple((found & (times == 1))[:, chosen].sum(axis=1).tolist()),
        )
        for size, chosen in in_bin.items()
    )


def _share(marked: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(marked.sum() / among.sum()) if among.any() else np.nan


def _of(draws: Array, metric: str) -> Array:
    """A metric's draws [S] out of those at each IoU threshold [S, 10]."""
    return draws[:, steps_of(metric)].mean(axis=1)
