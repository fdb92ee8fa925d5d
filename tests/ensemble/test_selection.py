"""Selection against tables of scores: what is added, what is left out, what it never does."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import Array
from smallobj.ensemble.greedy import ScoreMemo, greedy_weights, lowest_terms
from smallobj.ensemble.selection import (
    average_weights,
    bag_parts,
    leave_one_out,
    select_weights,
)

Weights = tuple[float, ...]
Score = Callable[[Sequence[Weights]], Array]


def shares(weights: Sequence[Weights]) -> Array:
    weighted = np.array(weights, float)
    return weighted / weighted.sum(axis=1, keepdims=True)


def near(*targets: Sequence[float]) -> Score:
    """One part a target: the nearer the shares of the runs, the higher the score."""

    def score(weights: Sequence[Weights]) -> Array:
        gap = shares(weights)[:, None] - shares([tuple(t) for t in targets])[None]
        return 1 - (gap**2).sum(axis=2)

    return score


def complementary(weights: Sequence[Weights]) -> Array:
    """Runs 0 and 1 see different objects, run 2 only false ones; one part."""
    first, second, third = (np.array(weights) > 0).T
    return (0.6 * first + 0.3 * second + 0.1 * third - 0.2 * (third & (first | second)))[:, None]


def hashed(seed: int, parts: int) -> Score:
    """Any score there is: a number from 0 to 1 for every ensemble and part."""

    def one(weights: Weights) -> Array:
        counts = [int(weight) for weight in lowest_terms(weights)]
        return np.random.default_rng([seed, *counts]).random(parts)

    return lambda weights: np.array([one(weight) for weight in weights])


def test_two_complementary_runs_are_taken_and_a_harmful_one_is_left_out() -> None:
    assert greedy_weights(complementary, 3).tolist() == [[1, 1, 0]]


def test_how_often_a_run_is_added_is_its_weight() -> None:
    assert greedy_weights(near([3, 1, 0]), 3).tolist() == [[3, 1, 0]]


def test_every_part_walks_its_own_way() -> None:
    found = greedy_weights(near([1, 0, 0], [0, 2, 1], [1, 1, 1]), 3)
    assert found.tolist() == [[1, 0, 0], [0, 2, 1], [1, 1, 1]]


def test_of_equal_ensembles_the_simplest_is_kept() -> None:
    found = greedy_weights(lambda weights: np.ones((len(weights), 2)), 4)
    assert found.tolist() == [[1, 0, 0, 0]] * 2


def test_a_part_without_a_true_box_takes_no_run() -> None:
    def score(weights: Sequence[Weights]) -> Array:
        return np.hstack([complementary(weights), np.full((len(weights), 1), np.nan)])

    assert greedy_weights(score, 3).tolist() == [[1, 1, 0], [0, 0, 0]]


def test_no_ensemble_is_scored_twice_and_a_round_is_one_call() -> None:
    calls: list[list[Weights]] = []
    target = near([3, 1, 0], [1, 3, 0], [2, 1, 1])

    def score(weights: Sequence[Weights]) -> Array:
        calls.append([lowest_terms(weight) for weight in weights])
        return target(weights)

    greedy_weights(score, 3, rounds=6)
    asked = list(itertools.chain(*calls))
    assert len(asked) == len(set(asked))
    assert len(calls) <= 6


def test_a_memo_knows_an_ensemble_by_its_lowest_terms() -> None:
    memo = ScoreMemo(complementary)
    first = memo([(2.0, 2.0, 0.0)])
    assert np.array_equal(memo([(1.0, 1.0, 0.0)]), first)
    assert len(memo) == 1


def test_only_what_is_allowed_is_scored() -> None:
    def allowed(weights: Weights) -> bool:
        return not (weights[0] > 0 and weights[1] > 0)

    def score(weights: Sequence[Weights]) -> Array:
        assert all(allowed(weight) for weight in weights)
        return complementary(weights)

    assert greedy_weights(score, 3, allowed=allowed).tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match="not even one run"):
        greedy_weights(score, 3, allowed=lambda _: False)


def test_many_runs_need_few_ensembles_and_still_leave_the_harmful_out() -> None:
    target = np.r_[np.full(5, 4), np.zeros(37)]
    scorer = ScoreMemo(near(target, target))
    found = greedy_weights(scorer, 42, rounds=30)
    assert len(scorer) < 42 + 30 * 8 + 12
    assert (found[:, 5:] == 0).all()
    assert (found[:, :5] > 0).all()


def test_a_small_budget_is_kept_and_shared_by_all_parts() -> None:
    targets = [np.roll(np.r_[np.full(8, 4), np.zeros(34)], 3 * part) for part in range(11)]
    scorer = ScoreMemo(near(*targets))
    found = greedy_weights(scorer, 42, budget=60)
    assert len(scorer) <= 42 + 60
    assert ((found > 0).sum(axis=1) > 2).all()
    for part, target in enumerate(targets):
        assert (found[part][target == 0] == 0).all()


def test_bags_are_draws_of_the_images_of_their_fit() -> None:
    fits = np.array([[1, 1, 1, 0, 0], [0, 0, 2, 1, 1], [0, 0, 0, 0, 0]])
    parts = bag_parts(fits, bags=30, seed=1).reshape(3, 31, 5)
    assert np.array_equal(parts[:, 0], fits)
    assert (parts.sum(axis=2) == fits.sum(axis=1)[:, None]).all()
    assert ((parts > 0) <= (fits[:, None] > 0)).all()
    assert len(np.unique(parts[0], axis=0)) > 5
    assert np.array_equal(parts.reshape(-1, 5), bag_parts(fits, bags=30, seed=1))


def test_bags_are_averaged_by_shares_and_rare_runs_fall_out() -> None:
    assert average_weights(np.array([[2, 0], [0, 7]])) == (1, 1)
    assert average_weights(np.array([[3, 1, 0], [0, 0, 0]])) == (3, 1, 0)
    rare = np.array([[1, 0]] * 49 + [[0, 1]])
    assert average_weights(rare) == (1, 0)
    assert average_weights(np.zeros((2, 3), int)) is None
    forty_two = average_weights(np.ones((1, 42), int))
    assert forty_two == (1.0,) * 42


def test_bags_together_are_held_to_the_limit_too() -> None:
    counts = np.array([[2, 1, 0], [2, 0, 1], [2, 1, 0]])
    two_at_most = average_weights(counts, allowed=lambda w: sum(x > 0 for x in w) <= 2)
    assert two_at_most is not None
    assert [weight > 0 for weight in two_at_most] == [True, True, False]


def test_what_a_run_brings_is_the_score_less_that_without_it() -> None:
    assert np.allclose(leave_one_out(complementary, (1, 1, 0)), [[0.6], [0.3], [0]])
    assert np.allclose(leave_one_out(complementary, (1, 1, 1))[2], -0.1)
    assert np.allclose(leave_one_out(complementary, (0, 2, 0)), [[0], [0.3], [0]])


def test_one_run_alone_is_said_to_be_best_where_it_is() -> None:
    (alone,) = select_weights(near([0, 1, 0]), 3, bags=0)
    assert alone.single_is_best
    assert alone.weights == (0, 1, 0)
    (both,) = select_weights(complementary, 3, bags=0)
    assert not both.single_is_best
    assert both.weights == (1, 1, 0)
    assert both.score == pytest.approx(0.9)


@given(
    seed=st.integers(0, 10**6),
    runs=st.integers(1, 15),
    fits=st.integers(1, 3),
    bags=st.integers(0, 3),
    most=st.integers(1, 4),
)
@settings(deadline=None, max_examples=60)
def test_a_selection_is_never_below_the_best_allowed_run_and_is_allowed(
    seed: int, runs: int, fits: int, bags: int, most: int
) -> None:
    banned = seed % runs if runs > 1 else -1

    def allowed(weights: Weights) -> bool:
        taken = [run for run, weight in enumerate(weights) if weight > 0]
        return len(taken) <= most and banned not in taken

    score = hashed(seed, fits * (1 + bags))
    found = select_weights(score, runs, bags=bags, rounds=6, allowed=allowed, budget=300)
    alone = score([tuple(row) for row in np.eye(runs).tolist()])[:, :: 1 + bags]
    assert len(found) == fits
    for fit, selection in enumerate(found):
        assert allowed(selection.weights)
        best = max(alone[run, fit] for run in range(runs) if run != banned)
        assert selection.single_score == best == alone[selection.single, fit]
        assert selection.score >= best
        assert selection.score == score([selection.weights])[0, fit * (1 + bags)]
    assert found == select_weights(score, runs, bags=bags, rounds=6, allowed=allowed, budget=300)


@given(seed=st.integers(0, 10**6), runs=st.integers(2, 6))
@settings(deadline=None, max_examples=40)
def test_greedy_does_not_depend_on_the_order_of_the_runs(seed: int, runs: int) -> None:
    target = np.random.default_rng(seed).random(runs)
    order = np.random.default_rng(seed + 1).permutation(runs)
    found = greedy_weights(near(target), runs)
    assert np.array_equal(greedy_weights(near(target[order]), runs), found[:, order])
