"""Ensembles under limits of megabytes and milliseconds, and the front of what cost buys."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import Array, BoxTable, Classes, Images, InputError
from smallobj.ensemble.greedy import ScoreMemo
from smallobj.ensemble.limits import Costs, Limits, costs_of
from smallobj.ensemble.pareto import pareto_front
from smallobj.ensemble.selection import select_weights
from smallobj.formats import Run, RunCost, RunInfo, cost_of, read_run, write_run

CLASSES = Classes.of(["car"])
Weights = tuple[float, ...]


def costs(*rows: tuple[float | None, float | None]) -> Costs:
    models = tuple("abcdefghijkl"[: len(rows)])
    return Costs(
        models=models, runs=tuple(RunCost(m, *row) for m, row in zip(models, rows, strict=True))
    )


def covering(weights: Sequence[Weights]) -> Array:
    """The more runs, the better, the later ones more; weights do not matter."""
    taken = np.array(weights) > 0
    return (taken * (1 + np.arange(taken.shape[1]))).sum(axis=1)[:, None] / 100


@pytest.fixture
def written(tmp_path: Path):
    def write(name: str, weight_mb: float | None = None, latency_ms: float | None = None) -> Run:
        table = BoxTable.build(
            images=Images.of(["0.png"]),
            classes=CLASSES,
            image_index=np.zeros(1, np.int64),
            xyxy=np.array([[0.0, 0.0, 10.0, 10.0]]),
            label=np.zeros(1, np.int32),
            score=np.ones(1),
        )
        info = RunInfo(
            model=f"model-{name}", classes=CLASSES, weight_mb=weight_mb, latency_ms=latency_ms
        )
        write_run(tmp_path / f"{name}.json", table, info)
        return read_run(tmp_path / f"{name}.json")

    return write


def test_costs_come_from_the_runs_and_a_file_overrules_them(written, tmp_path) -> None:
    runs = [written("a", 10, 5), written("b")]
    models = ["model-a", "model-b"]
    assert costs_of(runs, models).of((1, 0)) == (10, 5)
    assert costs_of(runs, models).of((1, 1)) == (None, None)
    file = tmp_path / "costs.toml"
    file.write_text("[model-a]\nlatency_ms = 7\n[model-b]\nweight_mb = 2.5\nlatency_ms = 1\n")
    assert costs_of(runs, models, file).of((2, 1)) == (12.5, 8)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[model-z]\nweight_mb = 1", "item model-z: is none of the models"),
        ("[model-a]\nsize = 1", "unknown; known: weight_mb, latency_ms"),
        ("[model-a]\nweight_mb = -1", "field weight_mb: has to be a number from 0 up"),
        ("[model-a]\nweight_mb = nan", "has to be a number from 0 up"),
        ("[model-a]\nweight_mb = true", "has to be a number from 0 up"),
        ("model-a = 3", "has to be a table"),
        ("[model-a", "is not TOML"),
    ],
)
def test_a_faulty_costs_file_is_refused(text: str, reason: str, written, tmp_path) -> None:
    file = tmp_path / "costs.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"costs\.toml") as error:
        costs_of([written("a")], ["model-a"], file)
    assert reason in str(error.value)


def test_a_missing_costs_file_is_refused(written, tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        costs_of([written("a")], ["model-a"], tmp_path / "none.toml")


def test_a_run_that_does_not_tell_its_cost_is_named_with_the_way_to_give_it() -> None:
    with pytest.raises(InputError, match=r"item b: field latency_ms: .*\.run\.toml.*--costs"):
        Limits(latency_ms=10).holds(costs((1, 1), (1, None)))
    assert Limits(weight_mb=10).holds(costs((1, 1), (1, None))) is not None
    assert Limits().holds(costs((None, None))) is None


def test_limits_that_no_run_keeps_are_refused() -> None:
    with pytest.raises(InputError, match="field max_weight_mb: no run fits: the smallest costs 20"):
        Limits(weight_mb=10).holds(costs((20, 1), (30, 1)))
    with pytest.raises(InputError, match="no run keeps both limits"):
        Limits(weight_mb=10, latency_ms=10).holds(costs((5, 20), (20, 5)))
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="above 0"):
            Limits(weight_mb=value)


def test_weights_are_repetitions_and_shared_files_count_once() -> None:
    allowed = Limits(weight_mb=30).holds(costs((10, 1), (20, 1), (1, 1)))
    assert allowed is not None
    assert allowed((5, 3, 0))
    assert not allowed((1, 1, 1))
    views = Costs(models=("a", "a-tta"), runs=(RunCost("a", 10, 1), RunCost("a", 10, 4)))
    assert views.of((1, 1)) == (10, 5)


def test_the_best_ensemble_within_the_limit_is_selected() -> None:
    priced = costs((10, 1), (10, 1), (10, 1), (10, 1))
    allowed = Limits(weight_mb=20).holds(priced)
    (found,) = select_weights(covering, 4, bags=0, allowed=allowed)
    assert found.weights == (0, 0, 1, 1)


@given(data=st.data(), runs=st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_under_any_limits_the_choice_keeps_them_and_is_not_below_a_run_that_fits(
    data: st.DataObject, runs: int
) -> None:
    number = st.integers(1, 20).map(float)
    priced = costs(*data.draw(st.lists(st.tuples(number, number), min_size=runs, max_size=runs)))
    mb, ms = data.draw(number), data.draw(number)
    seed = data.draw(st.integers(0, 1000))

    def score(weights: Sequence[Weights]) -> Array:
        return np.array([np.random.default_rng([seed, *map(int, w)]).random(3) for w in weights])

    try:
        allowed = Limits(weight_mb=mb, latency_ms=ms).holds(priced)
    except InputError:
        assert all(run.weight_mb > mb or run.latency_ms > ms for run in priced.runs)
        return
    assert allowed is not None
    (found,) = select_weights(score, runs, bags=2, allowed=allowed)
    total_mb, total_ms = priced.of(found.weights)
    assert total_mb <= mb
    assert total_ms <= ms
    alone = [tuple(row) for row in np.eye(runs).tolist() if allowed(tuple(row))]
    assert found.score >= score(alone)[:, 0].max()


def test_the_front_holds_every_subset_and_marks_what_is_dominated() -> None:
    priced = costs((10, 5), (10, 50), (1, 50))
    rows = pareto_front(ScoreMemo(covering), priced)
    assert {row.runs for row in rows} == {
        subset for size in (1, 2, 3) for subset in itertools.combinations(range(3), size)
    }
    by_runs = {row.runs: row for row in rows}
    assert by_runs[1,].dominated  # run 2 is smaller, as fast, and better
    assert not by_runs[0,].dominated  # the fastest
    assert not by_runs[0, 1, 2].dominated  # the best
    assert (by_runs[0, 2].weight_mb, by_runs[0, 2].latency_ms) == (11, 55)
    assert rows[0].runs == (2,)


def test_without_costs_the_number_of_runs_is_the_price() -> None:
    rows = pareto_front(ScoreMemo(covering), costs((None, None), (1, None), (1, None)))
    assert [row.runs for row in rows if not row.dominated] == [(2,), (1, 2), (0, 1, 2)]


def test_the_front_takes_the_best_weights_met_for_a_subset() -> None:
    def score(weights: Sequence[Weights]) -> Array:
        return np.array([[0.9 if weight == (3, 1) else 0.5] for weight in weights])

    rows = pareto_front(ScoreMemo(score), costs((1, 1), (1, 1)), (3, 1))
    assert {row.runs: row.weights for row in rows}[0, 1] == (3, 1)


def test_the_front_of_many_runs_is_what_greedy_met() -> None:
    memo = ScoreMemo(covering)
    select_weights(memo, 12, bags=0, rounds=3)
    before = len(memo)
    rows = pareto_front(memo, costs(*[(1.0, 1.0)] * 12))
    assert len(memo) == before
    assert {len(row.runs) for row in rows} >= {1, 2, 3}


def test_the_infos_of_runs_tell_their_costs() -> None:
    info = RunInfo(model="m", classes=CLASSES, weight_mb=3, latency_ms=4)
    assert cost_of(info, "run") == RunCost("m", 3, 4)
    assert cost_of(None, "run") == RunCost("run", None, None)
