"""What more cost buys: ensembles of the runs with their score, megabytes and milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from smallobj.ensemble.greedy import ScoreMemo, Weights, simplest_best
from smallobj.ensemble.limits import Costs

_ALL_SUBSETS = 8  # runs up to which every subset is scored


@dataclass(frozen=True, kw_only=True)
class FrontRow:
    """The best weights met for one subset of the runs, their score and what the subset costs."""

    weights: Weights
    score: float
    weight_mb: float | None  # None: not known of one of its runs
    latency_ms: float | None
    dominated: bool  # another subset scores at least as well, costs no more, and is not its equal

    @property
    def runs(self) -> tuple[int, ...]:
        """The runs of the subset."""
        return tuple(run for run, weight in enumerate(self.weights) if weight > 0)


def pareto_front(
    score: ScoreMemo, costs: Costs, chosen: Weights | None = None, *, part: int = 0
) -> list[FrontRow]:
    """A row for every subset of up to 8 runs, of more for those that were scored; cheapest first.

    Up to 8 runs each subset is scored with equal weights and with those of `chosen`; what greedy
    selection scored before, and `score` remembers, counts too. A cost decides where it is known of
    every run; where none is, the number of runs does. part: of the score, [S, P].
    """
    if len(costs.models) <= _ALL_SUBSETS:
        score(_subsets(len(costs.models), chosen))
    met: dict[tuple[bool, ...], list[Weights]] = {}
    for weights in score.known:
        met.setdefault(tuple(weight > 0 for weight in weights), []).append(weights)
    best = []
    for same in met.values():
        scores = score(same)[:, part]
        place = simplest_best(same, scores)
        best.append((same[place], float(scores[place])))
    prices = [_price(weights, costs) for weights, _ in best]
    points = [(-score, *price) for (_, score), price in zip(best, prices, strict=True)]
    rows = [
        FrontRow(
            weights=weights,
            score=value,
            weight_mb=costs.of(weights)[0],
            latency_ms=costs.of(weights)[1],
            dominated=_is_dominated(point, points),
        )
        for (weights, value), point in zip(best, points, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda i: (prices[i], -rows[i].score, rows[i].runs))
    return [rows[i] for i in order]


def _subsets(runs: int, chosen: Weights | None) -> list[Weights]:
    """Every subset with equal weights, and with the chosen ones where all its runs have some."""
    found = []
    for subset in product((1.0, 0.0), repeat=runs):
        if any(subset):
            found.append(subset)
        if chosen is not None and any(subset):
            kept = tuple(taken * weight for taken, weight in zip(subset, chosen, strict=True))
            if sum(map(bool, kept)) == sum(subset):
                found.append(kept)
    return found


def _price(weights: Weights, costs: Costs) -> tuple[float, ...]:
    """The costs that are known of every run; the number of runs where none is."""
    known = [
        cost
        for cost, name in zip(costs.of(weights), ("weight_mb", "latency_ms"), strict=True)
        if cost is not None and all(getattr(run, name) is not None for run in costs.runs)
    ]
    return tuple(known) or (float(sum(weight > 0 for weight in weights)),)


def _is_dominated(point: tuple[float, ...], points: Sequence[tuple[float, ...]]) -> bool:
    return any(
        other != point and all(a <= b for a, b in zip(other, point, strict=True))
        for other in points
    )
