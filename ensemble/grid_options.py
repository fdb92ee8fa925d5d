"""The values of a grid as they are written on the command line."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from smallobj.boxes import InputError
from smallobj.ensemble.config import CONFIDENCE_RULES, METHODS
from smallobj.ensemble.grid import Grid

_MOST_STEPS = 1000


def parse_grid(options: Sequence[str]) -> Grid:
    """A grid from `iou=0.4:0.8:0.05`, `skip=0.001,0.01`, `weights=1,1|2,1`, `conf_type=avg,max`.

    What is not named keeps the default of `Grid`. Raises InputError where an option is at fault.
    """
    values: dict[str, Any] = {}
    parsers: dict[str, Callable[[str], Any]] = {
        "iou": _numbers,
        "skip": _numbers,
        "conf_type": _rules,
        "weights": _weights,
        "votes": _whole,
        "method": _methods,
        "shift": _numbers,
        "sigma": _numbers,
        "nms": _numbers,
    }
    for option in options:
        name, _, text = option.partition("=")
        if name in values:
            raise InputError("is given twice; put the values in one", field="grid", value=option)
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
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError("values are numbers with commas between") from error
    if not all(map(isfinite, values)):
        raise ValueError("values are finite numbers")
    return values


def _whole(text: str) -> tuple[int, ...]:
    values = _numbers(text)
    if not all(value.is_integer() for value in values):
        raise ValueError("values are whole numbers with commas between")
    return tuple(int(value) for value in values)


def _rules(text: str) -> tuple[str, ...]:
    return _names(text, "confidence rule", CONFIDENCE_RULES)


def _methods(text: str) -> tuple[str, ...]:
    return _names(text, "method", METHODS)


def _names(text: str, what: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name}; known: {', '.join(known)}")
    return names


def _weights(text: str) -> tuple[tuple[float, ...], ...]:
    return tuple(_list(part) for part in text.split("|"))
