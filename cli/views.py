from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smallobj.cli.fold_options import FoldSeedOption, FoldsOption, GroupsOption
from smallobj.cli.label_options import (
    ImagesOption,
    KindOption,
    NamesOption,
    OriginOption,
    SplitOption,
)
from smallobj.cli.look_options import (
    VIEWS_HELP,
    BatchOption,
    DeviceOption,
    OverlapOption,
    PrecisionOption,
    ThreadsOption,
    TileOption,
    batch_of,
)
from smallobj.cli.scored import tell

if TYPE_CHECKING:
    from smallobj.formats import Labels
    from smallobj.prediction import FoundViews, ViewRequest

views_app = typer.Typer(no_args_is_help=True, help="Ways to look at an image: which of them pay.")


@views_app.command()
def search(
    run: Annotated[
        Path, typer.Argument(help="Folder of a trained model, runs/NAME, or NAME.onnx.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Labelled images to choose on; with --labels the images alone."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The recipe that is written, a .toml file.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="True boxes, where they do not lie with the images.", show_default="DATA"
        ),
    ] = None,
    images: ImagesOption = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    voc_origin: OriginOption = 1,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help=f"The pool to choose from. {VIEWS_HELP}",
            show_default="flips and turns as in training, times scale=0.75|1|1.25|1.5",
        ),
    ] = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    candidates: Annotated[
        Path | None,
        typer.Option(
            help="Candidates that predict --keep candidates wrote for these images; the pool is"
            " their views, unless --views says some of them.",
            show_default="predicted, to NAME.candidates.parquet beside OUT",
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="What to make as high as possible: map50, map75 or map50_95.")
    ] = "map50",
    nms_iou: Annotated[
        str,
        typer.Option(
            metavar="IOU[,IOU,...]",
            help="Values to try; the first one is what the plain view is taken with.",
        ),
    ] = "0.5",
    merge: Annotated[
        str, typer.Option(metavar="WAY[,WAY,...]", help="Ways to try: of wbf, nms, nmw.")
    ] = "wbf,nmw",
    max_views: Annotated[
        int | None, typer.Option(help="Most views that may be chosen.", show_default="no limit")
    ] = None,
    max_seconds_per_image: Annotated[
        float | None,
        typer.Option(
            help="Most seconds an image that the views may take here.", show_default="no limit"
        ),
    ] = None,
    folds: FoldsOption = 5,
    groups: GroupsOption = None,
    seed: FoldSeedOption = 0,
    batch: BatchOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    json: Annotated[
        Path | None, typer.Option(help="Also write all that was tried, as JSON.")
    ] = None,
) -> None:
    """Find out which views pay: what each one more brings on images that had no say, and costs.

    All views of the pool look at the labelled images once; sets of them are then merged and scored
    without predicting again. From the plain view on, the view that gains most is added, as long as
    that pays out of fold. Says so where none does, and then chooses the plain view.

    Writes the recipe for `smallobj predict --recipe`. Interrupted and started again, it goes on.

    Example: smallobj views search runs/centernet photos --split val --out views.toml

    Example: smallobj views search runs/centernet photos --split val --out views.toml
    --views "hflip,scale=1|1.5|2" --nms-iou 0.4,0.5,0.6 --max-seconds-per-image 2

    Example: smallobj views search runs/centernet val --candidates val.parquet --out views.toml
    """
    from dataclasses import replace

    from smallobj.boxes import check_writable
    from smallobj.formats import read_labels
    from smallobj.prediction import ViewPlan, ViewRequest

    for path in (out, json):
        if path is not None:
            check_writable(path)
    plan = ViewPlan(
        metric=metric,
        folds=folds,
        seed=seed,
        nms_ious=_numbers("nms_iou", nms_iou),
        merges=tuple(merge.split(",")),
        max_views=max_views,
        max_seconds=max_seconds_per_image,
    )
    truth = read_labels(
        labels or data,
        images=images if labels is None else (images or data),
        kind=kind,
        split=split,
        names=names,
        voc_origin=voc_origin,
    )
    tell([f"{truth.path}: {line}" for line in truth.repairs.lines()])
    request = ViewRequest(
        model=run,
        labels=truth,
        out=out,
        plan=replace(plan, groups=_groups(groups, truth)),
        views=views,
        tile=tile,
        overlap_px=overlap,
        candidates=candidates,
        batch_size=batch_of(batch),
        device=device,
        precision=precision,
        threads=threads,
    )
    found = _search(request)
    _write(out, json, found)
    from smallobj.cli.views_tables import print_views

    print_views(found.search)
    typer.echo(f"{out}: the recipe, for smallobj predict --recipe; candidates: {request.kept}")


def _numbers(field: str, text: str) -> tuple[float, ...]:
    from smallobj.boxes import InputError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        reason = "has to be numbers with commas between"
        raise InputError(reason, field=field, value=text) from error


def _groups(given: str | None, labels: "Labels") -> list[str] | None:
    from smallobj.ensemble.folds import read_groups

    return None if given is None else read_groups(given, labels.table.images.ids)


def _search(request: "ViewRequest") -> "FoundViews":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from smallobj.prediction import search_view_files

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    doing = ""
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("reading", total=None)

            def show(what: str, done: int, total: int) -> None:
                nonlocal doing
                if what != doing:
                    doing = what
                    progress.reset(task, description=what)
                progress.update(task, completed=done, total=total)

            return search_view_files(request, on_progress=show, on_note=lambda note: tell([note]))
    except KeyboardInterrupt:
        typer.echo(
            f"stopped while {doing or 'reading'}: candidates are kept beside {request.kept}, the"
            " same command goes on from there",
            err=True,
        )
        raise typer.Exit(130) from None


def _write(out: Path, json: Path | None, found: "FoundViews") -> None:
    """Write the report, where it is wanted, then the recipe."""
    import shlex
    import sys

    import msgspec

    from smallobj.boxes import write_bytes
    from smallobj.prediction import write_view_recipe
    from smallobj.training.log import code_revision

    revision = code_revision()
    if json is not None:
        content = {
            "command": shlex.join(["smallobj", *sys.argv[1:]]),
            "code_revision": revision,
            "model": found.model,
            **found.search.as_dict(),
        }
        write_bytes(json, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    write_view_recipe(out, found.search.recipe(found.model, code_revision=revision))
