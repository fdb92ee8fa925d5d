"""What runs cost: megabytes of weights and milliseconds an image."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from smallobj.formats.run_info import RunInfo


class RunCost(NamedTuple):
    """What one run costs; None where it is not known."""

    model: str  # whose weights it uses: runs that name the same share them
    weight_mb: float | None
    latency_ms: float | None


def cost_of(info: RunInfo | None, name: str) -> RunCost:
    """What a run's info tells; name: of the run, where it has none."""
    if info is None:
        return RunCost(name, None, None)
    model = info.model if info.fold is None else f"{info.model} {info.fold}"
    return RunCost(model, info.weight_mb, info.latency_ms)


def sum_costs(costs: Sequence[RunCost]) -> tuple[float | None, float | None]:
    """MB and milliseconds an image of several runs used together; None where one does not tell.

    Runs of one model (other views) share its weights, which count once; the times add up. For
    folds joined into one run both add up: each image was seen by one of the models, but a new
    image needs all.
    """
    size: dict[str, float | None] = {}
    for cost in costs:
        known = [mb for mb in (size.get(cost.model), cost.weight_mb) if mb is not None]
        size[cost.model] = max(known, default=None)
    return _total(size.values()), _total(cost.latency_ms for cost in costs)


def _total(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return round(total, 6)
