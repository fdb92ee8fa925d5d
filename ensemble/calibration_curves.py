"""Maps from a score to the probability that its box is right: a line on the logit, or knots.

Temperature and Platt's line: Platt 1999, fitted by Newton's method as in Lin, Lin and Weng 2007.
Isotonic: Zadrozny and Elkan 2002.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array

METHODS = ("temperature", "platt", "isotonic")

_EDGE = 1e-6  # scores of 0 and 1 count as this far inside, so that they have a logit
_SLOPES = (0.01, 100.0)  # a line that fell, or that stood upright, would lose the order
_MOST_KNOTS = 64
_KNOT_ERROR = 1e-3  # by how much thinning the knots may move the map ...
_KNOT_RATIO = 0.05  # ... and by which share of it, where it is low
_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class LogitLine:
    """Probability = logistic(slope * logit(score) + offset); with 1 and 0 it is the score."""

    slope: float  # the inverse of a temperature, above 0
    offset: float

    def __post_init__(self) -> None:
        if not self.slope > 0 or not np.isfinite([self.slope, self.offset]).all():
            raise ValueError(f"a line has a slope above 0 and finite numbers, not {self}")

    def __call__(self, score: Array) -> Array:
        """Probabilities [M] of scores [M]."""
        return logistic(self.slope * logit(score) + self.offset)


@dataclass(frozen=True, kw_only=True)
class Knots:
    """Straight lines between knots, both coordinates rising; beyond the ends the end's value."""

    score: tuple[float, ...]
    probability: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.score) != len(self.probability) or not self.score:
            raise ValueError("knots need as many scores as probabilities, and at least one")
        for name in ("score", "probability"):
            values = np.array(getattr(self, name))
            if not ((values >= 0) & (values <= 1)).all() or not (np.diff(values) > 0).all():
                raise ValueError(f"the {name} of knots rises from 0 to 1")

    def __call__(self, score: Array) -> Array:
        """Probabilities [M] of scores [M]."""
        return np.interp(score, self.score, self.probability)


Curve: TypeAlias = LogitLine | Knots


def logit(score: Array) -> Array:
    """Log odds of scores, those of 0 and 1 moved inside by a millionth."""
    inside = np.clip(score, _EDGE, 1 - _EDGE)
    return np.log(inside) - np.log1p(-inside)


def logistic(value: Array) -> Array:
    """The inverse of the logit, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * value))


def fit_curve(method: str, score: Array, target: Array, weight: Array) -> Curve:
    """The curve of a method; score, target (0..1) and weight (above 0) are [K], K at least 1."""
    if method == "isotonic":
        return fit_knots(score, target, weight)
    # one outcome or one score cannot tell a slope: the line is only moved
    single = np.ptp(target) == 0 or np.ptp(score) == 0
    return fit_line(
        logit(score),
        target,
        weight,
        free_slope=method == "temperature" or not single,
        free_offset=method == "platt",
    )


def fit_line(
    x: Array, target: Array, weight: Array, *, free_slope: bool = True, free_offset: bool = True
) -> LogitLine:
    """The line of greatest likelihood, slope within 0.01 to 100; what is not free is 1 and 0.

    x [K] are logits, target [K] probabilities, weight [K]. The likelihood has one peak; a step that
    would fall is halved.
    """
    columns = np.stack([x, np.ones_like(x)], axis=1)
    free = np.array([free_slope, free_offset])
    line = _newton(columns, target, weight, np.array([1.0, 0.0]), free)
    if free_slope and not _SLOPES[0] <= line[0] <= _SLOPES[1]:
        start = np.array([np.clip(line[0], *_SLOPES), 0.0])
        line = _newton(columns, target, weight, start, np.array([False, free_offset]))
    return LogitLine(slope=float(line[0]), offset=float(line[1]))


def _newton(
    columns: Array, target: Array, weight: Array, start: Array, free: NDArray[np.bool_]
) -> Array:
    """Coefficients [2] that minimise the weighted log loss over the free ones."""
    line, used = start, columns[:, free]
    if not free.any():
        return line
    value = columns @ line
    loss = _log_loss(value, target, weight)
    for _ in range(_STEPS):
        probability = logistic(value)
        slope = used.T @ (weight * (probability - target))
        bend = (used.T * (weight * probability * (1 - probability))) @ used
        bend += np.eye(len(bend)) * 1e-9 * weight.sum()  # where no score tells a slope
        step = np.zeros(2)
        step[free] = np.linalg.solve(bend, slope)
        size = 1.0
        while True:
            trial = columns @ (line - size * step)
            trial_loss = _log_loss(trial, target, weight)
            if trial_loss <= loss or size < 1e-9:
                break
            size /= 2
        if trial_loss > loss:
            break
        line, value, loss = line - size * step, trial, trial_loss
        if np.abs(size * step).max() < 1e-10 or line[0] > 1e3:
            break
    return line


def _log_loss(value: Array, target: Array, weight: Array) -> float:
    """Weighted negative log likelihood of logits; log(1 + exp) without overflow."""
    softplus = np.maximum(value, 0) + np.log1p(np.exp(-np.abs(value)))
    return float(np.sum(weight * (softplus - target * value)))


def fit_knots(score: Array, target: Array, weight: Array) -> Knots:
    """Isotonic regression, told by the centres of its blocks.

    The steps of the regression would make many scores equal, which costs average precision and the
    order in fusion; straight lines between the blocks' mean scores keep every order. A block's
    probability is that of its boxes and one more of the overall rate, so that it is never 0 or 1.
    Beyond the outer blocks' centres it moves on by their standard error at most.
    """
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - slow to load, only to fit

    x, place = np.unique(score, return_inverse=True)
    total, hits = _per_block(place, weight), _per_block(place, weight * target)
    rate = (hits.sum() + 1) / (total.sum() + 2)
    block = _blocks(isotonic_regression(hits / total, weights=total).x)
    x, hits = _per_block(block, x * total), _per_block(block, hits)
    total = _per_block(block, total)
    smooth = isotonic_regression((hits + rate) / (total + 1), weights=total + 1).x
    block = _blocks(smooth)
    x, total = _per_block(block, x), _per_block(block, total)
    knots = _with_ends(np.clip(x / total, 0, 1), smooth[np.diff(block, prepend=-1) > 0], total)
    return thin_knots(*knots)


def _blocks(fitted: Array) -> NDArray[np.int64]:
    """The number of the block of equal values each row belongs to."""
    return np.concatenate([[0], np.cumsum(np.diff(fitted) > 0)])


def _per_block(block: NDArray[np.int64], column: Array) -> Array:
    return np.bincount(block, weights=column).astype(np.float64)


def _with_ends(x: Array, y: Array, total: Array) -> tuple[Array, Array]:
    """Knots at the scores 0 and 1, one standard error beyond the outer blocks, inside 0..1."""
    error = np.sqrt(y * (1 - y) / total)
    low, high = max(y[0] - error[0], y[0] / 2), min(y[-1] + error[-1], (1 + y[-1]) / 2)
    if x[0] > 0:
        x, y = np.concatenate([[0.0], x]), np.concatenate([[low], y])
    if x[-1] < 1:
        x, y = np.concatenate([x, [1.0]]), np.concatenate([y, [high]])
    return x, y


def thin_knots(x: Array, y: Array) -> Knots:
    """The fewest knots that do: the worst missing one is added until all others are near.

    Near is a thousandth, and a twentieth of the value. At most 64 are kept, x and y [K] rise.
    """
    # two centres a rounding error apart would make one knot's number the other's
    distinct = np.concatenate([[True], (np.diff(x) > 1e-12) & (np.diff(y) > 0)])
    x, y = x[distinct], y[distinct]
    kept = np.zeros(len(x), np.bool_)
    kept[[0, -1]] = True
    allowed = np.minimum(_KNOT_ERROR, _KNOT_RATIO * y)
    while kept.sum() < min(_MOST_KNOTS, len(x)):
        off = np.abs(np.interp(x, x[kept], y[kept]) - y) / allowed
        if off.max() <= 1:
            break
        kept[off.argmax()] = True
    return Knots(score=tuple(x[kept].tolist()), probability=tuple(y[kept].tolist()))
