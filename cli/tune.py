from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smallobj.cli.fold_options import FoldSeedOption, FoldsOption, GroupsOption
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
    UnitOption,
)
from smallobj.cli.scored import Scored, read_scored, tell

if TYPE_CHECKING:
    from smallobj.ensemble import Plan, Tuning

GRID_HELP = """Values to try of one setting; give it once for each: iou=0.4:0.8:0.05 (LOW:HIGH:STEP)
or iou=0.5,0.6; skip=0.001,0.01; conf_type=avg,max; weights=1,1|2,1; votes=1,2; method=wbf,nmw;
shift=0,2; sigma=0.3,0.5; nms=0.5,1 (docs/tuning.md)."""


def tune(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs of the models to fuse, on labelled images, in any format (docs/formats.md).",
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
    classes: RunClassesOption = None,
    unit: UnitOption = None,
    metric: Annotated[
        str, typer.Option(help="What to make as high as possible: map50, map75 or map50_95.")
    ] = "map50",
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUES", help=GRID_HELP, show_default="about 1,000 settings"),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate", help="Also try to calibrate the scores of the runs."
        ),
    ] = True,
    calibration: Annotated[
        str,
        typer.Option(help="Which calibration: temperature, platt, isotonic; auto: every one."),
    ] = "auto",
    learn: Annotated[
        bool,
        typer.Option(
            "--learn/--no-learn",
            help="Also try to learn the score of a fused box from what each run said of it.",
        ),
    ] = True,
    search: Annotated[
        str | None,
        typer.Option(help="Search a larger space instead of a grid: optuna.", show_default="grid"),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of the search in all, for each part of it.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of the search, as sqlite:///search.db: it goes on where it was"
            " interrupted, and several machines share it.",
            show_default="in memory",
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Name of the search in the database.", show_default="smallobj"),
    ] = None,
    operating_point: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL",
            help="Also choose a score threshold a class: f1, precision=0.95 or recall=0.9.",
        ),
    ] = None,
    max_weight_mb: Annotated[
        float | None, typer.Option(help="Most megabytes that the models fused may weigh.")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Most milliseconds an image that they may take.")
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            help='TOML of what models cost: ["MODEL"] weight_mb = 20, latency_ms = 7.',
            show_default="NAME.run.toml",
        ),
    ] = None,
    folds: FoldsOption = 5,
    groups: GroupsOption = None,
    seed: FoldSeedOption = 0,
    max_detections: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_BOXES, help="Boxes kept in each image, the best by score; 0: all."
        ),
    ] = 100,
    top: Annotated[int, typer.Option(min=1, help="Settings that are printed.")] = 10,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON instead of tables.")
    ] = False,
) -> None:
    """Choose how to fuse runs, in steps: settings, calibration, IoU by size, weights,
    learnt confidence.

    What is chosen on some images is scored on others (out of fold); a step that does not pay there
    is not taken. Says so where one run alone is best.

    Writes the recipe for `smallobj fuse --recipe`, and beside it NAME.tune.toml (the report),
    NAME.grid.parquet (every setting tried) and NAME.heatmap.svg. Interrupted and started again, it
    goes on.

    Example: smallobj tune runs/*.json --labels photos/val --out recipe.toml

    Example: smallobj tune a.json b.csv --labels val.json --out recipe.toml --grid iou=0.4:0.8:0.05

    Example: smallobj tune runs/*.json --labels photos/val --out recipe.toml
    --search optuna --trials 500 --storage sqlite:///search.db --operating-point precision=0.95
    """
    from smallobj.boxes import InputError, check_writable
    from smallobj.ensemble import Limits, costs_of, model_names, parse_grid
    from smallobj.ensemble.fusion_plan import suppression_of

    check_writable(out)
    limits = Limits(weight_mb=max_weight_mb, latency_ms=max_latency_ms)
    values = parse_grid(grid) if grid else None
    plan = _checked_plan(
        metric=metric,
        grid=values,
        calibrate=calibration if calibrate else "none",
        learn=learn,
        search=_search(search, trials, storage, study, with_grid=bool(grid)),
        goal=operating_point,
        folds=folds,
        seed=seed,
        max_detections=max_detections or None,
    )
    scored = read_scored(
        runs or [],
        labels,
        images=images,
        kind=kind,
        split=split,
        names=names,
        voc_origin=voc_origin,
        common=common,
        classes=classes,
        unit=unit,
    )
    models = model_names(scored.runs)
    if values is not None:
        try:
            values.settings(len(models))
        except ValueError as error:
            raise InputError(str(error), field="grid") from error
    from dataclasses import replace

    known = costs_of(scored.runs, models, costs)
    limits.holds(known)
    notes: list[str] = []
    suppression = suppression_of(scored.runs, notes)
    tell(notes)
    plan = replace(
        plan,
        limits=limits,
        costs=known,
        groups=_groups(groups, scored),
        views_of=_views_of(scored),
        nms_iou=suppression,
    )
    tuning = _tune(scored, models, plan, out)
    report = _write(out, tuning)
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    from smallobj.cli.tune_tables import print_tuning

    print_tuning(tuning, top)
    typer.echo(
        f"{out}: the recipe; beside it {out.stem}.tune.toml, {out.stem}.heatmap.svg and"
        f" {out.stem}.grid.parquet, all {len(tuning.settings)} settings tried"
    )


def _checked_plan(**values: Any) -> "Plan":
    from smallobj.boxes import InputError
    from smallobj.ensemble import CALIBRATION_CHOICES, Plan
    from smallobj.evaluation import METRICS

    for name, field, known in (
        ("metric", "metric", METRICS),
        ("calibrate", "calibration", CALIBRATION_CHOICES),
    ):
        if values[name] not in known:
            raise InputError(f"known: {', '.join(known)}", field=field, value=values[name])
    return Plan(**values)


def _search(
    name: str | None, trials: int | None, storage: str | None, study: str | None, *, with_grid: bool
) -> Any:
    from smallobj.boxes import InputError
    from smallobj.ensemble import Search

    if name is None:
        for field, value in (("trials", trials), ("storage", storage), ("study", study)):
            if value is not None:
                raise InputError("is of a search: say --search optuna", field=field, value=value)
        return None
    if name != "optuna":
        raise InputError("known: optuna", field="search", value=name)
    if trials is None:
        raise InputError("how many? say --trials", field="trials")
    if with_grid:
        raise InputError("a search has no grid: leave one of them out", field="grid")
    if study is not None and storage is None:
        raise InputError("is kept in a database: say --storage", field="study", value=study)
    return Search(trials=trials, storage=storage, study=study or "smallobj")


def _groups(given: str | None, scored: Scored) -> list[str] | None:
    from smallobj.ensemble.folds import read_groups

    return None if given is None else read_groups(given, scored.truth.images.ids)


def _views_of(scored: Scored) -> tuple[int, ...] | None:
    """Which model each run is a view of, where several runs are of one model."""
    ids = [run.name if run.info is None else run.info.model for run in scored.runs]
    return tuple(ids.index(one) for one in ids) if len(set(ids)) < len(ids) else None


def _tune(scored: Scored, models: tuple[str, ...], plan: "Plan", out: Path) -> "Tuning":
    from rich.console import Console
    from rich.progress import Progress

    from smallobj.ensemble import ScoreStore, hash_inputs, part_path
    from smallobj.ensemble import tune as tune_tables

    inputs = hash_inputs(
        scored.truth, scored.tables, plan.metric, plan.folds, plan.seed, plan.groups
    )
    store = ScoreStore(part_path(out), inputs=inputs)
    if store.found:
        tell([f"{store.path}: {store.found} scores of an interrupted run are used again"])
    console = Console(stderr=True)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("tuning", total=None)
            tuning = tune_tables(
                scored.truth,
                scored.tables,
                models,
                plan,
                store=store,
                on_progress=lambda step, done, total: progress.update(
                    task, description=step, completed=done, total=total
                ),
            )
    except KeyboardInterrupt:
        tell([f"{store.path}: keeps what was scored; the same command goes on from there"])
        raise
    finally:
        store.close()
    return tuning


def _write(out: Path, tuning: "Tuning") -> dict[str, Any]:
    """Write the four files, the recipe last: where it is, all is."""
    import shlex
    import sys
    from importlib.metadata import version

    from smallobj.ensemble import grid_path, part_path, write_grid, write_recipe
    from smallobj.ensemble.tuning_file import heatmap_path, report_path, write_report
    from smallobj.report.heatmap import plot_heatmap

    packages = ("smallobj", "numpy", "numba", "optuna")
    report = {
        "command": shlex.join(["smallobj", *sys.argv[1:]]),
        "versions": {name: version(name) for name in packages},
        **tuning.as_dict(),
    }
    write_report(report_path(out), report)
    write_grid(grid_path(out), tuning)
    cells = tuning.heatmap()
    plot_heatmap(
        heatmap_path(out),
        values=cells.values,
        rows=cells.iou,
        columns=cells.skip,
        row_name="IoU of fusion",
        column_name="skip: lowest score",
        title=f"{tuning.metric} of weighted boxes fusion on all images, the best of each cell",
        chosen=cells.chosen,
    )
    write_recipe(out, tuning.recipe())
    part_path(out).unlink(missing_ok=True)
    return report
