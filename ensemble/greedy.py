"""Greedy forward selection with replacement, for many parts of the images at once.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML
2004: from the best run on, the run whose addition scores best is added, again where it is there
already; how often a run was added is its weight.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import gcd, isnan

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array

Weights = tuple[float, ...]
# Weights of S ensembles -> [S, P], NaN where a part has no true box. Weights with one run above 0
# mean that run as it is, not its own boxes fused.
Score = Callable[[Sequence[Weights]], Array]
Allowed = Callable[[Weights], bool]

_TIE = 1e-9  # scores nearer than this are equal, and the simpler ensemble is taken
_MANY_RUNS = 12  # above it a walk starts from several runs and looks at few candidates
_FEW = 8  # candidates then
_SIZES = (2, 4, 8, 16, 32, 64, 128, 3, 6, 12, 24, 48, 96, 5, 7)  # of a start, the first ones first


class ScoreMemo:
    """A score that asks for each ensemble once: (2, 2, 0) is (1, 1, 0)."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self._known: dict[Weights, Array] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def known(self) -> Mapping[Weights, Array]:
        """The ensembles scored so far, in lowest terms, and their scores [P]."""
        return self._known

    def new(self, keys: Sequence[Weights]) -> int:
        """How many of these, distinct and in lowest terms, were not asked for yet."""
        return sum(key not in self._known for key in keys)

    def __call__(self, weights: Sequence[Weights]) -> Array:
        """[S, P], the new ensembles scored in one call."""
        keys = [lowest_terms(weight) for weight in weights]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            self._known.update(zip(new, self._score(new), strict=True))
        return np.array([self._known[key] for key in keys])


def greedy_weights(
    score: Score,
    runs: int,
    *,
    rounds: int = 20,
    patience: int = 3,
    allowed: Allowed | None = None,
    budget: int | None = None,
) -> NDArray[np.int64]:
    """How often greedy forward selection took each run, for every part of the score; [P, runs].

    Each part walks its own way; the ensembles that all parts want next are scored in one call,
    none twice. A way ends after `patience` rounds without a gain, after `rounds`, or where nothing
    more is allowed; its best ensemble is kept, of equals the simplest. Above 12 runs a way starts
    from its best few together and then tries the 8 runs that last looked best. `budget` bounds how
    many ensembles are scored beside the runs alone: near its end every way tries fewer. A part
    without a true box takes no run: a row of 0. Raises ValueError where not even one run is
    allowed.
    """
    memo = score if isinstance(score, ScoreMemo) else ScoreMemo(score)
    singles = allowed_singles(runs, allowed)
    first = memo(singles)  # [allowed runs, P]
    walks = [_Walk(singles, first[:, part], allowed) for part in range(first.shape[1])]
    most = None if budget is None else len(memo) + budget
    if runs > _MANY_RUNS:
        _advance(walks, memo, [walk.together() for walk in walks], most)
    for _ in range(rounds - 1):
        wanted = [walk.candidates() if walk.idle < patience else [] for walk in walks]
        if not _advance(walks, memo, wanted, most):
            break
    return np.array([walk.best for walk in walks], np.int64).reshape(-1, runs)


def allowed_singles(runs: int, allowed: Allowed | None) -> list[Weights]:
    """Every run alone that is allowed; ValueError where none is."""
    alone = [tuple(float(other == run) for other in range(runs)) for run in range(runs)]
    found = [weights for weights in alone if allowed is None or allowed(weights)]
    if not found:
        raise ValueError("not even one run alone is allowed")
    return found


def lowest_terms(weights: Weights) -> Weights:
    """Whole-number weights without their common divisor, others as they are."""
    if not any(weights) or not all(float(weight).is_integer() for weight in weights):
        return tuple(map(float, weights))
    divisor = reduce(gcd, (int(weight) for weight in weights))
    return tuple(float(weight) / divisor for weight in weights)


def simplest_best(ensembles: Sequence[Weights], scores: Array) -> int:
    """The place of the best score [S]; of equal ones the fewest runs, then the least weights.

    NaN counts below every score.
    """
    scores = np.nan_to_num(scores, nan=-1.0)
    best = np.flatnonzero(scores >= scores.max() - _TIE).tolist()
    return min(best, key=lambda place: (_runs_of(ensembles[place]), sum(ensembles[place])))


class _Walk:
    """The way of one part: the ensemble it stands at, the best it met, the rounds since."""

    def __init__(self, singles: Sequence[Weights], scores: Array, allowed: Allowed | None) -> None:
        self._allowed = allowed
        self._outlook = {  # what each run scored when it was last tried
            single.index(1.0): float(score) for single, score in zip(singles, scores, strict=True)
        }
        self.idle = 0
        self.dead = any(map(isnan, self._outlook.values()))  # no true box: nothing to go by
        start = simplest_best(singles, scores)
        self._here = singles[start]
        self._score = -1.0 if self.dead else float(scores[start])
        self.best: Weights = (0.0,) * len(self._here) if self.dead else self._here

    def candidates(self) -> list[Weights]:
        """The ensembles with one run more, of many runs those that last looked best."""
        ranked = self._ranked()
        found = [plus for run in ranked if self._fits(plus := _with(self._here, run))]
        return found if len(self._here) <= _MANY_RUNS else found[:_FEW]

    def together(self) -> list[Weights]:
        """The best 2, 4, 8, 16, 32, then 3, 6, 12, 24, then 5 and 7 runs with equal weights."""
        found: dict[int, Weights] = {}
        here = self._here
        for run in self._ranked():
            if not here[run] and self._fits(plus := _with(here, run)):
                here = plus
                found[_runs_of(here)] = here
        return [found[size] for size in _SIZES if size in found]

    def step(self, candidates: Sequence[Weights], scores: Array) -> None:
        """Go to the best of the candidates, of scores [C]."""
        for candidate, score in zip(candidates, scores, strict=True):
            added = [run for run, weight in enumerate(candidate) if weight != self._here[run]]
            if len(added) == 1:
                self._outlook[added[0]] = float(score)
        chosen = simplest_best(candidates, scores)
        self._here = candidates[chosen]
        self.idle += 1
        if scores[chosen] > self._score + _TIE:
            self._score, self.best, self.idle = float(scores[chosen]), self._here, 0

    def _ranked(self) -> list[int]:
        return [] if self.dead else sorted(self._outlook, key=lambda run: -self._outlook[run])

    def _fits(self, weights: Weights) -> bool:
        return self._allowed is None or self._allowed(weights)


def _advance(
    walks: Sequence[_Walk], memo: ScoreMemo, wanted: Sequence[list[Weights]], most: int | None
) -> bool:
    """Score what the walks want and let them step; False where nothing is wanted or left to ask."""
    wanted = _affordable(memo, wanted, most)
    asked = _distinct(wanted)
    if not asked:
        return False
    place = {weights: index for index, weights in enumerate(asked)}
    scores = memo(asked)
    for part, (walk, candidates) in enumerate(zip(walks, wanted, strict=True)):
        if candidates:
            walk.step(candidates, scores[[place[lowest_terms(w)] for w in candidates], part])
    return True


def _affordable(
    memo: ScoreMemo, wanted: Sequence[list[Weights]], most: int | None
) -> Sequence[list[Weights]]:
    """The first few candidates of every walk, as many as `most` known ensembles leave room for."""
    if most is None:
        return wanted
    for width in range(max(map(len, wanted), default=0), 0, -1):
        cut = [candidates[:width] for candidates in wanted]
        if len(memo) + memo.new(_distinct(cut)) <= most:
            return cut
    return [[] for _ in wanted]


def _distinct(wanted: Sequence[list[Weights]]) -> list[Weights]:
    return list(dict.fromkeys(lowest_terms(w) for candidates in wanted for w in candidates))


def _with(weights: Weights, run: int) -> Weights:
    return (*weights[:run], weights[run] + 1, *weights[run + 1 :])


def _runs_of(weights: Weights) -> int:
    return sum(weight > 0 for weight in weights)
