from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smallobj.cli.label_options import (
    MOST_BOXES,
    RunClassesOption,
    RunImagesOption,
    RunKind,
    StrictOption,
    UnitOption,
)
from smallobj.cli.scored import counted, tell

if TYPE_CHECKING:
    from smallobj.ensemble import FusionConfig

_BY_ENDING = {".csv": RunKind.openimages, ".parquet": RunKind.parquet}


def fuse(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs to fuse: challenge JSON, COCO results, Open Images CSV, Parquet or a folder"
            " of YOLO text files.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The fused run that is written.")],
    to: Annotated[
        RunKind | None,
        typer.Option(
            help="The format to write.",
            show_default="told by the ending of OUT: .csv, .parquet, else challenge",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How boxes become one: wbf (weighted mean), nmw (mean weighted by overlap), nms"
            " (the best stays) or soft_nms (the others lose score).",
            show_default="wbf",
        ),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            help="Boxes of a class whose IoU is above this become one, 0 to 1.",
            show_default="0.55",
        ),
    ] = None,
    skip: Annotated[
        float | None,
        typer.Option(
            help="Boxes with a score below this are left out, 0 to 1.", show_default="0.001"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...",
            help="Weight of each run, in the order given; 0 leaves a run out.",
            show_default="all equal",
        ),
    ] = None,
    conf_type: Annotated[
        str | None,
        typer.Option(
            help="How wbf scores a fused box: avg, max, box_and_model_avg or"
            " absent_model_aware_avg (docs/fusion.md).",
            show_default="box_and_model_avg",
        ),
    ] = None,
    allows_overflow: Annotated[
        bool,
        typer.Option(
            "--allows-overflow",
            help="Let avg count every box of a fused one, even where that goes above 1.",
        ),
    ] = False,
    class_agnostic: Annotated[
        bool,
        typer.Option("--class-agnostic", help="Let boxes of different classes become one too."),
    ] = False,
    shift_px: Annotated[
        float | None,
        typer.Option(
            help="A small box also joins one that lies no more pixels than this off diagonally,"
            " whatever their IoU; 0: off.",
            show_default="0",
        ),
    ] = None,
    min_votes: Annotated[
        int | None,
        typer.Option(
            help="Fused boxes that fewer models saw are left out; not with soft_nms.",
            show_default="1",
        ),
    ] = None,
    soft: Annotated[
        str | None,
        typer.Option(
            help="How soft_nms lowers scores: linear or gaussian.", show_default="gaussian"
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Width of the gaussian of soft_nms, above 0.", show_default="0.5"),
    ] = None,
    nms_iou: Annotated[
        str | None,
        typer.Option(
            metavar="IOU[,IOU,...]",
            help="Suppress boxes inside each run by this IoU before fusing, one for all runs or one"
            " each; 1 leaves a run alone.",
            show_default="1; of candidates, as predicted",
        ),
    ] = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_BOXES,
            help="Boxes kept in each image, the best by score; 0: all.",
            show_default="100",
        ),
    ] = None,
    views_as_runs: Annotated[
        bool,
        typer.Option(
            "--views-as-runs",
            help="Count each view of a model, in a run of its own or kept apart inside a run, as if"
            " it were a model. Otherwise runs of one model id vote as one.",
        ),
    ] = False,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe that `smallobj tune` wrote, instead of the options above."),
    ] = None,
    thresholds: Annotated[
        bool,
        typer.Option(
            "--thresholds",
            help="Leave out boxes below the recipe's score thresholds of its working point.",
        ),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels that say the classes, sizes and COCO ids of the images, where the runs do"
            " not."
        ),
    ] = None,
    images: RunImagesOption = None,
    classes: RunClassesOption = None,
    unit: UnitOption = None,
    provenance: Annotated[
        Path | None,
        typer.Option(
            help="Also write which boxes of which runs each fused box was made of: a file that ends"
            " in .csv, .jsonl or .parquet."
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="What fuses: compiled, or ensemble-boxes, the reference library."),
    ] = "compiled",
    strict: StrictOption = False,
) -> None:
    """Fuse the runs of several models on the same images into one.

    Writes NAME.run.toml beside OUT, which says what was fused. Runs in Parquet, sorted by image,
    may be larger than memory.

    Example: smallobj fuse runs/*.json --out fused.json --weights 2,1

    Example: smallobj fuse a.json b.csv c.parquet --out fused.parquet --provenance origin.csv

    Example: smallobj fuse test/*.json --recipe recipe.toml --thresholds --out answer.json
    """
    from smallobj.boxes import InputError
    from smallobj.ensemble import read_recipe
    from smallobj.ensemble.fuse_files import FuseFiles, fuse_files
    from smallobj.formats import read_labels

    settings = {
        "method": method,
        "iou": iou,
        "skip": skip,
        "weights": None if weights is None else _numbers("weights", weights),
        "conf_type": conf_type,
        "allows_overflow": allows_overflow or None,
        "class_agnostic": class_agnostic or None,
        "shift_px": shift_px,
        "min_votes": min_votes,
        "soft": soft,
        "sigma": sigma,
        "nms_iou": None if nms_iou is None else _numbers("nms_iou", nms_iou),
        "max_detections": max_detections,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if recipe is not None and given:
        raise InputError("--recipe says this already", field=next(iter(given)))
    request = FuseFiles(
        runs=runs or [],
        out=out,
        kind=(to or _BY_ENDING.get(out.suffix.lower(), RunKind.challenge)).value,
        config=_config(given, len(runs or [])),
        recipe=None if recipe is None else read_recipe(recipe),
        thresholds=thresholds,
        labels=None if labels is None else read_labels(labels, images=images),
        images=images,
        classes=classes or (),
        unit=None if unit is None else unit.value,
        views_as_runs=views_as_runs,
        provenance=provenance,
        backend=backend,
        strict=strict,
    )
    with _progress() as show:
        done = fuse_files(request, on_progress=show)
    tell(done.notes)
    typer.echo(
        f"{out}: {counted(done.images, 'image')}, {counted(done.boxes, 'box')}"
        f" of {counted(done.runs, 'run')}, {done.seconds:.1f} s"
    )


def _numbers(field: str, text: str) -> tuple[float, ...]:
    from smallobj.boxes import InputError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        reason = "has to be numbers with commas between"
        raise InputError(reason, field=field, value=text) from error


def _config(given: dict[str, Any], runs: int) -> "FusionConfig":
    from smallobj.boxes import InputError
    from smallobj.ensemble import FusionConfig

    given = dict(given)
    if given.get("max_detections") == 0:
        given["max_detections"] = None
    if len(given.get("nms_iou", ())) == 1:
        given["nms_iou"] *= max(runs, 1)
    try:
        return FusionConfig(**given)
    except ValueError as error:
        raise InputError(str(error)) from error


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Images done and time left, on a terminal alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), "images", TimeRemainingColumn())
    with Progress("fusing", *columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
