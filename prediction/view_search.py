"""Which views pay: greedy forward selection from the plain view on, judged out of fold."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, InputError
from smallobj.boxes.compiled import cpu_count
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.judge import Judge
from smallobj.evaluation import METRICS, match, mean_precisions, prepare_truth, thresholds_of
from smallobj.prediction.candidates import KeptViews
from smallobj.prediction.engine import MAX_BOXES, MERGE, NMS_IOU
from smallobj.prediction.view_result import ViewChoice, ViewSearch, ViewStep
from smallobj.tta import MERGES

Tell = Callable[[str, int, int], None]  # what is done, how many of how many sets of views

_TIE = 1e-9  # scores nearer than this are equal, and fewer views are taken
_PATIENCE = 3  # views that do not pay, one after the other, before the search ends
_MAX_DETECTIONS = 100  # that the metric counts an image


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """What is tried and how it is judged. Raises InputError naming the field."""

    metric: str = "map50"  # one of METRICS
    folds: int = 5  # at least 2
    seed: int = 0  # decides how images are dealt and drawn
    groups: Sequence[str] | None = field(default=None, repr=False)  # of every image
    nms_ious: tuple[float, ...] = (NMS_IOU,)  # the first one is what the plain view starts with
    merges: tuple[str, ...] = (MERGE, "nmw")  # of MERGES; detectors differ in what suits them
    max_views: int | None = None  # most views that are chosen
    max_seconds: float | None = None  # most seconds an image that they may take together
    max_boxes: int = MAX_BOXES  # kept an image, as predicting keeps them

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InputError(f"known: {', '.join(METRICS)}", field="metric", value=self.metric)
        if not self.nms_ious or not all(0 < iou <= 1 for iou in self.nms_ious):
            raise InputError("values in 0 to 1 are wanted", field="nms_iou", value=self.nms_ious)
        if not self.merges or not set(self.merges) <= set(MERGES):
            reason = f"must be of {', '.join(MERGES)}"
            raise InputError(reason, field="merge", value=",".join(self.merges))
        for name, value in (("nms_iou", self.nms_ious), ("merge", self.merges)):
            if len(set(value)) < len(value):
                raise InputError("a value stands twice", field=name, value=value)
        if self.max_views is not None and self.max_views < 1:
            raise InputError("must be at least 1", field="max_views", value=self.max_views)
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise InputError(
                "must be above 0", field="max_seconds_per_image", value=self.max_seconds
            )


def search_views(
    kept: KeptViews,
    truth: BoxTable,
    seconds_of: Callable[[Sequence[int]], float],
    plan: ViewPlan | None = None,
    *,
    pool: Sequence[int] | None = None,
    plain: int = 0,
    on_progress: Tell | None = None,
) -> ViewSearch:
    """Add the view that gains most, again and again, and tell which of that pays.

    kept: candidates of all views on the images and classes of the truth. seconds_of: what a set of
    views takes an image. pool: the positions of the views to choose from, all where None; plain:
    that of the plain view, which every set holds. A set of views is scored on the boxes that
    predicting with it would write.

    Each fit goes its own way on its own images; a step is taken where its held-out folds say that
    it pays (`Judged.pays`), over the last one taken. Deterministic, but for what `seconds_of`
    tells. Raises InputError where the truth has no boxes or fewer images than folds, or where the
    plain view alone takes too long.
    """
    plan = plan or ViewPlan()
    require_judgeable(truth, plan)
    start = ViewChoice((plain,), plan.nms_ious[0], plan.merges[0])
    seconds = seconds_of(start.views)
    if plan.max_seconds is not None and seconds > plan.max_seconds:
        reason = f"the plain view alone takes {seconds:.3g} s an image"
        raise InputError(reason, field="max_seconds_per_image", value=plan.max_seconds)
    everything = range(len(kept.views)) if pool is None else pool
    search = _Search(
        kept, truth, plan, seconds_of=seconds_of, pool=everything, on_progress=on_progress
    )
    return ViewSearch(
        views=kept.views,
        metric=plan.metric,
        seed=plan.seed,
        fold=search.fits.fold,
        steps=tuple(search.steps(start)),
        sets=search.scored,
    )


def require_judgeable(truth: BoxTable, plan: ViewPlan) -> None:
    """Raise InputError where the truth has no boxes, or fewer images than the plan has folds."""
    if not len(truth) or (truth.ignore is not None and truth.ignore.all()):
        raise InputError("the labels hold no boxes: there is nothing to choose views by")
    Fits.deal(truth, plan.folds, seed=plan.seed, groups=plan.groups)


class _Choices(NamedTuple):
    """What every fit stands at, and the score of that on its own images; [1 + F] each."""

    chosen: list[ViewChoice]
    own: Array


class _Search:
    """Merges, scores and judges sets of views; none is scored twice."""

    def __init__(
        self,
        kept: KeptViews,
        truth: BoxTable,
        plan: ViewPlan,
        *,
        seconds_of: Callable[[Sequence[int]], float],
        pool: Sequence[int],
        on_progress: Tell | None,
    ) -> None:
        self.fits = Fits.deal(truth, plan.folds, seed=plan.seed, groups=plan.groups)
        self._kept, self._plan, self._pool = kept, plan, pool
        self._seconds_of, self._tell = seconds_of, on_progress
        self._truth = prepare_truth(truth)
        self._parts = self.fits.parts()
        self._levels = thresholds_of(plan.metric)
        self._known: dict[ViewChoice, Array] = {}  # scores on the own images of every fit
        self._judge = Judge(truth, self.fits, self, metric=plan.metric, seed=plan.seed)

    @property
    def scored(self) -> int:
        """How many sets of views were scored, each with its settings."""
        return len(self._known)

    def steps(self, start: ViewChoice) -> list[ViewStep]:
        """The plain view, the best settings for it, then a view more at a time."""
        everyone = [start] * len(self.fits)
        here = _Choices(everyone, self._scores([start], "plain view")[0])
        steps = [self._step("plain view", here, [])]
        if len(self._plan.nms_ious) > 1:
            settings = [start._replace(nms_iou=iou) for iou in self._plan.nms_ious]
            here = self._best(here, [settings] * len(self.fits), "settings")
            steps.append(self._step("settings", here, steps))
        while not _exhausted(steps):
            wanted = [self._additions(choice) for choice in here.chosen]
            further = self._best(here, wanted, f"view {len(here.chosen[0].views) + 1}")
            added = set(further.chosen[0].views) - set(here.chosen[0].views)
            if not added:
                break
            here = further
            steps.append(self._step(self._kept.views[added.pop()].name, here, steps))
        return steps

    def fused(
        self, choice: ViewChoice, _: int, index: NDArray[np.int64] | None = None, /
    ) -> BoxTable:
        """What a choice finds in the images at `index`, for the judge: what the metric counts."""
        table = self._merged(choice, index)
        rank = np.arange(len(table)) - table.offsets[table.image_index]
        return table.filter_rows(rank < _MAX_DETECTIONS)

    def _merged(self, choice: ViewChoice, index: NDArray[np.int64] | None = None) -> BoxTable:
        return self._kept.merged(
            choice.views,
            images=index,
            nms_iou=choice.nms_iou,
            merge=choice.merge,
            max_boxes=self._plan.max_boxes,
        )

    def _step(self, name: str, here: _Choices, before: Sequence[ViewStep]) -> ViewStep:
        judged = self._judge.judge(here.chosen)
        reason = ""
        if before:
            last = next(step for step in reversed(before) if step.accepted)
            reason = judged.pays(last.judged, before[0].judged)
        plain = before[0].judged if before else judged
        return ViewStep(
            name=name,
            chosen=tuple(here.chosen),
            own=here.own,
            judged=judged,
            gain=judged.every.above(plain.every),
            gain_small=judged.small.above(plain.small),
            seconds=self._seconds_of(here.chosen[0].views),
            reason=reason,
        )

    def _additions(self, choice: ViewChoice) -> list[ViewChoice]:
        """The sets with one view more that keep the limits, with all settings."""
        if len(choice.views) == self._plan.max_views:
            return []
        sets = [
            tuple(sorted((*choice.views, view))) for view in self._pool if view not in choice.views
        ]
        most = self._plan.max_seconds
        return [
            ViewChoice(views, iou, merge)
            for views in sets
            if most is None or self._seconds_of(views) <= most
            for iou in self._plan.nms_ious
            for merge in self._plan.merges
        ]

    def _best(self, here: _Choices, wanted: Sequence[Sequence[ViewChoice]], name: str) -> _Choices:
        """The best of what every fit wants, by its own images; where nothing gains, it stays."""
        distinct = list(dict.fromkeys(choice for choices in wanted for choice in choices))
        self._scores(distinct, name)
        chosen, own = list(here.chosen), here.own.copy()
        for fit, choices in enumerate(wanted):
            if choices:
                scores = np.array([self._known[choice][fit] for choice in choices])
                best = int(np.argmax(np.nan_to_num(scores, nan=-1.0)))
                if scores[best] > own[fit] + _TIE:
                    chosen[fit], own[fit] = choices[best], scores[best]
        return _Choices(chosen, own)

    def _scores(self, choices: Sequence[ViewChoice], name: str) -> Array:
        """Scores [S, 1 + F] on the own images of every fit; new ones in a pool of threads."""
        new = [choice for choice in choices if choice not in self._known]
        with ThreadPoolExecutor(cpu_count()) as threads:
            for done, (choice, own) in enumerate(
                zip(new, threads.map(self._score, new), strict=True), 1
            ):
                self._known[choice] = own
                if self._tell is not None:
                    self._tell(name, done, len(new))
        return np.array([self._known[choice] for choice in choices])

    def _score(self, choice: ViewChoice) -> Array:
        found = match(
            self._truth,
            self._merged(choice),
            self._levels,
            max_detections=_MAX_DETECTIONS,
            threads=1,
        )
        return mean_precisions(found, self._parts[::2])  # the own images of every fit


def _exhausted(steps: Sequence[ViewStep]) -> bool:
    """Whether the last few views did not pay."""
    last = [step for step in steps if len(step.chosen[0].views) > 1][-_PATIENCE:]
    return len(last) == _PATIENCE and not any(step.accepted for step in last)
