"""What runs cost in megabytes and milliseconds, and ensembles held to a limit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smallobj.boxes import InputError, read_toml
from smallobj.ensemble.greedy import Allowed, Weights
from smallobj.formats import Run, RunCost, cost_of, sum_costs

COSTS = {"weight_mb": "MB", "latency_ms": "ms an image"}


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What each run of an ensemble costs."""

    models: tuple[str, ...]  # [R], as a recipe calls them
    runs: tuple[RunCost, ...]  # [R]

    def of(self, weights: Weights) -> tuple[float | None, float | None]:
        """MB and milliseconds of the runs with a weight; None where one is not known.

        A weight is no copy: a run counts once, and so do weights that several runs share.
        """
        return sum_costs(
            [cost for cost, weight in zip(self.runs, weights, strict=True) if weight > 0]
        )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most an ensemble may cost. Raises InputError for a limit that is not above 0."""

    weight_mb: float | None = None  # None: no limit
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name in COSTS:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError("must be a number above 0", field=f"max_{name}", value=value)

    def holds(self, costs: Costs) -> Allowed | None:
        """Whether an ensemble of the runs of `costs` keeps the limits; None where there are none.

        Raises InputError where a run does not tell what is limited, or no run keeps the limits.
        """
        wanted = [name for name in COSTS if getattr(self, name) is not None]
        if not wanted:
            return None
        for name in wanted:
            _check_known(costs, name)
        limits = tuple(getattr(self, name) for name in COSTS)

        def allowed(weights: Weights) -> bool:
            return all(
                limit is None or (cost is not None and cost <= limit)
                for cost, limit in zip(costs.of(weights), limits, strict=True)
            )

        self._check_one_fits(costs, allowed)
        return allowed

    def _check_one_fits(self, costs: Costs, allowed: Allowed) -> None:
        runs = len(costs.models)
        if any(allowed(tuple(float(r == run) for r in range(runs))) for run in range(runs)):
            return
        for name, unit in COSTS.items():
            limit, values = getattr(self, name), [getattr(run, name) for run in costs.runs]
            if limit is not None and (least := min(values)) > limit:
                raise InputError(
                    f"no run fits: the smallest costs {least:g} {unit}",
                    field=f"max_{name}",
                    value=limit,
                )
        raise InputError("no run keeps both limits", field="max_weight_mb, max_latency_ms")


def costs_of(runs: Sequence[Run], models: Sequence[str], file: Path | None = None) -> Costs:
    """What the runs say in NAME.run.toml, or a costs file says of them instead.

    models: what a recipe calls the runs. file: TOML, `[model-id]` with `weight_mb` and
    `latency_ms`. Raises InputError where it is at fault or names a model that is not among them.
    """
    said = {} if file is None else read_costs(file)
    for model in said:
        if model not in models:
            known = ", ".join(models)
            raise InputError(f"is none of the models, which are {known}", file=file, item=model)

    found = []
    for run, model in zip(runs, models, strict=True):
        told, given = cost_of(run.info, model), said.get(model, {})
        found.append(
            RunCost(
                told.model,
                given.get("weight_mb", told.weight_mb),
                given.get("latency_ms", told.latency_ms),
            )
        )
    return Costs(models=tuple(models), runs=tuple(found))


def read_costs(file: Path) -> dict[str, Mapping[str, float]]:
    """`[model-id]` tables of `weight_mb` and `latency_ms`; InputError naming what is at fault."""
    content = read_toml(file)
    for model, costs in content.items():
        if not isinstance(costs, dict):
            raise InputError(f"has to be a table: [{model}]", file=file, item=model, value=costs)
        for name, value in costs.items():
            if name not in COSTS:
                known = ", ".join(COSTS)
                raise InputError(f"unknown; known: {known}", file=file, item=model, field=name)
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                reason = "has to be a number from 0 up"
                raise InputError(reason, file=file, item=model, field=name, value=value)
    return content


def _check_known(costs: Costs, name: str) -> None:
    for model, run in zip(costs.models, costs.runs, strict=True):
        if getattr(run, name) is None:
            raise InputError(
                f'the run does not say it: give it in NAME.run.toml, or as ["{model}"]'
                f" {name} = NUMBER in a file by --costs",
                item=model,
                field=name,
            )
