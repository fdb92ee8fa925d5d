from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smallobj.cli.label_options import (
    MOST_BOXES,
    KindOption,
    NamesOption,
    OriginOption,
    RunClassesOption,
    SplitOption,
    StrictOption,
    UnitOption,
)
from smallobj.cli.show_inputs import Seen, cut_scores, read_labelled, read_unlabelled

if TYPE_CHECKING:
    from smallobj.report.judged import Judged
    from smallobj.report.show import ShowConfig, Shown

_MOST_TOLD = 20  # images left out that are named on the terminal
_LABELLED = ("only", "split", "kind", "names")  # options that mean nothing without labels


def show(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run in any format (docs/formats.md).")
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES...",
            help="Folders (all levels), images, 'patterns*' in quotes, .txt lists, zip archives.",
            show_default="those beside the labels",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder that the pictures are written into.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="True boxes, to tell right from wrong; any known format, or a folder."),
    ] = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    voc_origin: OriginOption = 1,
    classes: RunClassesOption = None,
    unit: UnitOption = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            help="Boxes below this score are left out.",
            show_default="where F1 is highest; 0.3 without labels",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Take the score thresholds by class of a tuned recipe instead."),
    ] = None,
    iou: Annotated[
        float, typer.Option(help="Overlap with a true box from which a box is right, above 0 to 1.")
    ] = 0.5,
    max_detections: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_BOXES, help="Boxes that count in each image, the best by score; 0: all."
        ),
    ] = 100,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="right|wrong|missed",
            help="Show these boxes alone, and images that have one. Can be given several times.",
            show_default="all",
        ),
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="Show this class alone, and images that have it. Can be given several times.",
            show_default="all",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Draw at most this many images, the first by name."),
    ] = None,
    crops: Annotated[
        bool, typer.Option(help="Also write every object enlarged, and contact sheets of them.")
    ] = True,
    picture: Annotated[str, typer.Option(help="What is written: jpg or png.")] = "jpg",
    font: Annotated[
        Path | None,
        typer.Option(
            help="A TrueType or OpenType font, for letters that DejaVu Sans lacks (Korean, ...)."
        ),
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(help="Images above this many megapixels are refused.")
    ] = 400.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the pictures that are in --out.")
    ] = False,
    strict: StrictOption = False,
) -> None:
    """Draw what a run found: boxes with class and score, each object enlarged, contact sheets.

    With --labels right boxes are solid, wrong ones dashed, missed objects dotted. DIR/index.csv
    lists every box with its IoU and its pictures. Ends with status 1 where an image could not be
    read: it is told, and all others are drawn. See docs/show.md.

    Example: smallobj show runs/val.json photos --labels photos --split val --out shown

    Example: smallobj show runs/test.json photos/new --min-score 0.4 --limit 20 --out shown

    Example: smallobj show runs/val.json --labels photos --only wrong --only missed --out errors
    """
    from smallobj.boxes import InputError
    from smallobj.report.choice import choose_boxes, choose_images
    from smallobj.report.judged import JUDGED_KINDS, detected, judge
    from smallobj.report.picture_files import check_folder
    from smallobj.report.show import ShowConfig

    for field, value in (("iou", iou), ("min_score", min_score)):
        if value is not None and not (0 < value <= 1 or (field == "min_score" and value == 0)):
            raise InputError("must lie in 0 to 1", field=field, value=value)
    if min_score is not None and recipe is not None:
        raise InputError("--min-score and --recipe exclude each other", field="recipe")
    for one in only or ():
        if one not in JUDGED_KINDS:
            known = ", ".join(JUDGED_KINDS)
            raise InputError(f"unknown; known: {known}", field="only", value=one)
    if labels is None:
        for field, given in zip(_LABELLED, (only, split, kind, names), strict=True):
            if given:
                raise InputError("needs --labels", field=field)
    config = ShowConfig(
        picture=picture, crops=crops, font=font, overwrite=overwrite, max_megapixels=max_megapixels
    )
    check_folder(out, overwrite=overwrite)
    inputs, said = images or [], classes or []
    if labels is None:
        seen = read_unlabelled(run, inputs, classes=said, unit=unit)
    else:
        seen = read_labelled(
            run,
            inputs,
            labels,
            kind=kind,
            split=split,
            names=names,
            voc_origin=voc_origin,
            strict=strict,
            classes=said,
            unit=unit,
        )
    _check_apart(out, seen)
    most = max_detections or None
    table, words = cut_scores(seen, min_score=min_score, recipe=recipe, iou=iou, most=most)
    if seen.truth is None:
        judged = detected(table, max_detections=most)
    else:
        judged = judge(seen.truth, table, iou=iou, max_detections=most)
        words += f", IoU {iou:g}"
    chosen = choose_boxes(judged, only=only or (), classes=class_ or ())
    places = choose_images(chosen, limit=limit, with_boxes=bool(only or class_))
    if not len(places):
        raise InputError("no image has a box to show", file=run)
    typer.echo(f"{_counts(judged)} in {len(judged.images)} images; {words}")
    written = _draw(
        chosen.take_images(places), [seen.sources[i] for i in places], out, config, words
    )
    _tell(written, out)


def _draw(shown: "Judged", sources: list, out: Path, config: "ShowConfig", words: str) -> "Shown":
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from smallobj.report.show import show_run

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress("drawing", *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(sources))

        def advance(done: int, _: int) -> None:
            progress.update(task, completed=done)

        return show_run(shown, sources, out, replace(config, note=words), on_progress=advance)


def _check_apart(out: Path, seen: Seen) -> None:
    """Pictures among the photographs would be taken for photographs."""
    from smallobj.boxes import InputError

    if seen.folder is not None and out.resolve().is_relative_to(seen.folder.resolve()):
        raise InputError(f"lies inside the folder of the images, {seen.folder}", file=out)


def _counts(judged: "Judged") -> str:
    from smallobj.report.judged import DETECTED, JUDGED_KINDS, KINDS

    named = KINDS if not judged.count(DETECTED) else (DETECTED,)
    counts = {kind: judged.count(kind) for kind in named}
    shown = [f"{n} {kind}" for kind, n in counts.items() if n or kind in JUDGED_KINDS]
    cap = [f"{judged.over_cap} over the cap and not shown"] if judged.over_cap else []
    return ", ".join(shown + cap)


def _tell(written: "Shown", out: Path) -> None:
    from smallobj.prediction import escaped, printable

    for one in written.unread[:_MOST_TOLD]:
        typer.echo(f"left out '{escaped(one.id)}': {one.reason}", err=True)
    if len(written.unread) > _MOST_TOLD:
        typer.echo(f"left out {len(written.unread) - _MOST_TOLD} more images", err=True)
    typer.echo(
        f"{printable(out)}: {written.pictures} pictures, {written.crops} crops,"
        f" {written.sheets} contact sheets, index.csv"
    )
    if written.unread:
        raise typer.Exit(1)
