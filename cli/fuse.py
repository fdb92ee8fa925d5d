from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smallobj.cli.label_options import MOST_BOXES, RunKind, StrictOption
from smallobj.cli.scored import counted, run_repairs, tell

if TYPE_CHECKING:
    from smallobj.ensemble import FusionConfig


def fuse(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Runs to fuse: challenge JSON or COCO results."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The fused run that is written, a .json file.")],
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
            help="How a fused box is scored: avg, max, box_and_model_avg or"
            " absent_model_aware_avg (docs/fusion.md).",
            show_default="box_and_model_avg",
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
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe that `smallobj tune` wrote, instead of the options above."),
    ] = None,
    to: Annotated[RunKind, typer.Option(help="The format to write.")] = RunKind.challenge,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="COCO labels that say which images and classes the numbers in COCO results mean,"
            " where results are read or written."
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="What fuses: compiled, or ensemble-boxes, the reference library."),
    ] = "compiled",
    strict: StrictOption = False,
) -> None:
    """Fuse the runs of several models on the same images into one, by weighted boxes fusion.

    Writes NAME.run.toml beside OUT, which says what was fused.

    Example: smallobj fuse runs/*.json --out fused.json --weights 2,1
    """
    from time import perf_counter

    from smallobj.boxes import InputError, check_writable
    from smallobj.ensemble import clip_scores, model_names, read_recipe
    from smallobj.ensemble import fuse as fuse_compiled
    from smallobj.ensemble.reference import fuse_reference
    from smallobj.formats import RunInfo, align_runs, read_labels, read_runs, write_run

    start = perf_counter()
    backends = {"compiled": fuse_compiled, "ensemble-boxes": fuse_reference}
    if backend not in backends:
        raise InputError(f"known: {', '.join(backends)}", field="backend", value=backend)
    given = {
        "iou": iou,
        "skip": skip,
        "weights": weights,
        "conf_type": conf_type,
        "max_detections": max_detections,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if recipe is not None and given:
        raise InputError("--recipe says this already", field=next(iter(given)))
    config = _config(given)
    paths = runs or []
    if out.resolve() in {path.resolve() for path in paths}:
        raise InputError("is one of the runs to fuse; write elsewhere", file=out)
    check_writable(out)

    truth = None if labels is None else read_labels(labels)
    loaded = read_runs(paths, labels=truth, strict=strict)
    models = model_names(loaded)
    chosen = list(range(len(loaded)))
    if recipe is not None:
        chosen, config = read_recipe(recipe).choose(models)
    elif config.weights is not None and len(config.weights) != len(loaded):
        reason = f"{len(config.weights)} weights for {counted(len(loaded), 'run')}"
        raise InputError(reason, field="weights", value=weights)
    aligned = align_runs(loaded, classes=None if truth is None else truth.table.classes)
    fused, lifted = clip_scores(backends[backend]([aligned.tables[i] for i in chosen], config))
    info = RunInfo(
        model=" + ".join(models[i] for i in chosen),
        classes=fused.classes,
        cap=config.max_detections,
        seconds=round(perf_counter() - start, 3),
    )
    notes = write_run(out, fused, info, kind=to.value, labels=truth)
    if lifted:
        notes.append(f"{counted(lifted, 'score')} above 1 cut to 1")
    tell([*run_repairs(loaded), *aligned.notes, *notes])
    typer.echo(
        f"{out}: {counted(len(fused.images), 'image')}, {counted(len(fused), 'box')}"
        f" of {counted(len(chosen), 'run')}, {perf_counter() - start:.1f} s"
    )


def _config(given: dict) -> "FusionConfig":
    from smallobj.boxes import InputError
    from smallobj.ensemble import FusionConfig

    if "weights" in given:
        try:
            values = tuple(float(part) for part in given["weights"].split(","))
        except ValueError as error:
            reason = "has to be numbers with commas between"
            raise InputError(reason, field="weights", value=given["weights"]) from error
        given = {**given, "weights": values}
    if given.get("max_detections") == 0:
        given = {**given, "max_detections": None}
    try:
        return FusionConfig(**given)
    except ValueError as error:
        raise InputError(str(error)) from error
