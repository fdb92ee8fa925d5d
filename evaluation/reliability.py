"""How well scores tell the share of boxes that are right (reliability, calibration error)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable
from smallobj.evaluation.matching import match, prepare_truth

_SMALLEST = 1e-6  # a probability of 0 or 1 counts as this far from it in the log loss


class Outcomes(NamedTuple):
    """What became of each row of a table of predictions, all of them matched (no cap)."""

    hit: NDArray[np.bool_]  # [M], found a true box that no better one had found
    counted: NDArray[np.bool_]  # [M], False where neither a hit nor false: inside a crowd


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """How far scores are from the share of hits. The curve has B bins, none of them empty."""

    boxes: int  # that count
    hits: int
    error: float  # expected calibration error over bins of equal numbers of boxes, 0..1
    width_error: float  # the same over bins of equal width in the score, 0..1
    brier: float  # mean square of score - hit, 0..1
    log_loss: float  # mean negative log likelihood, nats
    score: Array  # [B], mean score of the bin, rising
    rate: Array  # [B], share of hits in the bin
    count: NDArray[np.int64]  # [B], boxes of the bin


def outcomes(truth: BoxTable, table: BoxTable, *, iou: float = 0.5) -> Outcomes:
    """Match every box of a table and tell the outcome by row, as `match` does without a cap.

    Raises ValueError where images or classes of the tables differ or predictions have no score.
    """
    matches = match(prepare_truth(truth), table, [iou], max_detections=None)
    assert table.score is not None
    order = np.lexsort((-table.score, table.label))  # as the matches stand
    hit, counted = np.empty((2, len(table)), np.bool_)
    hit[order] = matches.hit[0] == 1
    counted[order] = matches.skip[0] == 0
    return Outcomes(hit, counted)


def reliability(
    truth: BoxTable, table: BoxTable, *, iou: float = 0.5, bins: int = 15
) -> Reliability:
    """Hold the scores of a table against the share of its boxes that are hits.

    The expected calibration error is the mean over boxes of |mean score - share of hits| of their
    bin (Naeini, Cooper and Hauskrecht 2015), the curve that of the bins of equal numbers. Equal
    scores share a bin. Every box counts alike, so the many of low score weigh most.
    Raises ValueError as `outcomes` does, and for less than one bin.
    """
    found = outcomes(truth, table, iou=iou)
    assert table.score is not None
    return reliability_of(table.score[found.counted], found.hit[found.counted], bins=bins)


def reliability_of(score: Array, hit: NDArray[np.bool_], *, bins: int = 15) -> Reliability:
    """The same from scores [K] in 0..1 and outcomes [K]; errors are NaN where K is 0."""
    if bins < 1:
        raise ValueError(f"at least one bin is needed, not {bins}")
    if not len(score):
        empty = np.empty(0)
        return Reliability(
            boxes=0, hits=0, error=np.nan, width_error=np.nan, brier=np.nan, log_loss=np.nan,
            score=empty, rate=empty, count=np.empty(0, np.int64),
        )  # fmt: skip
    below = np.searchsorted(np.sort(score), score)  # boxes of lower score
    curve = _curve(below * bins // len(score), score, hit)
    width_curve = _curve(np.clip((score * bins).astype(np.int64), 0, bins - 1), score, hit)
    inside = np.clip(score, _SMALLEST, 1 - _SMALLEST)
    return Reliability(
        boxes=len(score),
        hits=int(hit.sum()),
        error=_error(*curve),
        width_error=_error(*width_curve),
        brier=float(np.mean((score - hit) ** 2)),
        log_loss=float(-np.mean(np.log(np.where(hit, inside, 1 - inside)))),
        score=curve[0],
        rate=curve[1],
        count=curve[2],
    )


def _curve(
    place: NDArray[np.int64], score: Array, hit: NDArray[np.bool_]
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean score, share of hits and number of boxes of the bins that hold any; place [K]."""
    count = np.bincount(place)
    used = count > 0
    total = np.bincount(place, weights=score)[used]
    hits = np.bincount(place, weights=hit)[used]
    return total / count[used], hits / count[used], count[used]


def _error(score: Array, rate: Array, count: NDArray[np.int64]) -> float:
    return float(np.sum(np.abs(score - rate) * count) / count.sum())
