"""How the metric depends on IoU and skip, whatever else was set."""

from collections.abc import Callable, Sequence
from math import floor, log10
from typing import NamedTuple

import numpy as np

from smallobj.boxes import Array
from smallobj.ensemble.config import FusionConfig

_MOST_VALUES = 12  # on a side; of more, as a search tries, neighbours share a cell


class HeatMap(NamedTuple):
    """The best score of every cell."""

    values: Array  # [I, K], NaN where no setting was tried
    iou: tuple[float, ...]  # [I], rising
    skip: tuple[float, ...]  # [K], rising
    chosen: tuple[int, int] | None  # the cell of the setting that was chosen


def heatmap_of(
    configs: Sequence[FusionConfig], scores: Array, *, chosen: FusionConfig | None
) -> HeatMap:
    """The best of the scores [S] by IoU and skip, each rounded where there are many."""
    iou, iou_of = _axis([config.iou for config in configs], _to_twentieth)
    skip, skip_of = _axis([config.skip for config in configs], _to_half_decade)
    values = np.full((len(iou), len(skip)), np.nan)
    places = zip(iou_of, skip_of, strict=True)
    cell = dict(zip(configs, places, strict=True))
    for config, score in zip(configs, scores.tolist(), strict=True):
        values[cell[config]] = np.fmax(values[cell[config]], score)
    return HeatMap(values, iou, skip, None if chosen is None else cell.get(chosen))


def _axis(
    values: Sequence[float], rounded: Callable[[float], float]
) -> tuple[tuple[float, ...], list[int]]:
    if len(set(values)) > _MOST_VALUES:
        values = [rounded(value) for value in values]
    found = tuple(sorted(set(values)))
    return found, [found.index(value) for value in values]


def _to_twentieth(value: float) -> float:
    return round(round(value * 20) / 20, 2)


def _to_half_decade(value: float) -> float:
    """0, or the nearest of ..., 0.001, 0.003, 0.01, ..."""
    if value <= 0:
        return 0.0
    step = round(2 * log10(value))
    return float(f"{10 ** floor(step / 2) * (3 if step % 2 else 1):.6g}")
