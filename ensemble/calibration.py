"""Scores of one run as probabilities, so that runs of different scales can be fused."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, InputError, box_area
from smallobj.ensemble.calibration_curves import METHODS, Curve, LogitLine, fit_curve
from smallobj.ensemble.calibration_fields import Fields
from smallobj.ensemble.calibration_part import (
    EVERY,
    SIZES,
    Key,
    Part,
    from_narrow,
    part_as_dict,
    part_from_dict,
)
from smallobj.evaluation import SIZE_BINS
from smallobj.evaluation.reliability import Outcomes, outcomes

PARTS = ("class", "size")
_PRIOR_HITS = 25  # hits (or misses, whichever are fewer) that the wider part's word counts as
_MOST_PRIOR = 2500.0  # boxes
_PRIOR_POINTS = 64


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising curve from score to probability for each part of one run's boxes."""

    method: str  # one of METHODS
    by: tuple[str, ...]  # of PARTS, in that order
    iou: float  # at which a box counted as right
    parts: tuple[Part, ...]  # the first is that of all boxes, and of those no other part has

    def __post_init__(self) -> None:
        check_method(self.method, self.by)
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou is above 0 and at most 1, not {self.iou}")
        keys = [(part.class_name, part.size) for part in self.parts]
        if not keys or keys[0] != EVERY:
            raise ValueError("the first part is that of all boxes")
        if len(set(keys)) < len(keys):
            raise ValueError("a part stands twice")

    @property
    def degenerate(self) -> bool:
        """Whether the boxes it was fitted on could not tell a curve, only how often they are right.

        So it is where all of them were hits, or none, or all scores are equal.
        """
        return self.parts[0].degenerate

    def apply(self, table: BoxTable) -> BoxTable:
        """The table with probabilities, 0..1, as scores; the order within a part stays.

        A class is known by its name; one that was not fitted has the curve of all classes.
        Raises ValueError for a table without scores.
        """
        if table.score is None:
            raise ValueError("a table without scores has none to calibrate")
        part_of = self._part_of(table)
        score = np.empty(len(table))
        for number, part in enumerate(self.parts):
            rows = part_of == number
            if rows.any():
                score[rows] = part.curve(table.score[rows])
        return replace(table, score=np.clip(score, 0, 1))

    def _part_of(self, table: BoxTable) -> NDArray[np.int64]:
        """The part each row belongs to, [M]: the narrowest there is."""
        known: dict[Key, int] = {(p.class_name, p.size): n for n, p in enumerate(self.parts)}
        chosen = np.array(
            [
                [
                    next(known[key] for key in from_narrow(name, size) if key in known)
                    for size in SIZES
                ]
                for name in table.classes.names
            ],
            np.int64,
        ).reshape(-1, len(SIZES))
        return chosen[table.label, size_of(table)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for TOML, from which `from_dict` makes an equal calibration."""
        return {
            "method": self.method,
            "by": list(self.by),
            "iou": self.iou,
            "part": [part_as_dict(part) for part in self.parts],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Calibration":
        """Read what `as_dict` wrote; raises InputError that names the field at fault."""
        read = Fields(content, "calibration")
        entries = read.tables("part")
        parts = tuple(part_from_dict(entry, f"part[{n}]") for n, entry in enumerate(entries))
        method, by, iou = read.text("method"), read.texts("by"), read.number("iou")
        try:
            return cls(method=method, by=by, iou=iou, parts=parts)
        except ValueError as error:
            raise InputError(str(error), field="calibration") from error


def check_method(method: str, by: Sequence[str]) -> None:
    """ValueError for a method or a part that does not exist."""
    if method not in METHODS:
        raise ValueError(f"unknown calibration {method!r}; known: {', '.join(METHODS)}")
    for name in by:
        if name not in PARTS:
            raise ValueError(f"unknown part {name!r}; known: {', '.join(PARTS)}")


def fit_calibration(
    truth: BoxTable,
    table: BoxTable,
    *,
    method: str = "platt",
    by: Sequence[str] = (),
    images: NDArray[np.bool_] | None = None,
    iou: float = 0.5,
) -> Calibration:
    """Fit one run's calibration on labelled images.

    A box is right where it is the best one of its true box at an IoU of `iou` or more, as `match`
    has it without a cap; boxes in ignored regions are left out. method: "temperature" (the logit
    of the score times a factor), "platt" (plus an offset) or "isotonic" (any rising curve). by:
    "class", "size" (SIZE_BINS of the predicted box) or both: a curve for each, which leans on that
    of the wider part (size on class, class on all) where it has few hits or misses. images [N]:
    which to fit on.

    Raises ValueError for an unknown method or part, tables that do not fit, scores outside 0..1.
    """
    return fit_outcomes(
        table, outcomes(truth, table, iou=iou), method=method, by=by, images=images, iou=iou
    )


def fit_outcomes(
    table: BoxTable,
    found: Outcomes,
    *,
    method: str = "platt",
    by: Sequence[str] = (),
    images: NDArray[np.bool_] | None = None,
    iou: float = 0.5,
) -> Calibration:
    """`fit_calibration` where the table was matched before; iou is that of the match."""
    check_method(method, by)
    assert table.score is not None
    if not ((table.score >= 0) & (table.score <= 1)).all():
        raise ValueError("scores outside 0..1 cannot be calibrated")
    used = found.counted if images is None else found.counted & images[table.image_index]
    boxes = _Boxes(
        classes=table.classes.names,
        label=table.label[used],
        size=size_of(table)[used],
        score=table.score[used],
        hit=found.hit[used].astype(np.float64),
    )
    ordered = tuple(name for name in PARTS if name in by)
    parts = {EVERY: _fit_every(method, boxes)}
    rows_of = boxes.rows_by_part(ordered)
    points = {EVERY: _quantiles(boxes.score)} if rows_of else {}
    for key, rows in rows_of.items():
        wider = next(k for k in from_narrow(*key) if k in parts)
        if len(rows) < parts[wider].boxes:  # else it is the wider one
            points[key] = _quantiles(boxes.score[rows])
            part = _fit_part(
                method, boxes.score[rows], boxes.hit[rows], points[wider], parts[wider]
            )
            parts[key] = replace(part, class_name=key[0], size=key[1])
    return Calibration(method=method, by=ordered, iou=iou, parts=tuple(parts.values()))


def cross_calibrated(
    truth: BoxTable,
    table: BoxTable,
    fold: NDArray[np.int64],
    *,
    method: str = "platt",
    by: Sequence[str] = (),
    iou: float = 0.5,
) -> BoxTable:
    """The table with each image's scores by a calibration fitted on the images of other folds.

    fold [N]: the fold of each image. For reports, where a map must not know what it is judged on;
    for new images fit on all with `fit_calibration`. Raises ValueError as that does.
    """
    found = outcomes(truth, table, iou=iou)
    assert table.score is not None
    fold_of_row = fold[table.image_index]
    score = np.empty(len(table))
    for number in np.unique(fold):
        images, rows = fold != number, fold_of_row == number
        fitted = fit_outcomes(table, found, method=method, by=by, images=images, iou=iou)
        score[rows] = _score(fitted.apply(table.filter_rows(rows)))
    return replace(table, score=score)


def size_of(table: BoxTable) -> NDArray[np.int64]:
    """Which of SIZE_BINS each box is in, by its own area; [M]."""
    lows = np.array([area.low for area in SIZE_BINS])
    return np.searchsorted(lows, box_area(table.xyxy), side="right") - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Boxes:
    """The boxes a calibration is fitted on."""

    classes: tuple[str, ...]
    label: NDArray[np.int32]  # [K]
    size: NDArray[np.int64]  # [K], index into SIZE_BINS
    score: Array  # [K]
    hit: Array  # [K], 0 or 1

    def rows_by_part(self, by: Sequence[str]) -> dict[Key, NDArray[np.int64]]:
        """The rows of every part that has any, wider parts first and that of all boxes left out."""
        sizes, names = len(SIZES), self.classes
        found: dict[Key, NDArray[np.int64]] = {}
        if "class" not in by:
            if "size" in by:
                for size, rows in _grouped(self.size):
                    found[None, SIZES[size]] = rows
            return found
        for label, rows in _grouped(self.label):
            found[names[label], None] = rows
        if "size" in by:
            for both, rows in _grouped(self.label.astype(np.int64) * sizes + self.size):
                found[names[both // sizes], SIZES[both % sizes]] = rows
        return found


def _grouped(number: NDArray) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Every number there is, and its rows; sorted once instead of searched for each."""
    order = np.argsort(number, kind="stable")
    counts = np.bincount(number)
    for value, rows in enumerate(np.split(order, np.cumsum(counts)[:-1]) if len(order) else ()):
        if len(rows):
            yield value, rows


def _fit_every(method: str, boxes: _Boxes) -> Part:
    """The curve of all boxes; that of none at all changes nothing."""
    count, hits = len(boxes.score), int(boxes.hit.sum())
    curve: Curve = LogitLine(slope=1.0, offset=0.0)
    if count:
        # Platt's targets: a hit is worth a little less than 1, a miss a little more than 0
        sure, never = (hits + 1) / (hits + 2), 1 / (count - hits + 2)
        target = boxes.hit if method == "isotonic" else np.where(boxes.hit == 1, sure, never)
        curve = fit_curve(method, boxes.score, target, np.ones(count))
    single = not 0 < hits < count or np.ptp(boxes.score) == 0
    return Part(
        class_name=None, size=None, boxes=count, hits=hits, degenerate=bool(single), curve=curve
    )


def _quantiles(score: Array) -> Array:
    return np.quantile(score, np.linspace(0, 1, _PRIOR_POINTS))


def _fit_part(method: str, score: Array, hit: Array, points: Array, wider: Part) -> Part:
    """The curve of a part's boxes and of some more that are as the wider part says.

    Those stand at `points`, quantiles of the wider part's scores; their weight is that of 25 hits,
    or of 25 misses where those are fewer.
    """
    believed = wider.curve(points)
    rarer = min(float(believed.mean()), 1 - float(believed.mean()))
    weight = min(_PRIOR_HITS / max(rarer, 1e-9), _MOST_PRIOR)
    curve = fit_curve(
        method,
        np.concatenate([score, points]),
        np.concatenate([hit, believed]),
        np.concatenate([np.ones(len(hit)), np.full(_PRIOR_POINTS, weight / _PRIOR_POINTS)]),
    )
    hits = int(hit.sum())
    single = not 0 < hits < len(hit) or np.ptp(score) == 0
    return replace(wider, boxes=len(hit), hits=hits, degenerate=bool(single), curve=curve)


def _score(table: BoxTable) -> Array:
    assert table.score is not None
    return table.score
