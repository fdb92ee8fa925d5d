"""The settings that tuning tries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from math import gcd
from typing import NamedTuple

import numpy as np

from smallobj.boxes import BoxTable
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.suppression import nms

ABOUT = 1000  # settings of the default grid
_RAW_IOU = 0.8  # boxes of one run that overlap by more were not suppressed by its detector
_RAW_SHARE = 0.05  # of a run's boxes


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Values of each setting; every combination is tried that the method knows."""

    iou: tuple[float, ...] = (0.4, 0.5, 0.55, 0.6, 0.7)
    skip: tuple[float, ...] = (0.001, 0.01, 0.05)
    conf_type: tuple[str, ...] = ("box_and_model_avg", "max")  # of wbf
    weights: tuple[tuple[float, ...], ...] | None = None  # None: `default_weights`
    votes: tuple[int, ...] = (1,)  # not of soft_nms
    method: tuple[str, ...] = ("wbf",)
    shift: tuple[float, ...] = (0.0,)  # pixels; not of soft_nms
    sigma: tuple[float, ...] = (0.5,)  # of soft_nms
    nms: tuple[float, ...] | None = None  # IoU of the suppression inside each run; 1: none

    def settings(self, runs: int, *, max_detections: int | None = 100) -> list[FusionConfig]:
        """Every combination, each once, those of one clustering side by side.

        Raises ValueError for a value that FusionConfig refuses, or weights of another number of
        runs.
        """
        weights = default_weights(runs) if self.weights is None else self.weights
        found: dict[FusionConfig, None] = {}
        for inside, weight, method in product(self.nms or (None,), weights, self.method):
            base = FusionConfig(
                method=method,
                weights=weight,
                nms_iou=None if inside is None else (inside,) * runs,
                max_detections=max_detections,
            )
            base.weights_of(runs)
            found |= dict.fromkeys(self._of_method(base))
        return list(found)

    def _of_method(self, base: FusionConfig) -> list[FusionConfig]:
        if base.method == "soft_nms":
            return [
                replace(base, iou=iou, sigma=sigma, skip=skip)
                for iou, sigma, skip in product(self.iou, self.sigma, self.skip)
            ]
        rules = self.conf_type if base.method == "wbf" else (base.conf_type,)
        every = product(self.iou, self.shift, self.skip, self.votes, rules)
        return [
            replace(base, iou=iou, shift_px=shift, skip=skip, min_votes=votes, conf_type=rule)
            for iou, shift, skip, votes, rule in every
        ]


class _Scale(NamedTuple):
    """The values of weighted boxes fusion at one size of the default grid."""

    iou: tuple[float, ...]
    skip: tuple[float, ...]
    conf_type: tuple[str, ...]


_RULES = ("box_and_model_avg", "avg", "max")
_SCALES = (  # the finest whose grid is of about 1,000 settings is taken
    _Scale((0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75), (0.001, 0.01, 0.03, 0.1), _RULES),
    _Scale((0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75), (0.001, 0.01, 0.05), _RULES[::2]),
    _Scale((0.4, 0.5, 0.55, 0.6, 0.65, 0.7), (0.001, 0.01, 0.05), _RULES[::2]),
    _Scale((0.4, 0.5, 0.55, 0.6, 0.7), (0.001, 0.01), _RULES[::2]),
    _Scale((0.45, 0.55, 0.65), (0.001, 0.01), _RULES[:1]),
    _Scale((0.5, 0.6), (0.001,), _RULES[:1]),
)


def default_settings(
    tables: Sequence[BoxTable], *, max_detections: int | None = 100
) -> list[FusionConfig]:
    """About 1,000 settings for the runs at hand: most of them weighted boxes fusion.

    Weights, IoU, skip and rule in every combination, coarser where runs are many; a second vote
    asked for at every weights and IoU; a few of the other methods; suppression inside each run
    where a run holds candidates that its detector did not suppress.
    """
    runs, cap = len(tables), max_detections
    weights = default_weights(runs)
    few = weights[: min(len(weights), 5)]
    others = _other_methods(few)
    if any(looks_unsuppressed(table) for table in tables):
        others.append(Grid(weights=few, nms=(0.45, 0.55, 0.65, 0.75), skip=(0.001,)))
    beside = [setting for grid in others for setting in grid.settings(runs, max_detections=cap)]
    for scale in _SCALES:
        grids = [Grid(weights=weights, **scale._asdict())]
        if runs > 1:
            rule = scale.conf_type[:1]
            grids.append(
                Grid(weights=weights, iou=scale.iou, skip=(0.001,), conf_type=rule, votes=(2,))
            )
        found = [setting for grid in grids for setting in grid.settings(runs, max_detections=cap)]
        if len(found) + len(beside) <= ABOUT * 1.15:
            break
    return list(dict.fromkeys([*found, *beside]))


def _other_methods(weights: tuple[tuple[float, ...], ...]) -> list[Grid]:
    return [
        Grid(method=("nmw", "nms"), weights=weights, iou=(0.5, 0.6, 0.7), skip=(0.001,)),
        Grid(method=("soft_nms",), weights=weights, iou=(0.5,), skip=(0.001,), sigma=(0.1, 0.5)),
    ]


def looks_unsuppressed(table: BoxTable) -> bool:
    """Whether a run holds candidates from before non-maximum suppression."""
    return len(table) - len(nms(table, _RAW_IOU)) > _RAW_SHARE * len(table)


def default_weights(runs: int) -> tuple[tuple[float, ...], ...]:
    """Weights to try for a number of runs, of at least two of them where there are two.

    Two: ratios up to 4 to 1. Three: every combination of 0, 1 and 2, and 3, 2 and 1. More: all
    equal, one left out, one doubled; up to six also every pair doubled. Single runs are no fusion,
    and tried as they are by `tune`.
    """
    if runs == 1:
        return ((1.0,),)
    if runs == 2:
        return tuple(
            tuple(map(float, pair))
            for pair in ((1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (1, 3), (3, 1), (1, 4), (4, 1))
        )
    if runs == 3:
        combinations = {*product((2, 1, 0), repeat=3), *permutations((3, 2, 1))}
        found = {
            tuple(float(weight // gcd(*weights)) for weight in weights)
            for weights in combinations
            if sum(weight > 0 for weight in weights) > 1
        }
        return tuple(sorted(found, key=lambda weights: (-min(weights), sum(weights), weights)))
    equal = np.ones(runs)
    changed = [(run, weight) for weight in (0.0, 2.0) for run in range(runs)]
    many = [np.where(np.arange(runs) == run, weight, equal) for run, weight in changed]
    if runs <= 6:
        pairs = [(a, b) for a in range(runs) for b in range(a)]
        many += [np.where(np.isin(np.arange(runs), pair), 2.0, equal) for pair in pairs]
    return tuple(tuple(weights.tolist()) for weights in (equal, *many))
