from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smallobj.cli.label_options import (
    MOST_BOXES,
    CommonOption,
    ImagesOption,
    KindOption,
    LabelsOption,
    NamesOption,
    OriginOption,
    SplitOption,
)
from smallobj.cli.scored import Scored, read_scored

if TYPE_CHECKING:
    from rich.table import Table

    from smallobj.ensemble import Grid, Tuning

GRID_HELP = """Values to try of one setting; give it once for each: iou=0.4:0.8:0.05 (LOW:HIGH:STEP)
or iou=0.5,0.6; skip=0.001,0.01; weights=1,1|2,1; conf_type=avg,max (docs/fusion.md)."""


def tune(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs of the models to fuse, on labelled images: challenge JSON or COCO results.",
        ),
    ] = None,
    *,
    labels: LabelsOption,
    out: Annotated[Path, typer.Option(help="The recipe that is written, a .toml file.")],
    images: ImagesOption = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    voc_origin: OriginOption = 1,
    common: CommonOption = False,
    metric: Annotated[
        str, typer.Option(help="What to make as high as possible: map50, map75 or map50_95.")
    ] = "map50",
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUES", help=GRID_HELP, show_default="a modest grid"),
    ] = None,
    folds: Annotated[
        int, typer.Option(help="Parts that the images are dealt into, at least 2.")
    ] = 5,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides how images are dealt and drawn at random.")
    ] = 0,
    max_detections: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_BOXES, help="Boxes kept in each image, the best by score; 0: all."
        ),
    ] = 100,
    top: Annotated[int, typer.Option(min=1, help="Rows of the grid that are printed.")] = 10,
) -> None:
    """Choose how to fuse runs, out of fold: what is chosen on some images is scored on others.

    Writes the recipe for `smallobj fuse --recipe`, and every row of the grid beside it, to
    NAME.grid.csv. Says so where one run alone is best.

    Example: smallobj tune runs/*.json --labels photos/val --out recipe.toml
    """
    from rich.console import Console

    from smallobj.boxes import InputError, check_writable
    from smallobj.ensemble import grid_path, model_names, parse_grid, write_grid, write_recipe
    from smallobj.evaluation import METRICS

    if metric not in METRICS:
        raise InputError(f"known: {', '.join(METRICS)}", field="metric", value=metric)
    values = parse_grid(grid or [])
    check_writable(out)
    scored = read_scored(
        runs or [],
        labels,
        images=images,
        kind=kind,
        split=split,
        names=names,
        voc_origin=voc_origin,
        common=common,
    )
    tuning = _tune(
        scored,
        model_names(scored.runs),
        values,
        metric=metric,
        folds=folds,
        seed=seed,
        max_detections=max_detections or None,
    )
    write_grid(grid_path(out), tuning)
    write_recipe(out, tuning.recipe())
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge to break lines at
    console.print(_best_rows(tuning, top))
    console.print(_summary(tuning))
    for line in _verdict(tuning):
        typer.echo(line)
    typer.echo(f"{out}: the recipe; {grid_path(out)}: all {len(tuning.settings)} settings tried")


def _tune(
    scored: Scored,
    models: tuple[str, ...],
    grid: "Grid",
    *,
    metric: str,
    folds: int,
    seed: int,
    max_detections: int | None,
) -> "Tuning":
    from rich.console import Console
    from rich.progress import Progress

    from smallobj.boxes import InputError
    from smallobj.ensemble import tune as tune_tables

    try:
        grid.settings(len(models))
    except ValueError as error:
        raise InputError(str(error), field="grid") from error
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("tuning", total=None)
        return tune_tables(
            scored.truth,
            scored.tables,
            models,
            grid,
            metric=metric,
            folds=folds,
            seed=seed,
            max_detections=max_detections,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _best_rows(tuning: "Tuning", top: int) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from smallobj.ensemble import best_settings, setting_name

    title = f"Best settings; weights are of {', '.join(tuning.models)}"
    table = Table(title=Text(title), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("what", "iou", "skip", "conf_type", "weights"):
        table.add_column(name, no_wrap=name != "what")
    for name in ("all images", "folds"):
        table.add_column(f"{tuning.metric}\n{name}", justify="right")
    for setting in best_settings(tuning)[:top]:
        config = tuning.settings[setting]
        single = setting < tuning.untuned
        weights = ",".join(f"{w:g}" for w in config.weights_of(len(tuning.models)))
        table.add_row(
            Text(setting_name(tuning, setting)),
            "" if single else f"{config.iou:g}",
            "" if single else f"{config.skip:g}",
            "" if single else config.conf_type,
            weights,
            f"{tuning.scores[setting]:.4f}",
            f"{tuning.fold_mean(setting):.4f}",
        )
    return table


def _summary(tuning: "Tuning") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    folds = tuning.held_out.shape[1]
    single = tuning.best_single
    title = f"{tuning.metric}, mean over {folds} folds"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column("out of fold", justify="right")
    table.add_column("in fold", justify="right")
    table.add_row("tuned", f"{tuning.out_of_fold:.4f}", f"{tuning.in_fold:.4f}")
    table.add_row("untuned default", f"{tuning.fold_mean(tuning.untuned):.4f}", "")
    name = Text(f"{tuning.models[single]} alone (best single run)")
    table.add_row(name, f"{tuning.fold_mean(single):.4f}", "")
    return table


def _verdict(tuning: "Tuning") -> list[str]:
    gain = tuning.gain
    single = tuning.models[tuning.best_single]
    lines = [
        f"tuned against {single} alone, out of fold:"
        f" {gain.mean:+.4f} (95 % interval: {gain.low:+.4f} to {gain.high:+.4f})"
    ]
    if tuning.single_is_chosen:
        chosen = tuning.models[tuning.chosen]
        lines.append(f"no fusion beats {chosen} alone: the recipe takes that run as it is")
    elif tuning.out_of_fold <= tuning.fold_mean(tuning.best_single):
        lines.append(f"warning: out of fold the tuned fusion is no better than {single} alone")
    elif gain.low <= 0:
        lines.append("the gain could be chance: the interval holds zero")
    return lines
