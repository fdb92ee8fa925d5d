from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smallobj.cli.label_options import (
    MOST_BOXES,
    CommonOption,
    ImagesOption,
    KindOption,
    LabelsOption,
    NamesOption,
    OriginOption,
    RunClassesOption,
    SplitOption,
    StrictOption,
    UnitOption,
)
from smallobj.cli.scored import counted, read_scored

if TYPE_CHECKING:
    from rich.table import Table

    from smallobj.evaluation import Evaluation, RunScore, Score
    from smallobj.formats import Run


_ONE_LINE = 110  # columns that a row of the first table needs with its intervals


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Runs to score, in any format (docs/formats.md)."),
    ] = None,
    *,
    labels: LabelsOption,
    images: ImagesOption = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    voc_origin: OriginOption = 1,
    common: CommonOption = False,
    classes: RunClassesOption = None,
    unit: UnitOption = None,
    metric: Annotated[
        str,
        typer.Option(
            help="What is shown by class and size, and compared, where there are several runs:"
            " map50, map75 or map50_95."
        ),
    ] = "map50",
    max_detections: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_BOXES, help="Boxes that count in each image, the best by score; 0: all."
        ),
    ] = 100,
    ap: Annotated[
        str,
        typer.Option(
            help="Average precision as the area under the curve, or as COCO's mean at 101 recalls"
            " or VOC's at 11: area, coco101 or voc11."
        ),
    ] = "area",
    coco: Annotated[
        bool, typer.Option("--coco", help="Also print the twelve numbers of COCO's own tool.")
    ] = False,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0, help="Random draws of the images for the 95 % intervals; 0: no intervals."
        ),
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is drawn at random.")] = 0,
    strict: StrictOption = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every number to FILE, as JSON.")
    ] = None,
) -> None:
    """Score runs against labels: mean average precision, by size and by class.

    docs/metric.md explains the numbers. Of several runs, each is compared with the
    first on the same draws of images.

    Example: smallobj evaluate runs/a.json runs/b.json --labels photos/val --json scores.json
    """
    import msgspec
    from rich.console import Console

    from smallobj.boxes import InputError, check_writable, write_bytes
    from smallobj.evaluation import AP_CHOICES, METRICS, score_runs

    for field, value, known in (("metric", metric, METRICS), ("ap", ap, AP_CHOICES)):
        if value not in known:
            raise InputError(f"unknown; known: {', '.join(known)}", field=field, value=value)
    if json is not None:
        check_writable(json)
    scored = read_scored(
        runs or [],
        labels,
        images=images,
        kind=kind,
        split=split,
        names=names,
        voc_origin=voc_origin,
        common=common,
        strict=strict,
        classes=classes,
        unit=unit,
    )
    scores = score_runs(
        scored.truth,
        scored.tables,
        max_detections=max_detections or None,
        ap=ap,  # type: ignore[arg-type]
        samples=bootstrap,
        seed=seed,
        coco=coco,
    )
    if json is not None:
        settings = {"metric": metric, "bootstrap": bootstrap, "seed": seed, "common": common}
        content = {"labels": str(labels), **settings, "runs": _named(scored.runs, scores)}
        write_bytes(json, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge to break lines at
    for table in _tables(scored.runs, scores, metric, narrow=console.width < _ONE_LINE):
        console.print(table)


def _named(runs: "Sequence[Run]", scores: "Sequence[RunScore]") -> list[dict[str, Any]]:
    return [
        {"name": run.name, "path": str(run.path), **score.as_dict()}
        for run, score in zip(runs, scores, strict=True)
    ]


def _tables(
    runs: "Sequence[Run]", scores: "Sequence[RunScore]", metric: str, *, narrow: bool
) -> "list[Table]":
    all_names = [run.name for run in runs]
    names = [run.name if all_names.count(run.name) == 1 else str(run.path) for run in runs]
    evaluations = [score.evaluation for score in scores]
    tables = [
        _overall(names, scores, narrow=narrow),
        _parts("size (sqrt of area)", names, evaluations, metric, lambda e: e.by_size),
        _parts("class", names, evaluations, metric, lambda e: e.by_class),
    ]
    if scores[-1].above_first:
        tables.insert(1, _compared(names, scores, metric))
    if scores[0].coco is not None:
        tables.append(_coco(names, scores))
    return tables


def _overall(names: Sequence[str], scores: "Sequence[RunScore]", *, narrow: bool) -> "Table":
    from smallobj.evaluation import METRICS

    first = scores[0].evaluation
    capped = any(score.evaluation.dropped for score in scores)
    table = _table("run", *METRICS, "recall50", "boxes", *(["over the cap"] if capped else []))
    for column in table.columns[1:]:
        column.no_wrap = True  # a long name gives way
    for name, score in zip(names, scores, strict=True):
        cells = [
            _number(getattr(score.evaluation, one)) + _beside(score.intervals.get(one), narrow)
            for one in METRICS
        ]
        cells += [_number(score.evaluation.overall.recall50), str(score.evaluation.detections)]
        table.add_row(_text(name), *cells, *([str(score.evaluation.dropped)] if capped else []))
    ignored = f", {first.ignored_boxes} ignored regions" if first.ignored_boxes else ""
    boxes, images = counted(first.overall.boxes, "true box"), counted(first.images, "image")
    table.caption = f"{boxes} in {images}{ignored}"
    return table


def _compared(names: Sequence[str], scores: "Sequence[RunScore]", metric: str) -> "Table":
    """What each run has above the first one."""
    table = _table("run", f"{metric} above {names[0]}", "95 % interval")
    for name, score in zip(names[1:], scores[1:], strict=True):
        above = score.above_first[metric]
        table.add_row(_text(name), f"{above.mean:+.4f}", f"{above.low:+.4f} to {above.high:+.4f}")
    return table


def _parts(
    what: str,
    names: Sequence[str],
    evaluations: "Sequence[Evaluation]",
    metric: str,
    parts_of: "Callable[[Evaluation], Sequence[Score]]",
) -> "Table":
    """Scores by size or class: all numbers of one run, or the metric of several."""
    by_run = [parts_of(evaluation) for evaluation in evaluations]
    if len(by_run) == 1:
        columns = ("map50", "map75", "map50_95", "recall50")
        table = _table(what, "true boxes", *columns)
    else:
        table = _table(what, "true boxes", *(f"{name} {metric}" for name in names))
    for same_part in zip(*by_run, strict=True):
        part = same_part[0]
        values = (
            [getattr(part, column) for column in columns]
            if len(by_run) == 1
            else [getattr(one, metric) for one in same_part]
        )
        table.add_row(_text(part.name), str(part.boxes), *map(_number, values))
    return table


def _coco(names: Sequence[str], scores: "Sequence[RunScore]") -> "Table":
    from smallobj.evaluation import COCO_NUMBERS

    table = _table("COCO", *names)
    for number in COCO_NUMBERS:
        values = [score.coco[number] for score in scores if score.coco is not None]
        table.add_row(number, *(f"{value:.4f}" if value >= 0 else "-" for value in values))
    return table


def _table(first: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption_justify="left", padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(_text(column), justify="right")
    return table


def _text(name: str) -> Any:
    from rich.text import Text

    return Text(name)  # names may hold what rich takes for markup


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"  # noqa: PLR0124 - NaN: nothing to find


def _beside(interval: Any, narrow: bool) -> str:
    """An interval behind its number, or below it where there is no room."""
    if interval is None:
        return ""
    text = f"{interval.low:.3f} to {interval.high:.3f}"
    return f"\n{text}" if narrow else f" ({text})"
