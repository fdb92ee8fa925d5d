from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from smallobj.ensemble import Grid, Tuning
    from smallobj.formats import Labels, Run

GRID_HELP = """Values to try, once a setting: iou=0.4:0.8:0.05 or iou=0.5,0.6; skip=0.001,0.01;
weights=1,1|2,1; conf_type=avg,max,box_and_model_avg,absent_model_aware_avg."""


def tune(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs on labelled images: JSON files.")
    ] = None,
    *,
    labels: Annotated[
        Path, typer.Option(help="Truth: a folder or file (challenge, COCO, YOLO, Pascal VOC).")
    ],
    out: Annotated[Path, typer.Option(help="Where the recipe goes, recipe.toml.")],
    images: Annotated[Path | None, typer.Option(help="Image folder, where not guessed.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="challenge, coco, yolo or voc.", show_default="by content")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="A part of the data set, or a .txt with an image a line.")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="File of class names.")] = None,
    voc_origin: Annotated[int, typer.Option(help="First pixel of Pascal VOC boxes.")] = 1,
    metric: Annotated[str, typer.Option(help="map50, map75 or map50_95.")] = "map50",
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUES", help=GRID_HELP, show_default="a modest one"),
    ] = None,
    folds: Annotated[int, typer.Option(help="Parts the images are dealt into.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the dealing and the bootstrap.")] = 0,
    max_detections: Annotated[
        int, typer.Option(min=0, help="Best boxes kept an image; 0: all.")
    ] = 100,
    top: Annotated[int, typer.Option(min=1, help="Rows of the grid shown.")] = 10,
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
    from smallobj.formats import read_labels, read_runs

    if metric not in METRICS:
        raise InputError(f"known: {', '.join(METRICS)}", field="metric", value=metric)
    values = parse_grid(grid or [])
    check_writable(out)
    truth = read_labels(
        labels, images=images, kind=kind, split=split, names=names, voc_origin=voc_origin
    )
    loaded = read_runs(runs or [], labels=truth)
    models = model_names(loaded)
    for line in truth.repairs.lines():
        typer.echo(f"{labels}: {line}", err=True)
    for run in loaded:
        for line in run.repairs.lines():
            typer.echo(f"{run.path}: {line}", err=True)
    tuning = _tune(
        truth,
        loaded,
        models,
        values,
        metric=metric,
        folds=folds,
        seed=seed,
        max_detections=max_detections or None,
    )
    write_grid(grid_path(out), tuning)
    write_recipe(out, tuning.recipe())
    console = Console()
    console.print(_best_rows(tuning, top))
    console.print(_summary(tuning))
    for line in _verdict(tuning):
        typer.echo(line)
    typer.echo(f"{out}: the recipe; {grid_path(out)}: all {len(tuning.settings)} rows")


def _tune(
    truth: "Labels",
    runs: "list[Run]",
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
    from smallobj.formats import align_runs

    aligned = align_runs(runs, images=truth.table.images, classes=truth.table.classes)
    for line in aligned.notes:
        typer.echo(line, err=True)
    try:
        grid.settings(len(runs))
    except ValueError as error:
        raise InputError(str(error), field="grid") from error
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("tuning", total=None)
        return tune_tables(
            truth.table,
            aligned.tables,
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

    table = Table(title=Text(f"weights: {', '.join(tuning.models)}"), box=SIMPLE)
    for name in ("what", "iou", "skip", "conf_type", "weights"):
        table.add_column(name)
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
    table = Table(title=f"{tuning.metric}, mean over {folds} folds", box=SIMPLE)
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
