"""The report of a tuning as a TOML file: everything that was printed, for machines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from smallobj.boxes import write_text


def report_path(recipe: Path) -> Path:
    """`recipe.toml` to `recipe.tune.toml`."""
    return recipe.with_name(recipe.stem + ".tune.toml")


def heatmap_path(recipe: Path) -> Path:
    """`recipe.toml` to `recipe.heatmap.svg`."""
    return recipe.with_name(recipe.stem + ".heatmap.svg")


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write plain values; what is not known (None) is left out, in a list it becomes nan."""
    write_text(path, tomli_w.dumps(_without_none(report)))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [float("nan") if item is None else _without_none(item) for item in value]
    return value
