"""The settings that tuning tries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any

import numpy as np

from smallobj.boxes import InputError
from smallobj.ensemble.config import CONFIDENCE_RULES, FusionConfig

_MOST_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Values of each setting; every combination is tried."""

    iou: tuple[float, ...] = (0.4, 0.5, 0.55, 0.6, 0.7)
    skip: tuple[float, ...] = (0.001, 0.01, 0.05)
    conf_type: tuple[str, ...] = ("box_and_model_avg", "max")
    weights: tuple[tuple[float, ...], ...] | None = None  # None: `default_weights`

    def settings(self, runs: int, *, max_detections: int | None = 100) -> list[FusionConfig]:
        """Every combination, those of one clustering side by side.

        Raises ValueError for a value that FusionConfig refuses, or weights of another number of
        runs.
        """
        weights = default_weights(runs) if self.weights is None else self.weights
        configs = [
            FusionConfig(
                weights=weight, iou=iou, skip=skip, conf_type=rule, max_detections=max_detections
            )
            for weight, iou, skip, rule in product(weights, self.iou, self.skip, self.conf_type)
        ]
        for config in configs:
            config.weights_of(runs)
        return configs


def default_weights(runs: int) -> tuple[tuple[float, ...], ...]:
    """Weights to try for a number of runs, of at least two of them where there are two.

    Up to three runs: every combination of 0, 1 and 2. More: all equal, one left out, one doubled.
    Single runs are no fusion, and tried as they are by `tune`.
    """
    if runs == 1:
        return ((1.0,),)
    if runs <= 3:
        combinations = product((2, 1, 0), repeat=runs)
        found = {
            tuple(float(weight // gcd(*weights)) for weight in weights)
            for weights in combinations
            if sum(weight > 0 for weight in weights) > 1
        }
        return tuple(sorted(found, key=lambda weights: (-min(weights), sum(weights), weights)))
    equal = np.ones(runs)
    changed = [
        tuple(np.where(np.arange(runs) == run, weight, equal).tolist())
        for weight in (0.0, 2.0)
        for run in range(runs)
    ]
    return (tuple(equal.tolist()), *changed)


def parse_grid(options: Sequence[str]) -> Grid:
    """A grid from `iou=0.4:0.8:0.05`, `skip=0.001,0.01`, `weights=1,1|2,1`, `conf_type=avg,max`.

    What is not named keeps its default. Raises InputError where an option is at fault.
    """
    values: dict[str, Any] = {}
    parsers: dict[str, Callable[[str], Any]] = {
        "iou": _numbers,
        "skip": _numbers,
        "conf_type": _rules,
        "weights": _weights,
    }
    for option in options:
        name, _, text = option.partition("=")
        if name not in parsers:
            known = ", ".join(parsers)
            raise InputError(f"is NAME=VALUES with a name of {known}", field="grid", value=option)
        try:
            values[name] = parsers[name](text)
        except ValueError as error:
            raise InputError(str(error), field="grid", value=option) from error
    return Grid(**values)


def _numbers(text: str) -> tuple[float, ...]:
    """`0.4,0.5` or `0.4:0.8:0.05`, the last value included."""
    if ":" not in text:
        return _list(text)
    try:
        low, high, step = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise ValueError("a range is LOW:HIGH:STEP, three numbers") from error
    if not (step > 0 and low <= high and (high - low) / step < _MOST_STEPS):
        raise ValueError(f"a range rises, in at most {_MOST_STEPS} steps above zero")
    count = int((high - low) / step + 1e-9) + 1
    return tuple(round(low + i * step, 10) for i in range(count))


def _list(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError("values are numbers with commas between") from error


def _rules(text: str) -> tuple[str, ...]:
    rules = tuple(text.split(","))
    for rule in rules:
        if rule not in CONFIDENCE_RULES:
            known = ", ".join(CONFIDENCE_RULES)
            raise ValueError(f"unknown confidence rule {rule}; known: {known}")
    return rules


def _weights(text: str) -> tuple[tuple[float, ...], ...]:
    return tuple(_list(part) for part in text.split("|"))
