"""The steps of tuning: what each fit may choose from, after what it chose before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from smallobj.boxes import Array
from smallobj.ensemble.candidates import (
    CalibrationKind,
    Candidate,
    fusing,
    is_alone,
    with_weights,
)
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.greedy import Allowed, Weights
from smallobj.ensemble.scorer import Scorer
from smallobj.ensemble.selection import bag_parts, select_weights

SHIFTS_PX = (0.0, 1.0, 2.0, 3.0, 4.0)
_NEAR_IOU = (-0.1, -0.05, 0.0, 0.05, 0.1)
_HIGHER_IOU = (0.0, 0.05, 0.1)  # what few runs see costs less once that is learnt
_FIRST_LOOK = 4  # settings on which the kinds of calibration are compared
_KINDS_KEPT = 2
_CALIBRATED = 16  # settings that are tried with the kinds that are kept
_BAGS = 10
_MOST_ENSEMBLES = 60  # scored by the selection of one fit


class Pool(NamedTuple):
    """What one fit may choose from, the simplest first, and its scores on the fit's images."""

    candidates: list[Candidate]  # [S]
    scores: Array  # [S]

    @property
    def best(self) -> int:
        """The place of the best; of equal ones the first."""
        return int(np.argmax(np.nan_to_num(self.scores, nan=-1.0)))


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the steps share."""

    scorer: Scorer
    allowed: Allowed | None  # whether an ensemble keeps the limits
    seed: int
    expect: Callable[[int], None]  # told how many candidates a step will score

    @property
    def fits(self) -> Fits:
        """The folds."""
        return self.scorer.fits

    def may(self, configs: Sequence[FusionConfig]) -> list[FusionConfig]:
        """Those that keep the limits."""
        if self.allowed is None:
            return list(configs)
        runs = self.scorer.runs
        return [config for config in configs if self.allowed(config.weights_of(runs))]

    def pools(self, candidates: Sequence[Sequence[Candidate]]) -> list[Pool]:
        """Score what every fit wants to choose from, [1 + F] lists."""
        self.expect(sum(map(len, candidates)))
        return [self.pool(wanted, fit) for fit, wanted in enumerate(candidates)]

    def pool(self, candidates: Sequence[Candidate], fit: int) -> Pool:
        """Score what one fit wants to choose from."""
        unique = list(dict.fromkeys(candidates))
        return Pool(unique, self.scorer.score(unique, fit)[:, 0])


def raw_pools(start: Start, configs: Sequence[FusionConfig]) -> list[Pool]:
    """Every fit may choose from the same settings, on scores as they are."""
    wanted = [Candidate(config=config) for config in start.may(configs)]
    start.expect(len(wanted))
    scores = start.scorer.raw([candidate.config for candidate in wanted])
    return [Pool(wanted, scores[:, fit, 0]) for fit in range(len(start.fits))]


def calibration_pools(
    start: Start,
    state: Sequence[Candidate],
    before: Sequence[Pool],
    kinds: Sequence[CalibrationKind],
) -> list[Pool]:
    """Every fit may choose from its best settings, diverse in weights, on calibrated scores.

    before: the pools the settings come from. The kinds of one curve a run are compared on a few of
    the settings, then those of several curves of the best method; the best two go on to more.
    """
    configs = [
        [chosen.config, *diverse(pool, _CALIBRATED)]
        for chosen, pool in zip(state, before, strict=True)
    ]
    looked = len({kind.method for kind in kinds}) + len({kind.by for kind in kinds if kind.by})
    start.expect(sum(_FIRST_LOOK * looked + len(wanted) * _KINDS_KEPT + 1 for wanted in configs))
    pools = []
    for fit, wanted in enumerate(configs):
        look = Pool([], np.empty(0))
        for parted in (False, True):
            best = _ranked(look)
            for kind in kinds:
                if bool(kind.by) == parted and (not best or best[0].method == kind.method):
                    few = start.pool(_calibrated(wanted[:_FIRST_LOOK], kind), fit)
                    look = _joined(look, few)
        more = [start.pool(_calibrated(wanted, kind), fit) for kind in _ranked(look)[:_KINDS_KEPT]]
        pools.append(_joined(start.pool([state[fit]], fit), look, *more))
    return pools


def diverse(pool: Pool, count: int) -> list[FusionConfig]:
    """The best settings of a pool: the best of each weights first, then the second best, ..."""
    rank: dict[tuple[float, ...] | None, int] = {}
    order = np.argsort(-np.nan_to_num(pool.scores, nan=-1.0), kind="stable").tolist()
    places = []
    for position, place in enumerate(order):
        weights = pool.candidates[place].config.weights
        rank[weights] = rank.get(weights, -1) + 1
        places.append((rank[weights], position, place))
    return [pool.candidates[place].config for _, _, place in sorted(places)[:count]]


def size_pools(start: Start, state: Sequence[Candidate]) -> list[Pool]:
    """Every fit may let the IoU threshold depend on size, and move it a little."""
    return start.pools([[candidate, *_size_aware(candidate)] for candidate in state])


def weight_pools(start: Start, state: Sequence[Candidate]) -> list[Pool]:
    """Every fit may choose other weights: bagged greedy selection on its own images."""
    runs = start.scorer.runs
    start.expect(len(start.fits) * min(_MOST_ENSEMBLES, 8 * runs))
    own = np.array([start.fits.own(fit) for fit in range(len(start.fits))], np.int64)
    parts = bag_parts(own, bags=_BAGS, seed=start.seed).reshape(len(own), 1 + _BAGS, -1)
    pools = []
    for fit, candidate in enumerate(state):
        base = fusing(candidate, runs)

        def score(ensembles: Sequence[Weights], base: Candidate = base, fit: int = fit) -> Array:
            configs = [with_weights(base, tuple(weights)).config for weights in ensembles]
            bags = parts[fit]
            return start.scorer.score_parts(configs, base.calibration, fit, bags, name="bags")

        (found,) = select_weights(
            score, runs, bags=_BAGS, allowed=start.allowed, budget=_MOST_ENSEMBLES
        )
        pools.append(start.pool([candidate, with_weights(base, found.weights)], fit))
    return pools


def learnt_pools(start: Start, state: Sequence[Candidate]) -> list[Pool]:
    """Every fit may learn the scores of its fused boxes, at the IoU it has or a higher one."""
    return start.pools([[candidate, *_learnt(candidate)] for candidate in state])


def _learnt(candidate: Candidate) -> list[Candidate]:
    config = candidate.config
    if is_alone(config):
        return []
    return [
        replace(candidate, config=replace(config, iou=round(config.iou + step, 6)), learnt=True)
        for step in _HIGHER_IOU
        if config.iou + step < 1
    ]


def _size_aware(candidate: Candidate) -> list[Candidate]:
    config = candidate.config
    if is_alone(config) or config.method == "soft_nms":
        return []
    return [
        replace(candidate, config=replace(config, iou=round(config.iou + step, 6), shift_px=shift))
        for shift, step in product(SHIFTS_PX, _NEAR_IOU)
        if 0 < config.iou + step < 1
    ]


def _calibrated(configs: Sequence[FusionConfig], kind: CalibrationKind) -> list[Candidate]:
    return [Candidate(config=config, calibration=kind) for config in configs]


def _ranked(pool: Pool) -> list[CalibrationKind]:
    """The kinds of calibration in a pool, by the best score of each."""
    best: dict[CalibrationKind, float] = {}
    for candidate, score in zip(pool.candidates, pool.scores.tolist(), strict=True):
        if candidate.calibration is not None:
            best[candidate.calibration] = max(score, best.get(candidate.calibration, -1.0))
    return sorted(best, key=lambda kind: -best[kind])


def _joined(*pools: Pool) -> Pool:
    return Pool(
        [candidate for pool in pools for candidate in pool.candidates],
        np.concatenate([pool.scores for pool in pools]),
    )
