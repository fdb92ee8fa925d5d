from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smallobj.cli.label_options import (
    RunClassesOption,
    RunImagesOption,
    RunKind,
    StrictOption,
    UnitOption,
)
from smallobj.cli.scored import counted, run_repairs, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from smallobj.formats import RunSummary

runs_app = typer.Typer(
    no_args_is_help=True, help="Say what runs hold; join the folds of one architecture."
)
RunsArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUN", help="Runs, in any format (docs/formats.md)."),
]


@runs_app.command()
def join(
    runs: RunsArgument = None,
    *,
    out: Annotated[Path, typer.Option(help="The run that is written.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Id of the joined model, by which recipes know it.",
            show_default="what the folds' ids begin with",
        ),
    ] = None,
    to: Annotated[RunKind, typer.Option(help="The format to write.")] = RunKind.challenge,
    classes: RunClassesOption = None,
    images: RunImagesOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="COCO labels, where COCO results are read or written."),
    ] = None,
    unit: UnitOption = None,
    strict: StrictOption = False,
) -> None:
    """Join out-of-fold runs of one architecture into one run, a member of an ensemble.

    Each image stands in one of the runs: that of the model which has not seen it. Writes
    NAME.run.toml beside OUT, which lists the folds.

    Example: smallobj runs join runs/a-fold0.json runs/a-fold1.json --out runs/a.json
    """
    from smallobj.boxes import InputError, check_writable
    from smallobj.formats import (
        in_pixels,
        join_runs,
        read_labels,
        read_run_classes,
        read_runs,
        write_run,
    )

    paths = runs or []
    if out.resolve() in {path.resolve() for path in paths}:
        raise InputError("is one of the runs to join; write elsewhere", file=out)
    if to is not RunKind.yolo:
        check_writable(out)
    truth = None if labels is None else read_labels(labels)
    said = read_run_classes(classes or (), paths)
    loaded = read_runs(paths, labels=truth, classes=said, unit=unit, strict=strict)
    sized = None if truth is None else truth.table.images
    folds = [in_pixels(run, sized=sized, image_folder=images) for run in loaded]
    table, info = join_runs(folds, model=model)
    notes = write_run(out, table, info, kind=to.value, labels=truth)
    tell([*run_repairs(loaded), *notes])
    typer.echo(
        f"{out}: {info.model}, {counted(len(table.images), 'image')}, {counted(len(table), 'box')}"
        f" of {counted(len(loaded), 'run')}"
    )


@runs_app.command()
def info(
    runs: RunsArgument = None,
    *,
    classes: RunClassesOption = None,
    unit: UnitOption = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write every number to FILE, as JSON."),
    ] = None,
) -> None:
    """Say what runs hold: format, model, images, boxes, classes, scores.

    Example: smallobj runs info runs/*.json --json runs.info
    """
    import msgspec
    from rich.console import Console

    from smallobj.boxes import check_writable, write_bytes
    from smallobj.formats import read_run_classes, read_runs, summarise

    if json_file is not None:
        check_writable(json_file)
    paths = runs or []
    loaded = read_runs(paths, classes=read_run_classes(classes or (), paths), unit=unit)
    summaries = [summarise(run) for run in loaded]
    tell(run_repairs(loaded))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge to break lines at
    console.print(_table(summaries))
    if json_file is not None:
        content = msgspec.json.encode([summary.as_dict() for summary in summaries])
        write_bytes(json_file, msgspec.json.format(content) + b"\n")


def _table(summaries: "Sequence[RunSummary]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("run", "kind", "model"):
        table.add_column(name, overflow="fold")
    for name in ("images", "empty", "boxes", "an image", "most", "classes", "scores"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in summaries:
        scores = "-"
        if one.lowest_score is not None:
            scores = f"{one.lowest_score:.3g} to {one.highest_score:.3g}"
        kind = one.kind if one.unit == "pixel" else f"{one.kind} (fractions)"
        table.add_row(
            Text(one.path),
            kind,
            Text(one.model or "-"),
            *(str(one.images), str(one.empty_images), str(one.boxes)),
            *(f"{one.boxes_an_image:.1f}", str(one.most_boxes)),
            *(f"{one.classes} of {one.known_classes}", scores),
        )
    return table
