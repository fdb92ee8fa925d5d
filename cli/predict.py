from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer

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

Value = TypeVar("Value")

_MOST_TOLD = 20  # images left out that are named on the terminal


def predict(
    run: Annotated[
        Path, typer.Argument(help="Folder of a trained model, runs/NAME, or NAME.onnx.")
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Folders (all levels), images, 'patterns*' in quotes, a .txt with a path a line,"
            " zip archives, or - for paths on standard input.",
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            help="The run that is written, runs/NAME.json; NAME.parquet with --keep candidates."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(help="INPUT is a labelled data set: its part val, test, ... or a .txt of it."),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta", help="Look at the flips too that the model saw in training: 4 views, or 2."
        ),
    ] = False,
    views: Annotated[str | None, typer.Option(metavar="SPEC", help=VIEWS_HELP)] = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    batch: BatchOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="onnxruntime|openvino",
            help="What computes an exported model, NAME.onnx.",
            show_default="onnxruntime",
        ),
    ] = None,
    nms_iou: Annotated[
        float | None,
        typer.Option(
            help="Of two boxes of a class that overlap more, one stays.", show_default="0.5"
        ),
    ] = None,
    merge: Annotated[
        str | None,
        typer.Option(
            metavar="wbf|nms|nmw",
            help="How views become one answer: the weighted mean, scored by how many of the views"
            " that could see an object found it; the best box; the mean weighted by overlap.",
            show_default="wbf",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe that `smallobj views search` wrote for this model: it says the views,"
            " their tiles, --nms-iou and --merge."
        ),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="boxes|candidates",
            help="candidates: write every box from before suppression and merging with its view,"
            " to NAME.parquet, for smallobj fuse and tune to do both.",
        ),
    ] = "boxes",
    max_boxes: Annotated[
        int, typer.Option(help="Boxes kept in each image, the best by score.")
    ] = 300,
    max_megapixels: Annotated[
        float, typer.Option(help="Images above this many megapixels are refused.")
    ] = 400.0,
    max_bad: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many unreadable images are no failure: more end with status 1. Either way"
            " they are listed in NAME.skipped.tsv and all others are written.",
        ),
    ] = 0,
) -> None:
    """Find objects in images with a trained model, looking at each as often as you like.

    Large images are cut into overlapping tiles that suit the model (--tile auto); a model that was
    trained on squashed images sees each squashed. What was found grows in NAME.part.jsonl: stopped,
    the same command goes on from there.

    Example: smallobj predict runs/centernet photos --tta --out runs/test.json

    Example: smallobj predict runs/centernet 'photos/2026-*/**/*.jpg' --out runs/test.json

    Example: smallobj predict runs/centernet flight.zip extra.tif --max-bad 5 --out runs/test.json

    Example: smallobj predict runs/centernet val --tta --keep candidates --out runs/val.parquet

    Example: smallobj predict runs/centernet photos --recipe views.toml --out runs/test.json

    Example: find photos -name 'a*.png' | smallobj predict runs/centernet - --out runs/test.json
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from smallobj.boxes import InputError
    from smallobj.prediction import (
        AUTO,
        KEEPS,
        MERGE,
        NMS_IOU,
        PredictConfig,
        check_out,
        escaped,
        find_images,
        find_part,
        open_model,
        predict_run,
        printable,
        read_view_recipe,
        skipped_path,
        threads_of,
        tta_spec,
        views_of,
    )

    if recipe is not None:
        _say_nothing_twice(
            {
                "views": views,
                "tta": tta or None,
                "tile": tile,
                "overlap": overlap,
                "nms_iou": nms_iou,
                "merge": merge,
            }
        )
    if tta and views is not None:
        raise InputError("--tta and --views exclude each other", field="views", value=views)
    if split is not None and len(images) > 1:
        raise InputError("--split takes a part of one data set", field="split", value=split)
    if keep not in KEEPS:
        raise InputError(f"must be one of {', '.join(KEEPS)}", field="keep", value=keep)
    check_out(out, keep)
    files = find_images(*images) if split is None else find_part(images[0], split)
    detector, manifest = open_model(
        run, device=device, precision=precision, threads=threads, runtime=runtime
    )
    if recipe is not None:
        chosen = read_view_recipe(recipe, model=manifest.id)
        looks, nms_iou, merge = chosen.views, chosen.nms_iou, chosen.merge
    else:
        spec = tta_spec(manifest) if tta else _or(views, "identity")
        looks = views_of(
            manifest, detector.stride, spec=spec, tile=_or(tile, AUTO), overlap_px=overlap
        )
    config = PredictConfig(
        views=looks,
        batch_size=batch_of(batch),
        nms_iou=_or(nms_iou, NMS_IOU),
        merge=_or(merge, MERGE),
        keep=keep,
        max_boxes=max_boxes,
        precision=precision,
        max_megapixels=max_megapixels,
    )
    count = "1 view" if len(looks) == 1 else f"{len(looks)} views"
    typer.echo(f"{count}: {'; '.join(view.name for view in looks)}", err=True)
    done = 0
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    try:
        console = Console(stderr=True)
        with Progress("predicting", *columns, console=console) as progress, threads_of(threads):
            task = progress.add_task("", total=len(files.ids))

            def show(completed: int, _: int) -> None:
                nonlocal done
                done = completed
                progress.update(task, completed=completed)

            summary = predict_run(
                detector,
                manifest,
                files,
                out,
                config,
                max_bad=max_bad,
                on_progress=show,
                on_note=lambda note: tell([note]),
            )
    except KeyboardInterrupt:
        typer.echo(
            f"stopped after {done} of {len(files.ids)} images: the same command goes on from there",
            err=True,
        )
        raise typer.Exit(130) from None
    for skipped in summary.skipped[:_MOST_TOLD]:
        typer.echo(f"left out '{escaped(skipped.id)}': {skipped.reason}", err=True)
    table = printable(skipped_path(out))
    if len(summary.skipped) > _MOST_TOLD:
        typer.echo(f"left out {len(summary.skipped) - _MOST_TOLD} more: see {table}", err=True)
    again = f" ({summary.resumed} of them from an earlier start)" if summary.resumed else ""
    if summary.written:
        typer.echo(
            f"{printable(out)}: {summary.images} images{again}, {summary.boxes} boxes, {count},"
            f" {summary.seconds:.1f} s"
        )
    if summary.too_many:
        left = len(summary.skipped)
        images_are = "1 image is" if left == 1 else f"{left} images are"
        rest = "the others are written" if summary.written else "so no run is written"
        typer.echo(
            f"error: {images_are} left out, more than --max-bad {max_bad}: see {table}; {rest};"
            " the same command tries again what is missing",
            err=True,
        )
        raise typer.Exit(1)


def _or(given: Value | None, default: Value) -> Value:
    return default if given is None else given


def _say_nothing_twice(given: Mapping[str, object]) -> None:
    """Raise InputError for an option that was given though the recipe says it."""
    from smallobj.boxes import InputError

    for name, value in given.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"--recipe says what {option} says", field=name, value=value)
