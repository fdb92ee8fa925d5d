"""Which runs belong in an ensemble, with which weights, and what each of them brings.

Weights come from bagged greedy forward selection (`greedy_weights`). Bags are bootstrap draws of
the images, so that a run must help on many draws and not on one (Caruana et al., ICML 2004).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array
from smallobj.ensemble.greedy import (
    Allowed,
    Score,
    ScoreMemo,
    Weights,
    allowed_singles,
    greedy_weights,
    lowest_terms,
    simplest_best,
)

_LEAST_STEPS = 20  # a share is rounded to this part of the whole, finer above ten runs


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The weights found for one fit, and what they score on its own images."""

    weights: Weights  # small whole numbers without a common divisor; 0: left out
    score: float
    single: int  # the run that is best alone, of those that are allowed
    single_score: float

    @property
    def single_is_best(self) -> bool:
        """Whether no ensemble that was found beats the best run alone."""
        return sum(weight > 0 for weight in self.weights) == 1


def bag_parts(fits: NDArray[np.int64], *, bags: int, seed: int = 0) -> NDArray[np.int64]:
    """Each fit followed by `bags` bootstrap draws of its images; [F, N] to [F * (1 + bags), N].

    fits: how often each image counts in each fit, whole numbers from 0 up.
    """
    rows = []
    for number, fit in enumerate(fits):
        generator = np.random.default_rng((seed, number))
        total = int(fit.sum())
        chances = fit / total if total else np.full(len(fit), 1 / len(fit))
        rows += [fit, *generator.multinomial(total, chances, size=bags)]
    return np.array(rows, np.int64)


def select_weights(
    score: Score,
    runs: int,
    *,
    bags: int,
    rounds: int = 20,
    allowed: Allowed | None = None,
    budget: int | None = None,
) -> tuple[Selection, ...]:
    """The weights for every fit: those of its bags averaged, or one run alone where that is better.

    score gives F * (1 + bags) parts, laid out by `bag_parts`; with bags 0 the fits themselves are
    walked. On its own fit a selection is never below the best run alone that is allowed. `allowed`
    must hold for an ensemble wherever it holds for one of the same runs and more. `rounds` and
    `budget` are those of `greedy_weights`. Raises ValueError where not even one run is allowed.
    """
    memo = score if isinstance(score, ScoreMemo) else ScoreMemo(score)
    singles = allowed_singles(runs, allowed)
    counts = greedy_weights(memo, runs, rounds=rounds, allowed=allowed, budget=budget)
    by_fit = counts.reshape(-1, 1 + bags, runs)
    averaged = [
        average_weights(fit[1:] if bags else fit, allowed=allowed) or singles[0] for fit in by_fit
    ]
    scores = memo([*singles, *averaged])[:, :: 1 + bags]  # [S, F]
    return tuple(
        _at_least_single(
            singles, weights, scores[: len(singles), fit], scores[len(singles) + fit, fit]
        )
        for fit, weights in enumerate(averaged)
    )


def average_weights(counts: NDArray[np.int64], *, allowed: Allowed | None = None) -> Weights | None:
    """One weight a run from the counts of several bags, [B, R]; None where all are 0.

    Every bag gives each run its share. The mean shares are rounded to steps of 5 % (finer above
    ten runs), so a run that hardly any bag took falls out. Where the runs of all bags together are
    not allowed, those of the smallest share are left out first.
    """
    taken = counts[counts.sum(axis=1) > 0]
    if not len(taken):
        return None
    shares = (taken / taken.sum(axis=1, keepdims=True)).mean(axis=0)
    weights = np.floor(shares * max(_LEAST_STEPS, 2 * len(shares)) + 0.5)
    for run in np.argsort(shares, kind="stable"):
        if allowed is None or allowed(tuple(weights.tolist())):
            break
        weights[run] = 0
    return lowest_terms(tuple(weights.tolist()))


def leave_one_out(score: Score, weights: Weights) -> Array:
    """What each run brings: the score of the ensemble less that without the run; [R, P].

    0 for a run that is not in it; the whole score for one that is alone. NaN as the score has it.
    """
    used = [run for run, weight in enumerate(weights) if weight > 0]
    whole = score([weights])[0]
    gains = np.zeros((len(weights), len(whole)))
    gains[used] = whole
    if len(used) > 1:
        gains[used] -= score([without(weights, run) for run in used])
    return gains


def without(weights: Weights, run: int) -> Weights:
    """The weights with one run left out."""
    return (*weights[:run], 0.0, *weights[run + 1 :])


def _at_least_single(
    singles: Sequence[Weights], weights: Weights, alone: Array, score: float
) -> Selection:
    """The weights of `score`, or the best single run where they do not beat its score [R]."""
    best = simplest_best(singles, alone)
    found = [singles[best], weights]
    chosen = simplest_best(found, np.array([alone[best], score]))
    return Selection(
        weights=found[chosen],
        score=float((alone[best], score)[chosen]),
        single=singles[best].index(1.0),
        single_score=float(alone[best]),
    )
