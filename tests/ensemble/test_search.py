import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from smallobj.boxes import BoxTable, InputError
from smallobj.ensemble import Plan, Search, Tuning, tune

MODELS = ("a", "b")
Data = tuple[BoxTable, list[BoxTable]]
TRIALS = 4
FITS = 3

ONE_MACHINE = """
import pickle, sys
from smallobj.ensemble import Plan, Search, tune
truth, tables = pickle.load(open(sys.argv[1], "rb"))
search = Search(trials=int(sys.argv[3]), storage=sys.argv[2])
tune(truth, tables, ("a", "b"), Plan(search=search, folds=2, calibrate="none"))
"""


@pytest.fixture(scope="module")
def data(random_tables: Callable[..., list[BoxTable]]) -> Data:
    """Truth, and two runs that each see part of it."""
    rng = np.random.default_rng(7)
    seen = random_tables(rng, images=16, runs=1, noise=4)[0]
    runs = [
        replace(
            seen, xyxy=seen.xyxy + rng.normal(0, 3, seen.xyxy.shape), score=rng.random(len(seen))
        ).filter_rows(rng.random(len(seen)) < 0.7)
        for _ in range(2)
    ]
    return replace(seen, score=None), runs


def _tune(data: Data, **search: object) -> Tuning:
    plan = Plan(search=Search(trials=TRIALS, **search), folds=2, calibrate="none")
    return tune(*data, MODELS, plan)


def _trials(url: str) -> list[int]:
    """Complete trials of the study of each fit."""
    names = sorted(optuna.get_all_study_names(url))
    assert names == [f"smallobj/{fit}" for fit in range(FITS)]
    return [
        sum(
            trial.state == optuna.trial.TrialState.COMPLETE
            for trial in optuna.load_study(study_name=name, storage=url).trials
        )
        for name in names
    ]


def test_a_search_is_no_worse_than_where_it_begins_and_the_same_every_time(data: Data) -> None:
    first, again = _tune(data), _tune(data)
    assert first.as_dict() == again.as_dict()
    step = first.steps[1]
    assert step.name == "search"
    untuned = first.settings.index(step.chosen[0].config)
    assert first.scores[untuned] == step.all_images >= max(first.scores[:3])
    assert len(first.settings) <= 3 + TRIALS


def test_a_search_goes_on_to_the_number_of_trials_in_all(data: Data, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    _tune(data, storage=url)
    assert _trials(url) == [TRIALS] * FITS
    _tune(data, storage=url)
    assert _trials(url) == [TRIALS] * FITS


def test_a_study_of_other_inputs_is_not_gone_on_with(data: Data, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    _tune(data, storage=url)
    truth, tables = data
    with pytest.raises(InputError, match="searched other runs"):
        _tune((truth, tables[::-1]), storage=url)


@pytest.mark.parametrize("url", ["nothing", "sqlite:////nowhere/at/all/search.db", "nodb://x/y"])
def test_a_storage_that_cannot_be_used_is_told(data: Data, url: str) -> None:
    with pytest.raises(InputError, match="field storage"):
        _tune(data, storage=url)


def test_two_processes_work_on_one_search(data: Data, tmp_path: Path) -> None:
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(data))
    url, trials = f"sqlite:///{tmp_path / 'search.db'}", 5
    command = [sys.executable, "-c", ONE_MACHINE, str(tmp_path / "data.pkl"), url, str(trials)]
    machines = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [machine.communicate(timeout=300)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], told
    for complete in _trials(url):
        assert trials <= complete <= trials + 1  # both may be at the last one
