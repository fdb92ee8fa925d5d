"""Judging single values of label and run files."""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

LARGEST_CLASS = 9_999  # without names: a larger id is a number in the wrong place
LARGEST_NUMBER = 1e9  # pixels beyond it are in no image, and their sums may overflow


class Wrong(NamedTuple):
    """A fault of one box or object: its kind, the field, why, and the value."""

    kind: str
    field: str
    reason: str
    value: Any


def number_fault(value: object) -> str | None:
    """What is wrong with a value that has to be a finite number; None where nothing is."""
    if value is None:
        return "value is missing"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is not a number"
    return _size_fault(value)


def class_fault(value: float, class_ids: Collection[int] | None) -> str | None:
    """What is wrong with a number that has to be a class id; None where nothing is."""
    if value != int(value):
        return "class is not a whole number"
    if class_ids is not None and int(value) not in class_ids:
        return f"unknown class; known {_listed(class_ids)}"
    if class_ids is None and not 0 <= value <= LARGEST_CLASS:
        return f"class is outside 0 to {LARGEST_CLASS}"
    return None


def parse_number(text: str) -> tuple[float, str | None]:
    """The finite number a text stands for, and what is wrong with it (None where nothing is)."""
    if not text:
        return 0.0, "value is missing"
    try:
        value = float(text)
    except ValueError:
        return 0.0, "is not a number"
    if "_" in text:  # Python's own grouping of digits
        return 0.0, "is not a number"
    reason = _size_fault(value)
    return (value, None) if reason is None else (0.0, reason)


def _size_fault(value: float) -> str | None:
    if abs(value) <= LARGEST_NUMBER:
        return None
    if isinstance(value, int) or math.isfinite(value):
        return f"is beyond {LARGEST_NUMBER:g}"
    return "is not a finite number"


def _listed(class_ids: Collection[int]) -> str:
    ordered = sorted(class_ids)
    if ordered == list(range(len(ordered))):
        return f"are 0 to {len(ordered) - 1}" if len(ordered) > 1 else "is 0"
    return "are " + ", ".join(map(str, ordered[:20])) + (", …" if len(ordered) > 20 else "")
