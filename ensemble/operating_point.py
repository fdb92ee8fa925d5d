"""A score threshold for each class at which to use predictions: average precision gives none.

The boxes of a class at or above its threshold are kept. Precision is the share of them that are
right, recall the share of true boxes they find, F1 the harmonic mean of both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, InputError
from smallobj.ensemble.operating_records import ClassThreshold, Goal, Rates, Thresholds, goal_of
from smallobj.evaluation.reliability import outcomes

_WILSON_Z = 1.6448536269514722  # 95 % of a normal distribution lie below


def choose_thresholds(
    truth: BoxTable,
    table: BoxTable,
    *,
    goal: str | tuple[str, float | None],
    iou: float = 0.5,
    images: NDArray[np.bool_] | None = None,
    cautious: bool = False,
) -> Thresholds:
    """The score threshold of every class that serves a goal best, on labelled images.

    "f1": the highest F1, of equal ones the highest threshold. precision=P: the lowest threshold at
    which at least P of all boxes at or above it are right, so the greatest recall that keeps P.
    recall=R: the highest threshold that finds R of the true boxes. cautious: a precision counts as
    its lower 95 % bound (Wilson 1927), so that a few lucky boxes are not enough. images [N]: which
    to choose on.

    A class that cannot reach the goal has the threshold of the highest precision, or recall, it can
    do, and is marked; one without any hit has none. Raises InputError for a text that is no goal,
    ValueError for tables that do not fit.
    """
    counts = _Counts.of(truth, table, iou)
    return counts.choose(goal_of(goal), images, cautious=cautious)


def thresholds_out_of_fold(
    truth: BoxTable,
    table: BoxTable,
    fold: NDArray[np.int64],
    *,
    goal: str | tuple[str, float | None],
    iou: float = 0.5,
    cautious: bool = False,
) -> tuple[Rates, ...]:
    """What thresholds reach on images that had no say in them: the rates of every class, [C].

    fold [N]: thresholds chosen on the images of all other folds are held against each fold, and the
    boxes counted together. `total_rates` adds the classes up.
    """
    counts, wanted = _Counts.of(truth, table, iou), goal_of(goal)
    found = [Rates(0, 0, 0)] * len(table.classes)
    for number in np.unique(fold):
        chosen = counts.choose(wanted, fold != number, cautious=cautious)
        reached = counts.rates(chosen, fold == number)
        found = [total.plus(more) for total, more in zip(found, reached, strict=True)]
    return tuple(found)


def apply_thresholds(table: BoxTable, thresholds: Thresholds) -> BoxTable:
    """The boxes at or above the threshold of their class; raises what `reach_thresholds` raises."""
    return table.filter_rows(reach_thresholds(table, thresholds))


def reach_thresholds(table: BoxTable, thresholds: Thresholds) -> NDArray[np.bool_]:
    """Whether each box is at or above the threshold of its class, known by its name; [M].

    Raises InputError for a class of the table that has none, ValueError where scores are missing.
    """
    if table.score is None:
        raise ValueError("a table without scores has no boxes above a threshold")
    known = {chosen.class_name: chosen.threshold for chosen in thresholds.classes}
    for name in table.classes.names:
        if name not in known:
            raise InputError("the working point has no threshold for this class", item=name)
    lowest = np.array([_as_number(known[name]) for name in table.classes.names])
    return table.score >= lowest[table.label]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counts:
    """Predicted boxes that count, by falling score, and true boxes by image and class."""

    names: tuple[str, ...]  # [C]
    iou: float
    image: NDArray[np.int64]  # [K]
    label: NDArray[np.int32]  # [K]
    score: Array  # [K], falling
    hit: NDArray[np.bool_]  # [K]
    true_image: NDArray[np.int64]  # [G]
    true_label: NDArray[np.int32]  # [G]

    @classmethod
    def of(cls, truth: BoxTable, table: BoxTable, iou: float) -> "_Counts":
        found = outcomes(truth, table, iou=iou)
        assert table.score is not None
        order = np.argsort(-table.score, kind="stable")
        order = order[found.counted[order]]
        wanted = np.ones(len(truth), np.bool_) if truth.ignore is None else ~truth.ignore
        return cls(
            names=table.classes.names,
            iou=iou,
            image=table.image_index[order],
            label=table.label[order],
            score=table.score[order],
            hit=found.hit[order],
            true_image=truth.image_index[wanted],
            true_label=truth.label[wanted],
        )

    def positives(self, images: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """True boxes of each class, [C]."""
        label = self.true_label if images is None else self.true_label[images[self.true_image]]
        return np.bincount(label, minlength=len(self.names))

    def rows(self, images: NDArray[np.bool_] | None, label: int) -> NDArray[np.bool_]:
        rows = self.label == label
        return rows if images is None else rows & images[self.image]

    def choose(self, goal: Goal, images: NDArray[np.bool_] | None, *, cautious: bool) -> Thresholds:
        chosen = []
        for label, (name, positives) in enumerate(
            zip(self.names, self.positives(images).tolist(), strict=True)
        ):
            rows = self.rows(images, label)
            chosen.append(
                _choose_class(
                    name, self.score[rows], self.hit[rows], positives, goal=goal, cautious=cautious
                )
            )
        return Thresholds(goal=goal, iou=self.iou, classes=tuple(chosen))

    def rates(self, thresholds: Thresholds, images: NDArray[np.bool_]) -> list[Rates]:
        """The rates that thresholds reach on other images, [C]."""
        found = []
        for label, positives in enumerate(self.positives(images).tolist()):
            lowest = _as_number(thresholds.classes[label].threshold)
            kept = self.rows(images, label) & (self.score >= lowest)
            found.append(Rates(int(kept.sum()), int(self.hit[kept].sum()), positives))
        return found


def _choose_class(
    name: str, score: Array, hit: NDArray[np.bool_], positives: int, *, goal: Goal, cautious: bool
) -> ClassThreshold:
    """The threshold of one class; score [K] falls."""
    # equal scores stand or fall together: only the last of them can be the lowest one kept
    last = np.flatnonzero(np.diff(score, append=-np.inf) < 0)
    kept, hits = last + 1, np.cumsum(hit.astype(np.int64))[last]
    if not len(hits) or not hits[-1]:
        nothing = Rates(0, 0, positives)
        return ClassThreshold(class_name=name, threshold=None, reached=False, rates=nothing)
    place, reached = _best_place(kept, hits, positives, goal, cautious)
    return ClassThreshold(
        class_name=name,
        threshold=float(score[last[place]]),
        reached=reached,
        rates=Rates(int(kept[place]), int(hits[place]), positives),
    )


def _best_place(
    kept: NDArray[np.int64], hits: NDArray[np.int64], positives: int, goal: Goal, cautious: bool
) -> tuple[int, bool]:
    """Which of the possible thresholds serves a goal best, and whether it reaches it."""
    if goal.value is None:
        return int(np.argmax(hits / (kept + positives))), True
    if goal.name == "recall":
        enough = hits >= goal.value * positives * (1 - 1e-12)
        return (int(np.argmax(enough)), True) if enough.any() else (int(np.argmax(hits)), False)
    precision = wilson_lower(hits, kept) if cautious else hits / kept
    enough = precision >= goal.value * (1 - 1e-12)
    if enough.any():
        return int(np.flatnonzero(enough)[-1]), True
    return int(np.flatnonzero(precision == precision.max())[-1]), False


def wilson_lower(hits: NDArray[np.int64], kept: NDArray[np.int64]) -> Array:
    """The lower 95 % bound (one-sided) of the share of hits among `kept`, [K] each, kept above 0.

    Wilson 1927: of 1 of 1 it is 0.27, of 10 of 10 0.79, of 100 of 100 0.97.
    """
    share, z2 = hits / kept, _WILSON_Z**2
    spread = _WILSON_Z * np.sqrt(share * (1 - share) / kept + z2 / (4 * kept.astype(float) ** 2))
    return (share + z2 / (2 * kept) - spread) / (1 + z2 / kept)


def _as_number(threshold: float | None) -> float:
    return np.inf if threshold is None else threshold
