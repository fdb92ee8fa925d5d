"""Choosing how to fuse on labelled images, step by step, judged on images that had no say."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from smallobj.boxes import BoxTable, InputError
from smallobj.ensemble import steps
from smallobj.ensemble.calibration import Calibration
from smallobj.ensemble.candidates import Candidate, alone, calibration_kinds
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.greedy import Allowed
from smallobj.ensemble.grid import Grid, default_settings
from smallobj.ensemble.judge import Judge, mean_known
from smallobj.ensemble.limits import Costs, Limits
from smallobj.ensemble.operating_records import parse_goal
from smallobj.ensemble.score_store import ScoreStore, hash_inputs
from smallobj.ensemble.scorer import Scorer
from smallobj.ensemble.search import Search, search_pools
from smallobj.ensemble.steps import Pool, Start
from smallobj.ensemble.tuning_extras import (
    RunReliability,
    cost_front,
    reliability_by_run,
    what_each_brings,
    working_point,
)
from smallobj.ensemble.tuning_progress import Progress, Tell
from smallobj.ensemble.tuning_result import Step, Tuning
from smallobj.evaluation import thresholds_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `tune` does, and how."""

    grid: Grid | None = None  # None: `default_settings`
    metric: str = "map50"  # one of METRICS
    folds: int = 5  # at least 2
    seed: int = 0  # decides how images are dealt and drawn
    max_detections: int | None = 100  # boxes kept an image; None: all
    calibrate: str = "auto"  # one of CALIBRATION_CHOICES
    learn: bool = True  # also try to learn the confidence of fused boxes
    search: Search | None = None  # instead of the grid
    goal: str | None = None  # of the working point: f1, precision=P, recall=R
    limits: Limits | None = None  # what an ensemble may cost at most
    costs: Costs | None = None  # what each run costs; None: not known
    groups: Sequence[str] | None = field(default=None, repr=False)  # of every image
    views_of: tuple[int, ...] | None = None  # the model each run is a view of
    nms_iou: tuple[float, ...] | None = None  # one a run, where a setting does not say

    def __post_init__(self) -> None:
        thresholds_of(self.metric)
        calibration_kinds(self.calibrate, 1)
        if self.goal is not None:
            parse_goal(self.goal)

    @property
    def allowed(self) -> Allowed | None:
        """Whether weights keep the limits; InputError where no run alone does."""
        if self.limits is None or self.costs is None:
            return None
        return self.limits.holds(self.costs)

    def settings(self, tables: Sequence[BoxTable]) -> list[FusionConfig]:
        """The grid that is tried; ValueError for values it cannot have."""
        if self.grid is None:
            found = default_settings(tables, max_detections=self.max_detections)
        else:
            found = self.grid.settings(len(tables), max_detections=self.max_detections)
        return [self.of_runs(config) for config in found]

    def of_runs(self, config: FusionConfig) -> FusionConfig:
        """A setting for the runs as they are: views of one model, candidates to suppress."""
        return replace(config, models=self.views_of, nms_iou=config.nms_iou or self.nms_iou)


def tune(
    truth: BoxTable,
    tables: Sequence[BoxTable],
    models: Sequence[str],
    plan: Plan | None = None,
    *,
    store: ScoreStore | None = None,
    on_progress: Tell | None = None,
) -> Tuning:
    """Choose how to fuse, in steps: settings, calibration, size-aware IoU, weights, confidence.

    The tables, one a model, share images and classes with the truth. Every step is chosen by each
    fit on its own images, "no change" among its choices, and accepted where that pays out of fold
    (`Judged.pays`); the next one goes on from what was accepted. store: scores already computed.
    on_progress is called from any thread.

    Raises ValueError for an unknown metric, values or weights a grid cannot have, tables that do
    not fit; InputError where the truth has no boxes or fewer images than folds.
    """
    plan = plan or Plan()
    if not len(truth):
        raise InputError("the labels hold no boxes: there is nothing to tune on")
    fits = Fits.deal(truth, plan.folds, seed=plan.seed, groups=plan.groups)
    chain = _Chain(truth, tables, plan, fits, store=store, on_progress=on_progress)
    chain.run()
    return chain.result(tuple(models))


class _Chain:
    """The steps, one after the other, and what was accepted so far."""

    def __init__(
        self,
        truth: BoxTable,
        tables: Sequence[BoxTable],
        plan: Plan,
        fits: Fits,
        *,
        store: ScoreStore | None,
        on_progress: Tell | None,
    ) -> None:
        self.truth, self.tables, self.plan, self.fits = truth, tables, plan, fits
        self.progress = Progress(on_progress)
        self.scorer = Scorer(
            truth, tables, fits, metric=plan.metric, store=store, on_scored=self.progress.count
        )
        self.start = Start(
            scorer=self.scorer, allowed=plan.allowed, seed=plan.seed, expect=self.progress.expect
        )
        learner = self.scorer.learner
        self.judge = Judge(truth, fits, learner, metric=plan.metric, seed=plan.seed)
        runs, cap = len(tables), plan.max_detections
        untuned = FusionConfig(weights=(1.0,) * runs, max_detections=cap)
        singles = [alone(run, runs, cap) for run in range(runs)]
        self.simple = [plan.of_runs(config) for config in (*singles, untuned)]
        self.tried = self.simple  # settings for the table of all that was tried
        self.steps: list[Step] = []

    def run(self) -> None:
        """Go all steps."""
        settings = self.plan.settings(self.tables)
        self.progress.begin("runs alone")
        pools = steps.raw_pools(self.start, self.simple)
        self._set_marks()
        self._settle("best as it is", pools)
        if self.plan.search is None:
            self.progress.begin("settings")
            self.tried = list(dict.fromkeys([*self.simple, *settings]))
            pools = steps.raw_pools(self.start, self.tried)
            self._settle("settings", pools)
        else:
            self.progress.begin("search")
            pools = search_pools(self.start, self.plan.search, self.simple, inputs=self._inputs())
            self.tried = [candidate.config for candidate in pools[0].candidates]
            self._settle("search", pools)
        kinds = calibration_kinds(self.plan.calibrate, len(self.truth.classes))
        if kinds:
            self.progress.begin("calibration")
            self._settle(
                "calibration", steps.calibration_pools(self.start, self.state, pools, kinds)
            )
        self.progress.begin("size-aware IoU")
        self._settle("size-aware IoU", steps.size_pools(self.start, self.state))
        if len(self.tables) > 1:
            self.progress.begin("weights")
            self._settle("weights", steps.weight_pools(self.start, self.state))
        if self.plan.learn and len(self.tables) > 1:
            self.progress.begin("learnt confidence")
            self._settle("learnt confidence", steps.learnt_pools(self.start, self.state))

    def _inputs(self) -> str:
        """A name for what the scores depend on: a search must not go on with that of others."""
        plan = self.plan
        return hash_inputs(
            self.truth, self.tables, plan.metric, self.fits.fold.tolist(), plan.max_detections
        )

    @property
    def before(self) -> Step:
        """The last step that was accepted."""
        return next(step for step in reversed(self.steps) if step.accepted)

    @property
    def state(self) -> tuple[Candidate, ...]:
        """What every fit has chosen so far, [1 + F]."""
        return self.before.chosen

    def _set_marks(self) -> None:
        """What every step is held against: the best run alone, and the untuned default."""
        *singles, untuned = ([Candidate(config=config)] * len(self.fits) for config in self.simple)
        allowed = set(self.start.may(self.simple[:-1]))
        held_out = self.scorer.raw(self.simple)[:, 1:, 1]
        means = [
            mean_known(held_out[run]) if config in allowed else -np.inf
            for run, config in enumerate(self.simple[:-1])
        ]
        self.best_single = int(np.argmax(np.nan_to_num(means, nan=-1.0)))
        self.single = self.judge.judge(singles[self.best_single])
        self.untuned = self.judge.judge(untuned)

    def _settle(self, name: str, pools: Sequence[Pool]) -> None:
        """Let every fit choose; accept the step where that pays."""
        chosen = [pool.candidates[pool.best] for pool in pools]
        own = np.array([pool.scores[pool.best] for pool in pools])
        if self.steps:
            for fit, (candidate, score) in enumerate(zip(self.state, self.before.own, strict=True)):
                if not own[fit] > score:
                    chosen[fit], own[fit] = candidate, score
        judged = self.judge.judge(chosen)
        before = self.before.judged if self.steps else judged
        reason = judged.pays(before, self.single) if self.steps else ""
        tried = {candidate for pool in pools for candidate in pool.candidates}
        self.steps.append(
            Step(
                name=name,
                tried=len(tried),
                chosen=tuple(chosen),
                own=own,
                judged=judged,
                gain=judged.every.above(before.every),
                gain_small=judged.small.above(before.small),
                above_untuned=judged.every.above(self.untuned.every),
                reason=reason,
            )
        )

    def result(self, models: tuple[str, ...]) -> Tuning:
        """All that was found."""
        final, learner, plan = self.before, self.scorer.learner, self.plan
        scores = self.scorer.raw(self.tried)
        goal = plan.goal
        return Tuning(
            models=models,
            metric=plan.metric,
            seed=plan.seed,
            fold=self.fits.fold,
            settings=tuple(self.tried),
            scores=scores[:, 0, 0],
            held_out=scores[:, 1:, 1],
            others=scores[:, 1:, 0],
            steps=tuple(self.steps),
            best_single=self.best_single,
            single=self.single,
            untuned=self.untuned,
            gain=final.judged.every.above(self.single.every),
            gain_small=final.judged.small.above(self.single.small),
            calibrations=self._calibrations(final.chosen[0]),
            confidence=learner.confidence(final.chosen[0], 0) if final.chosen[0].learnt else None,
            reliability=self._reliability(models),
            brings=what_each_brings(models, final.chosen, self.scorer),
            front=()
            if plan.costs is None
            else cost_front(final.chosen[0], self.scorer, plan.costs),
            working_point=None
            if goal is None
            else working_point(self.truth, final.chosen, self.fits, learner, goal),
        )

    def _calibrations(self, chosen: Candidate) -> tuple[Calibration | None, ...]:
        if chosen.calibration is None:
            return ()
        fitted = self.scorer.learner.fitted(chosen.calibration, 0)
        weights = chosen.config.weights_of(len(fitted))
        return tuple(
            one if weight > 0 else None for one, weight in zip(fitted, weights, strict=True)
        )

    def _reliability(self, models: tuple[str, ...]) -> tuple[RunReliability, ...]:
        """Of the calibration that the step chose on all images, accepted or not."""
        kinds = [step.chosen[0].calibration for step in self.steps if step.name == "calibration"]
        if not kinds or kinds[0] is None:
            return ()
        learner = self.scorer.learner
        return reliability_by_run(models, self.tables, self.fits, learner, kinds[0])
