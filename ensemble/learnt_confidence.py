"""The score of a fused box, learnt from what each run said of it (stacking, Wolpert 1992).

A confidence rule knows how many runs saw a box and how sure they were. Which of them, and that a
box that run A saw and B missed is worth less than the other way round, only labels can tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, InputError, box_area
from smallobj.ensemble.calibration_curves import logistic, logit
from smallobj.ensemble.calibration_fields import Fields
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import fuse_traced
from smallobj.ensemble.trace import Trace
from smallobj.evaluation.reliability import Outcomes, outcomes

_PRIOR = 10.0  # strength of the belief in the rule's own score: a ridge on every slope
_FREE = 1e-3  # the same for the offset, which is next to free
_MOST_ODDS = 8.0  # log odds beyond this are cut: their squares would outweigh all others
_STEPS = 50
_MOST_MISSES = 100_000  # of the false boxes no more are looked at, each for several
_MOST_IN_PAIRS = 8  # runs; the pairs of more would have thousands of features


@dataclass(frozen=True, kw_only=True)
class LearntConfidence:
    """Log odds of a fused box: those of its rule's score, plus a line on standardised features."""

    runs: int
    middle: tuple[float, ...]  # [F], mean of each feature where it was fitted
    spread: tuple[float, ...]  # [F], its deviation, above 0
    slope: tuple[float, ...]  # [F]
    offset: float

    def __post_init__(self) -> None:
        expected = feature_count(self.runs)
        for name in ("middle", "spread", "slope"):
            if len(getattr(self, name)) != expected:
                raise ValueError(f"{self.runs} runs have {expected} features, not as {name} has")
        if not all(value > 0 for value in self.spread):
            raise ValueError("a spread is above 0")

    def apply(self, fused: BoxTable, trace: Trace, tables: Sequence[BoxTable]) -> BoxTable:
        """Fused boxes, in the same order, with learnt scores in 0..1.

        The tables are those that were fused, of the same models in the same order as in the fit.
        Cap the boxes of an image afterwards. Raises ValueError for another number of runs.
        """
        if len(tables) != self.runs:
            raise ValueError(f"learnt from {self.runs} runs, not {len(tables)}")
        assert fused.score is not None
        x = (_features(fused, trace, tables) - self.middle) / np.array(self.spread)
        value = logit(fused.score) + x @ np.array(self.slope) + self.offset
        return replace(fused, score=logistic(value))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for TOML, from which `from_dict` makes an equal one."""
        columns = {name: list(getattr(self, name)) for name in ("middle", "spread", "slope")}
        return {"runs": self.runs, "offset": self.offset, **columns}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "LearntConfidence":
        """Read what `as_dict` wrote; raises InputError that names the field at fault."""
        read = Fields(content, "confidence")
        columns = {name: read.numbers(name) for name in ("middle", "spread", "slope")}
        try:
            return cls(runs=read.count("runs"), offset=read.number("offset"), **columns)
        except ValueError as error:
            raise InputError(str(error), field="confidence") from error


def fit_confidence(
    truth: BoxTable,
    fused: BoxTable,
    trace: Trace,
    tables: Sequence[BoxTable],
    *,
    images: NDArray[np.bool_] | None = None,
    iou: float = 0.5,
    found: Outcomes | None = None,
) -> LearntConfidence:
    """Fit on labelled images what makes a fused box right: a logistic regression with a ridge.

    `fused` and `trace` are what `fuse_traced` made of the tables, best without a cap. Of each run
    the log odds of its best member, or that it has none, the box's side, their squares and the
    products of pairs (of up to eight runs) count. With few boxes the slopes stay near 0, and the
    rule's own score stays. found: the outcomes of `fused` where it was matched before.
    """
    found = found or outcomes(truth, fused, iou=iou)
    used = found.counted if images is None else found.counted & images[fused.image_index]
    assert fused.score is not None
    rows, weight = _sample(np.flatnonzero(used), found.hit)
    x = _features(fused, trace, tables, rows)
    middle, spread = np.zeros(x.shape[1]), np.ones(x.shape[1])
    if len(x):
        middle, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread < 1e-9, 1.0, spread)
    x = np.concatenate([(x - middle) / spread, np.ones((len(x), 1))], axis=1)
    line = _regress(x, logit(fused.score[rows]), found.hit[rows].astype(np.float64), weight)
    return LearntConfidence(
        runs=len(tables),
        middle=tuple(middle.tolist()),
        spread=tuple(spread.tolist()),
        slope=tuple(line[:-1].tolist()),
        offset=float(line[-1]),
    )


def fuse_learnt(
    tables: Sequence[BoxTable], config: FusionConfig, confidence: LearntConfidence
) -> tuple[BoxTable, Trace]:
    """`fuse_traced` with learnt scores: the cap keeps those that are best by them.

    Raises what `fuse_traced` and `LearntConfidence.apply` raise.
    """
    fused, trace = fuse_traced(tables, replace(config, max_detections=None))
    scored = confidence.apply(fused, trace, tables)
    assert scored.score is not None
    order = np.lexsort((-scored.score, scored.image_index))
    rank = np.arange(len(order)) - np.repeat(scored.offsets[:-1], np.diff(scored.offsets))
    kept = rank < (config.max_detections or len(order))
    return scored.take_rows(order).filter_rows(kept), trace.of_boxes(order[kept])


def feature_count(runs: int) -> int:
    """How many features F a fused box has."""
    return 5 * runs + 2 + (2 * runs * (runs - 1) if runs <= _MOST_IN_PAIRS else 0)


def _sample(rows: NDArray[np.int64], hit: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Array]:
    """Rows to fit on, and how many each stands for: all hits, and of the misses a share."""
    misses = rows[~hit[rows]]
    if len(misses) <= _MOST_MISSES:
        return rows, np.ones(len(rows))
    taken = np.random.default_rng(0).choice(misses, _MOST_MISSES, replace=False)
    rows = np.sort(np.concatenate([rows[hit[rows]], taken]))
    return rows, np.where(hit[rows], 1.0, len(misses) / _MOST_MISSES)


def _features(
    fused: BoxTable,
    trace: Trace,
    tables: Sequence[BoxTable],
    rows: NDArray[np.int64] | slice = slice(None),
) -> Array:
    """Features of the K fused boxes at `rows`, [K, F]."""
    best = _best_members(trace, tables)[rows]
    absent = np.isinf(best)
    odds = np.where(absent, 0.0, np.clip(best, -_MOST_ODDS, _MOST_ODDS))
    away = absent.astype(np.float64)
    side = 0.5 * np.log(np.maximum(box_area(fused.xyxy[rows]), 1.0))[:, None]
    pairs = [
        (a * b)[:, None]
        for i, j in combinations(range(len(tables) if len(tables) <= _MOST_IN_PAIRS else 0), 2)
        for a in (odds[:, i], away[:, i])
        for b in (odds[:, j], away[:, j])
    ]
    return np.concatenate(
        [odds, away, side, odds**2, side * odds, side * away, side**2, *pairs], axis=1
    )


def _best_members(trace: Trace, tables: Sequence[BoxTable]) -> Array:
    """Log odds of the best box that each run has in each fused box, -inf where none; [K, R]."""
    fused = len(trace.offsets) - 1
    best = np.full((fused, len(tables)), -np.inf)
    box = np.repeat(np.arange(fused), np.diff(trace.offsets))
    for run, table in enumerate(tables):
        assert table.score is not None
        own = trace.run == run
        np.maximum.at(best[:, run], box[own], logit(table.score[trace.row[own]]))
    return best


def _regress(x: Array, base: Array, hit: Array, weight: Array) -> Array:
    """The line [F + 1] of greatest likelihood beside the log odds `base` [K]: Newton, damped."""
    ridge = np.full(x.shape[1], _PRIOR)
    ridge[-1] = _FREE
    line = np.zeros(x.shape[1])
    loss = _loss(base, hit, weight, ridge, line)
    for _ in range(_STEPS):
        chance = logistic(base + x @ line)
        slope = x.T @ (weight * (chance - hit)) + ridge * line
        bend = (x.T * (weight * chance * (1 - chance))) @ x + np.diag(ridge)
        step, size = np.linalg.solve(bend, slope), 1.0
        trial = _loss(base + x @ (line - step), hit, weight, ridge, line - step)
        while trial > loss and size > 1e-6:
            size /= 2
            moved = line - size * step
            trial = _loss(base + x @ moved, hit, weight, ridge, moved)
        if trial > loss:
            break
        line, loss = line - size * step, trial
        if np.abs(size * step).max() < 1e-8:
            break
    return line


def _loss(value: Array, hit: Array, weight: Array, ridge: Array, line: Array) -> float:
    likelihood = np.sum(weight * (np.logaddexp(0, value) - hit * value))
    return float(likelihood + 0.5 * np.sum(ridge * line**2))
