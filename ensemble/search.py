"""Searching the space of settings with Optuna's TPE, alone or with several machines."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import random
from threading import Event
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from smallobj.boxes import InputError
from smallobj.boxes.compiled import cpu_count
from smallobj.ensemble.candidates import Candidate
from smallobj.ensemble.config import CONFIDENCE_RULES, METHODS, FusionConfig
from smallobj.ensemble.steps import Pool, Start

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage

Result = TypeVar("Result")

_HEARTBEAT_S = 30  # a machine that is silent for three of them is lost, and its trial tried again
_RETRIES = 3
_OPENINGS = 6
_INPUTS = "smallobj inputs"  # the study's own note of what it is a search of


@dataclass(frozen=True, kw_only=True)
class Search:
    """How long to search, and where the trials are kept."""

    trials: int  # of every fit, in all
    storage: str | None = None  # URL of a database that machines share; None: in memory
    study: str = "smallobj"  # its name there; each fit has one of its own, NAME/fit

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"at least one trial is needed, not {self.trials}")


def search_pools(
    start: Start, search: Search, simple: Sequence[FusionConfig], *, inputs: str
) -> list[Pool]:
    """What the study of every fit tried, scored on the fit's own images, after `simple` settings.

    Each fit has a study of its own, which sees the fit's images alone: what one study learnt from
    a fold must not lead another that is judged on it. The studies go side by side. simple: the runs
    alone and the untuned default, which begins every study. inputs: what the scores depend on.

    Raises InputError where the storage cannot be used or holds a study of other inputs.
    """
    start.expect(search.trials * len(start.fits))
    stop = Event()
    with _quiet():
        storage = _patient(search, lambda: _storage(search.storage))
        studies = [
            _open(search, storage, fit, seed=start.seed, inputs=inputs)
            for fit in range(len(start.fits))
        ]

        def run(fit: int) -> None:
            _optimize(studies[fit], start, fit, trials=search.trials, untuned=simple[-1], stop=stop)

        with ThreadPoolExecutor(cpu_count()) as threads:
            try:
                list(threads.map(run, range(len(studies))))
            except BaseException:
                stop.set()  # Ctrl-C: let every study end with the trial it is at
                raise
    base = [Candidate(config=config) for config in start.may(simple)]
    return [_pool(start, study, fit, base, simple[-1]) for fit, study in enumerate(studies)]


def _open(
    search: Search, storage: "BaseStorage | None", fit: int, *, seed: int, inputs: str
) -> "Study":
    import optuna  # noqa: PLC0415

    shared = storage is not None  # machines of one seed would try the same
    sampler = optuna.samplers.TPESampler(
        seed=None if shared else seed + fit, multivariate=True, constant_liar=shared
    )
    study = _patient(
        search,
        lambda: optuna.create_study(
            storage=storage,
            study_name=f"{search.study}/{fit}",
            sampler=sampler,
            direction="maximize",
            load_if_exists=True,
        ),
    )
    known = study.user_attrs.get(_INPUTS)
    if known is None:
        study.set_user_attr(_INPUTS, inputs)
    elif known != inputs:
        raise InputError(
            "this study searched other runs, labels, metric or folds; name another by --study",
            field="study",
            value=search.study,
        )
    return study


def _patient(search: Search, work: Callable[[], Result]) -> Result:
    """Do what needs the database, again where another machine was making its tables just then.

    Raises InputError where the database cannot be used.
    """
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    for left in reversed(range(_OPENINGS)):
        try:
            return work()
        except Exception as error:  # SQLAlchemy's own, the driver's, or a missing driver
            reason = str(error).splitlines()[0]
            if not left or isinstance(error, ImportError | ValueError | ArgumentError):
                raise InputError(
                    f"cannot be used: {reason}", field="storage", value=search.storage
                ) from error
            sleep(0.2 + 0.3 * random())
    raise AssertionError("the last opening returns or raises")


def _storage(url: str | None) -> "BaseStorage | None":
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback  # noqa: PLC0415

    if url is None:
        return None
    return RDBStorage(
        url,
        heartbeat_interval=_HEARTBEAT_S,
        grace_period=3 * _HEARTBEAT_S,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES),
        engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
    )


def _optimize(
    study: "Study", start: Start, fit: int, *, trials: int, untuned: FusionConfig, stop: Event
) -> None:
    """Go on to so many complete trials, those of other machines counted."""
    from optuna.trial import TrialState  # noqa: PLC0415

    def complete() -> int:
        return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    def objective(trial: "Trial") -> float:
        config = _suggest(trial, start.scorer.runs, untuned)
        if not start.may([config]):
            return -1.0  # over a limit
        score = start.scorer.score([Candidate(config=config)], fit)[0, 0]
        return float(np.nan_to_num(score, nan=-1.0))

    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(_params(untuned, start.scorer.runs), skip_if_exists=True)
    if start.scorer.on_scored is not None:
        start.scorer.on_scored(min(complete(), trials))
    while not stop.is_set() and complete() < trials:
        study.optimize(objective, n_trials=1)


def _suggest(trial: "Trial", runs: int, untuned: FusionConfig) -> FusionConfig:
    trial.suggest_categorical("method", METHODS)
    trial.suggest_float("iou", 0.3, 0.9)
    trial.suggest_float("skip", 1e-4, 0.2, log=True)
    trial.suggest_categorical("conf_type", CONFIDENCE_RULES)
    trial.suggest_float("shift_px", 0.0, 5.0)
    trial.suggest_int("min_votes", 1, min(runs, 3))
    trial.suggest_float("sigma", 0.05, 1.0, log=True)
    for run in range(runs):
        trial.suggest_float(f"weight {run}", 0.0, 1.0)
    return _config(trial.params, runs, untuned)


def _config(params: dict[str, Any], runs: int, untuned: FusionConfig) -> FusionConfig:
    """The settings of a trial: shares under a twentieth of the largest leave a run out."""
    weights = [params[f"weight {run}"] for run in range(runs)]
    largest = max(weights)
    shares = tuple(round(weight / largest, 3) if largest > 0 else 1.0 for weight in weights)
    soft = params["method"] == "soft_nms"
    return FusionConfig(
        method=params["method"],
        iou=round(params["iou"], 4),
        skip=float(f"{params['skip']:.4g}"),
        conf_type=params["conf_type"] if params["method"] == "wbf" else untuned.conf_type,
        shift_px=0.0 if soft else round(params["shift_px"], 2),
        min_votes=1 if soft else params["min_votes"],
        sigma=round(params["sigma"], 4) if soft else untuned.sigma,
        weights=tuple(share if share >= 0.05 else 0.0 for share in shares),
        max_detections=untuned.max_detections,
        models=untuned.models,
        nms_iou=untuned.nms_iou,
    )


def _params(config: FusionConfig, runs: int) -> dict[str, Any]:
    """The parameters of a trial that has these settings, all weights equal."""
    names = ("method", "iou", "skip", "conf_type", "shift_px", "min_votes", "sigma")
    return {name: getattr(config, name) for name in names} | {
        f"weight {run}": 1.0 for run in range(runs)
    }


def _pool(
    start: Start, study: "Study", fit: int, base: Sequence[Candidate], untuned: FusionConfig
) -> Pool:
    """The settings of complete trials with their values, in the order they were tried."""
    from optuna.trial import TrialState  # noqa: PLC0415

    simple = start.pool(base, fit)
    found = dict(zip(simple.candidates, simple.scores.tolist(), strict=True))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        config = _config(trial.params, start.scorer.runs, untuned)
        if trial.value is not None and start.may([config]):
            found.setdefault(Candidate(config=config), trial.value)
    return Pool(list(found), np.array(list(found.values())))


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells every trial on stderr, and warns of what it calls experimental."""
    import warnings  # noqa: PLC0415

    import optuna  # noqa: PLC0415

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
