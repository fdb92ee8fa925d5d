"""Fuse runs from files into a file: as much at a time as the files' order allows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from smallobj.boxes import BoxTable, Classes, Images, InputError, Source, check_writable, whole_file
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion_plan import Fused, FusionPlan, plan_fusion
from smallobj.ensemble.recipe import Recipe
from smallobj.formats import (
    Labels,
    Run,
    RunInfo,
    align_runs,
    read_run_classes,
    read_runs,
)
from smallobj.formats.ahead import done_behind, made_ahead
from smallobj.formats.image_spans import CHUNK_ROWS, image_spans
from smallobj.formats.parquet_run import find as is_parquet
from smallobj.formats.provenance import Origins, check_provenance_path, provenance_writer
from smallobj.formats.raw_run import Unit
from smallobj.formats.run_costs import cost_of, sum_costs
from smallobj.formats.run_sink import RunSink, run_sink

_WAITING = 2  # chunks read ahead, and written behind


@dataclass(frozen=True, kw_only=True)
class FuseFiles:
    """What to fuse, how, and where to."""

    runs: Sequence[Path]
    out: Path
    kind: str = "challenge"  # of the fused run, one of RUN_KINDS
    config: FusionConfig = field(default_factory=FusionConfig)
    recipe: Recipe | None = None  # instead of config
    thresholds: bool = False  # leave out boxes below those of the recipe's working point
    labels: Labels | None = None  # classes, COCO's image ids, sizes
    images: Path | None = None  # image folder, for sizes
    classes: Sequence[str] = ()  # RUN=FILE, what class numbers mean
    unit: Unit | None = None
    views_as_runs: bool = False
    provenance: Path | None = None  # .csv, .jsonl or .parquet
    backend: str = "compiled"
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class FusedFiles:
    """What was done."""

    images: int
    boxes: int
    runs: int  # that took part
    seconds: float
    notes: tuple[str, ...]  # what the user is to be told


def fuse_files(
    request: FuseFiles, *, on_progress: Callable[[int, int], None] | None = None
) -> FusedFiles:
    """Fuse runs into a run, and its provenance where wanted; both are written whole or not at all.

    Parquet runs that name their images in one order are read, fused and written in step, so that
    they may be larger than memory. on_progress: images done, and of how many.

    Raises InputError where a value, a file or a setting is at fault.
    """
    start = perf_counter()
    _check_outputs(request)
    source = _open(request)
    plan, told = plan_fusion(
        source.runs,
        source.sources,
        request.config,
        recipe=request.recipe,
        thresholds=request.thresholds,
        views_as_runs=request.views_as_runs,
        backend=request.backend,
    )
    with ExitStack() as stack:
        sink = stack.enter_context(
            run_sink(
                request.out, source.images, source.classes, kind=request.kind, labels=request.labels
            )
        )
        count = _Count(len(source.images), on_progress)
        write_origins = _origins_file(stack, request.provenance)
        _fuse_parts(plan, source.chunks(), sink, write_origins, count)
        info = _info(source, plan, round(perf_counter() - start, 3))
        written = sink.finish(info)
    notes = [*source.notes, *told, *source.repairs(), *written, *count.notes()]
    return FusedFiles(
        images=count.images,
        boxes=count.boxes,
        runs=len(plan.used),
        seconds=perf_counter() - start,
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Runs on the same images and classes, whole or in step."""

    runs: Sequence[Run]  # with or without their boxes
    sources: Sequence[Sequence[Source]]
    images: Images
    classes: Classes
    notes: Sequence[str]
    chunks: Callable[[], Iterator[list[BoxTable]]]
    repairs: Callable[[], list[str]]  # complete when all chunks were taken


def _open(request: FuseFiles) -> _Source:
    """The runs in step where they can be, else whole; what keeps them from it is told."""
    if len(request.runs) and request.unit is None and all(map(is_parquet, request.runs)):
        from smallobj.formats.parquet_stream import UnlikeOrders  # noqa: PLC0415 - loads pyarrow

        try:
            return _in_step(request)
        except UnlikeOrders as reason:
            return _whole(request, [f"{reason}: the runs are read whole, not a part at a time"])
    return _whole(request, [])


def _in_step(request: FuseFiles) -> _Source:
    from smallobj.formats.parquet_stream import RunStream  # noqa: PLC0415

    table = None if request.labels is None else request.labels.table
    stream = RunStream(
        request.runs,
        known=None if table is None else table.classes,
        classes=read_run_classes(request.classes, request.runs),
        sized=None if table is None else table.images,
        image_folder=request.images,
        strict=request.strict,
    )
    return _Source(
        runs=stream.runs,
        sources=stream.sources,
        images=stream.images,
        classes=stream.classes,
        notes=stream.notes,
        chunks=stream.chunks,
        repairs=lambda: [
            f"{run.path}: {line}"
            for run, repairs in zip(stream.runs, stream.repairs, strict=True)
            for line in repairs.lines()
        ],
    )


def _whole(request: FuseFiles, notes: list[str]) -> _Source:
    table = None if request.labels is None else request.labels.table
    runs = read_runs(
        request.runs,
        labels=request.labels,
        classes=read_run_classes(request.classes, request.runs),
        unit=request.unit,
        strict=request.strict,
    )
    aligned = align_runs(
        runs,
        classes=None if table is None else table.classes,
        sized=None if table is None else table.images,
        image_folder=request.images,
    )
    return _Source(
        runs=runs,
        sources=[table.sources for table in aligned.tables],
        images=aligned.images,
        classes=aligned.classes,
        notes=[*notes, *aligned.notes],
        chunks=partial(_chunks, aligned.tables),
        repairs=lambda: [f"{run.path}: {line}" for run in runs for line in run.repairs.lines()],
    )


def _chunks(tables: Sequence[BoxTable]) -> Iterator[list[BoxTable]]:
    rows = np.sum([np.diff(table.offsets) for table in tables], axis=0)
    for start, stop in image_spans(rows, CHUNK_ROWS):
        yield [table.images_slice(start, stop) for table in tables]


class _Count:
    """Adds up what was fused, and tells how far it is."""

    def __init__(self, total: int, on_progress: Callable[[int, int], None] | None) -> None:
        self.images = self.boxes = self._clipped = self._below = 0
        self._total, self._on_progress = total, on_progress

    def add(self, fused: Fused) -> None:
        self.images += len(fused.table.images)
        self.boxes += len(fused.table)
        self._clipped += fused.clipped
        self._below += fused.below
        if self._on_progress is not None:
            self._on_progress(self.images, self._total)

    def notes(self) -> list[str]:
        told = (
            (self._clipped, "score{} above 1 cut to 1", "s"),
            (self._below, "box{} below the thresholds left out", "es"),
        )
        return [
            f"{count} {text.format('' if count == 1 else plural)}"
            for count, text, plural in told
            if count
        ]


def _fuse_parts(
    plan: FusionPlan,
    chunks: Iterator[list[BoxTable]],
    sink: RunSink,
    write_origins: Callable[[BoxTable, Origins], None] | None,
    count: _Count,
) -> None:
    """Read, fuse and write at the same time."""

    def write(fused: Fused) -> None:
        sink.write(fused.table)
        if write_origins is not None and fused.origins is not None:
            write_origins(fused.table, fused.origins)

    with made_ahead(chunks, _WAITING) as parts, done_behind(write, _WAITING) as hand_over:
        for tables in parts:
            fused = plan.fuse(tables, traced=write_origins is not None)
            hand_over(fused)
            count.add(fused)


def _origins_file(
    stack: ExitStack, path: Path | None
) -> Callable[[BoxTable, Origins], None] | None:
    """What writes the provenance, where it is wanted; the file is whole when the stack ends."""
    if path is None:
        return None
    place = stack.enter_context(whole_file(path))
    return stack.enter_context(provenance_writer(place, path.suffix.lower()))


def _info(source: _Source, plan: FusionPlan, seconds: float) -> RunInfo:
    used = [source.runs[run] for run in plan.used]
    weight_mb, latency_ms = sum_costs([cost_of(run.info, run.name) for run in used])
    return RunInfo(
        model=" + ".join(plan.models[run] for run in plan.used),
        classes=source.classes,
        cap=plan.config.max_detections,
        seconds=seconds,
        weight_mb=weight_mb,
        latency_ms=latency_ms,
    )


def _check_outputs(request: FuseFiles) -> None:
    """Raise InputError before the work where the results could not be written."""
    runs = {path.resolve() for path in request.runs}
    written = [request.out, *([request.provenance] if request.provenance else [])]
    for path in written:
        if path.resolve() in runs:
            raise InputError("is one of the runs to fuse; write elsewhere", file=path)
    if request.provenance is not None:
        check_provenance_path(request.provenance)
        if request.backend != "compiled":
            reason = "ensemble-boxes does not tell what it fuses: leave out --backend"
            raise InputError(reason, field="provenance", value=request.provenance.name)
        if request.provenance.resolve() == request.out.resolve():
            raise InputError("is the fused run itself; write elsewhere", file=request.provenance)
    for path in written:
        if request.kind != "yolo" or path != request.out:
            check_writable(path)
