"""What is done to the tables of several runs: choose, calibrate, fuse, cut; a chunk at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, InputError, Source
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import clip_scores, fuse, fuse_traced
from smallobj.ensemble.learnt_confidence import fuse_learnt
from smallobj.ensemble.operating_point import reach_thresholds
from smallobj.ensemble.recipe import Recipe, model_names
from smallobj.ensemble.reference import fuse_reference
from smallobj.ensemble.trace import Trace
from smallobj.formats import Run
from smallobj.formats.provenance import Origins

BACKENDS = ("compiled", "ensemble-boxes")
T = TypeVar("T")

_OURS = ("class_agnostic", "shift_px", "min_votes", "models")  # ensemble-boxes has none of these


@dataclass(frozen=True, kw_only=True)
class Fused:
    """Some images' boxes, fused."""

    table: BoxTable
    clipped: int  # scores above 1 that were cut to 1
    below: int  # boxes left out under the thresholds
    origins: Origins | None


@dataclass(frozen=True, kw_only=True)
class Member:
    """One table that is fused: a run, or one view of a run."""

    run: int  # position among all runs
    source: int | None  # position among the run's sources; None: all of them


@dataclass(frozen=True, kw_only=True)
class FusionPlan:
    """How runs are fused; every image by itself, so that tables may come in parts."""

    runs: tuple[str, ...]  # names of all runs
    models: tuple[str, ...]  # what their models are called
    used: tuple[int, ...]  # positions of the runs that take part
    members: tuple[Member, ...]
    sources: tuple[Source, ...]  # of all runs, told in the provenance
    first_source: tuple[int, ...]  # of each run, where its own begin
    config: FusionConfig  # with values for the members
    recipe: Recipe | None = None
    thresholds: bool = False  # leave out boxes below those of the recipe's working point
    backend: str = "compiled"

    def fuse(self, tables: Sequence[BoxTable], *, traced: bool = False) -> Fused:
        """Fuse some images' tables, one of every run; traced: tell the origin of each box.

        Raises InputError where the settings do not go together.
        """
        chosen = [tables[run] for run in self.used]
        prepared = chosen if self.recipe is None else self.recipe.prepare(chosen)
        calibrated = dict(zip(self.used, prepared, strict=True))
        rows = [self._rows(tables, member) for member in self.members]
        parts = [
            calibrated[member.run] if keep is None else calibrated[member.run].filter_rows(keep)
            for member, keep in zip(self.members, rows, strict=True)
        ]
        fused, trace = self._fuse(parts, traced=traced)
        fused, clipped = clip_scores(fused)
        origins = None
        if trace is not None:
            origins = self._origins(tables, calibrated, rows, trace)
        return self._cut(fused, clipped, origins)

    def _rows(self, tables: Sequence[BoxTable], member: Member) -> NDArray[np.bool_] | None:
        source = tables[member.run].source
        return None if member.source is None or source is None else source == member.source

    def _fuse(self, tables: Sequence[BoxTable], *, traced: bool) -> tuple[BoxTable, Trace | None]:
        confidence = None if self.recipe is None else self.recipe.confidence
        try:
            if confidence is not None:
                fused, trace = fuse_learnt(tables, self.config, confidence)
                return fused, trace if traced else None
            if self.backend != "compiled":
                return fuse_reference(tables, self.config), None
            return fuse_traced(tables, self.config) if traced else (fuse(tables, self.config), None)
        except ValueError as error:
            raise InputError(str(error)) from error

    def _cut(self, fused: BoxTable, clipped: int, origins: Origins | None) -> Fused:
        point = None if self.recipe is None else self.recipe.operating_point
        if not self.thresholds or point is None:
            return Fused(table=fused, clipped=clipped, below=0, origins=origins)
        keep = reach_thresholds(fused, point)
        below = int((~keep).sum())
        if origins is not None and below:
            origins = origins.of_fused(keep)
        return Fused(table=fused.filter_rows(keep), clipped=clipped, below=below, origins=origins)

    def _origins(
        self,
        tables: Sequence[BoxTable],
        calibrated: dict[int, BoxTable],
        rows: Sequence[NDArray[np.bool_] | None],
        trace: Trace,
    ) -> Origins:
        """The trace in terms of the runs as they were given."""
        count = len(trace.row)
        xyxy, score, after = np.empty((count, 4)), np.empty(count), np.empty(count)
        source = np.empty(count, np.int32)
        for number, (member, keep) in enumerate(zip(self.members, rows, strict=True)):
            of_member = trace.run == number
            row = trace.row[of_member]
            if keep is not None:
                row = np.flatnonzero(keep)[row]
            table = tables[member.run]
            xyxy[of_member], score[of_member] = table.xyxy[row], _scores(table)[row]
            after[of_member] = _scores(calibrated[member.run])[row]
            own = 0 if table.source is None else table.source[row]
            source[of_member] = self.first_source[member.run] + own
        weights = np.array(self.config.weights_of(len(self.members)))
        is_calibrated = self.recipe is not None and any(self.recipe.calibrations)
        return Origins(
            fused_row=np.repeat(np.arange(len(trace.offsets) - 1), np.diff(trace.offsets)),
            source=source,
            sources=self.sources,
            weight=weights[trace.run],
            score=score,
            calibrated=after if is_calibrated else None,
            xyxy=xyxy,
        )


def plan_fusion(
    runs: Sequence[Run],
    sources: Sequence[Sequence[Source]],
    config: FusionConfig,
    *,
    recipe: Recipe | None = None,
    thresholds: bool = False,
    views_as_runs: bool = False,
    backend: str = "compiled",
) -> tuple[FusionPlan, list[str]]:
    """The plan for runs, and what to tell of it.

    sources: the views that each run keeps apart, empty where it does not. config: settings, one
    value a run where they have one; a recipe has its own instead. Runs of one model id are views of
    one model, and vote as one, unless `views_as_runs`, under which the views inside a run count
    each as well.

    Raises InputError where settings do not fit the runs or each other.
    """
    models = model_names(runs)
    used: list[int] = list(range(len(runs)))
    if recipe is None:
        _check_lengths(config, len(runs))
    notes: list[str] = []
    if recipe is not None:
        used, config = recipe.choose(models)
    else:
        if config.nms_iou is None:
            config = replace(config, nms_iou=suppression_of(runs, notes))
        if not views_as_runs:
            config = _as_views(config, runs, notes)
    members = [
        Member(run=run, source=source)
        for run in used
        for source in (_views_of(sources[run]) if views_as_runs else [None])
    ]
    _check(recipe, thresholds=thresholds, views_as_runs=views_as_runs)
    _check_backend(backend, config, recipe)
    told = [_sources_of(run, own) for run, own in zip(runs, sources, strict=True)]
    plan = FusionPlan(
        runs=tuple(run.name for run in runs),
        models=models,
        used=tuple(used),
        members=tuple(members),
        sources=tuple(chain.from_iterable(told)),
        first_source=tuple(np.cumsum([0, *map(len, told)])[:-1].tolist()),
        config=_for_members(config, used, members),
        recipe=recipe,
        thresholds=thresholds,
        backend=backend,
    )
    return plan, notes


def _check(recipe: Recipe | None, *, thresholds: bool, views_as_runs: bool) -> None:
    if views_as_runs and recipe is not None:
        raise InputError("--recipe says this already", field="views_as_runs")
    if thresholds and (recipe is None or recipe.operating_point is None):
        reason = "needs a recipe with a working point (smallobj tune --operating-point)"
        raise InputError(reason, field="thresholds")


def _check_lengths(config: FusionConfig, runs: int) -> None:
    """Raise InputError where settings of one value a run have another number of them."""
    for name in ("weights", "nms_iou"):
        values = getattr(config, name)
        if values is not None and len(values) != runs:
            reason = f"{len(values)} {name} for {runs} run{'s' * (runs != 1)}"
            given = ",".join(f"{value:g}" for value in values)
            raise InputError(reason, field=name, value=given)


def _check_backend(backend: str, config: FusionConfig, recipe: Recipe | None) -> None:
    if backend not in BACKENDS:
        raise InputError(f"known: {', '.join(BACKENDS)}", field="backend", value=backend)
    if backend == "compiled":
        return
    if recipe is not None and recipe.confidence is not None:
        reason = "ensemble-boxes cannot learn confidence, which the recipe has: leave it out"
        raise InputError(reason, field="backend", value=backend)
    for name in _OURS:
        if getattr(config, name) != getattr(FusionConfig(), name):
            reason = "ensemble-boxes has no such setting: leave out --backend"
            raise InputError(reason, field=name, value=getattr(config, name))


def suppression_of(runs: Sequence[Run], notes: list[str]) -> tuple[float, ...] | None:
    """The IoU by which predicting would have suppressed each run; None: no run holds candidates."""
    iou: list[float] = []
    for run in runs:
        kept = run.info is not None and run.info.candidates
        value = run.info.nms_iou if run.info is not None and kept else None
        iou.append(1.0 if value is None else value)
        if value is not None:
            notes.append(
                f"{run.name} holds candidates, suppressed by IoU {value:g} as its run.toml says"
            )
    return None if all(value == 1 for value in iou) else tuple(iou)


def _as_views(config: FusionConfig, runs: Sequence[Run], notes: list[str]) -> FusionConfig:
    """The settings under which runs of one model id are its views."""
    ids = [f"run {i}" if run.info is None else f"id {run.info.model}" for i, run in enumerate(runs)]
    if len(set(ids)) == len(ids):
        return config
    known = list(dict.fromkeys(ids))
    for model in known:
        same = [run.name for run, one in zip(runs, ids, strict=True) if one == model]
        if len(same) > 1:
            notes.append(
                f"{', '.join(same)} are views of one model ({model.removeprefix('id ')}) and vote"
                " as one; --views-as-runs counts each"
            )
    return replace(config, models=tuple(known.index(model) for model in ids))


def _for_members(
    config: FusionConfig, used: Sequence[int], members: Sequence[Member]
) -> FusionConfig:
    """Settings that have one value a run, with one a member."""
    place = [used.index(member.run) for member in members]

    def of_members(values: tuple[T, ...] | None) -> tuple[T, ...] | None:
        return None if values is None else tuple(values[i] for i in place)

    return replace(
        config,
        weights=of_members(config.weights),
        nms_iou=of_members(config.nms_iou),
        models=of_members(config.models),
    )


def _views_of(sources: Sequence[Source]) -> list[int | None]:
    return list(range(len(sources))) if len(sources) > 1 else [None]


def _sources_of(run: Run, own: Sequence[Source]) -> list[Source]:
    """What the provenance calls the run and its views; at least one."""
    if own:
        return [Source(run.name, source.view) for source in own]
    views = () if run.info is None else run.info.views
    return [Source(run.name, "|".join(views))]


def _scores(table: BoxTable) -> Array:
    assert table.score is not None
    return table.score
