from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

ARCHS = ("centernet", "fcos")
_TITLES = {
    "centernet": "centernet alone",
    "fcos": "fcos alone",
    "centernet-tta": "centernet, TTA",
    "fcos-tta": "fcos, TTA",
    "fused": "ensemble",
    "tuned": "tuned ensemble *",
}
_NOTES = """\
* Chosen on these images: only its mean over folds is of images that had no say (out of fold).
  A mean over small folds lies above the figure of all images; compare within a column.

The same on your own photographs (labels: COCO, YOLO, Pascal VOC or the challenge's JSON), with
parts train and val, or --split and --val-split files that list the images of each:

  smallobj data check photos
  smallobj train --arch centernet --data photos --out runs/centernet --time-limit 30m
  smallobj train --arch fcos --data photos --out runs/fcos --time-limit 30m
  smallobj predict runs/centernet photos --split val --tta --out val/centernet.json
  smallobj predict runs/fcos photos --split val --tta --out val/fcos.json
  smallobj tune val/*.json --labels photos --split val --out recipe.toml
  smallobj predict runs/centernet new --tta --out new-runs/centernet.json
  smallobj predict runs/fcos new --tta --out new-runs/fcos.json
  smallobj fuse new-runs/*.json --recipe recipe.toml --out answer.json"""


def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where models, runs and the answer go; must be empty.")
    ] = Path("smallobj-demo"),
    *,
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Training of each of the two detectors.")
    ] = "100s",
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where an earlier demo was.")
    ] = False,
) -> None:
    """See the whole way in six minutes, on circuit boards that come with smallobj.

    Trains two detectors from random weights, predicts with views, tunes out of fold, fuses,
    evaluates, and shows what each step brought. It runs the commands that it prints.

    Example: smallobj demo smallobj-demo
    """
    from rich.console import Console

    from smallobj.boxes import InputError, check_writable
    from smallobj.datasets.shipped import DEEPPCB
    from smallobj.prediction import part_path

    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, not a folder", file=folder)
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError("is not empty: name another folder, or say --overwrite", file=folder)
    check_writable(folder / "scores.json")
    for arch in ARCHS:  # half a prediction of an earlier demo is of other weights
        part_path(folder / "runs" / f"{arch}-tta.json").unlink(missing_ok=True)
    seconds = _run_all(_steps(folder, DEEPPCB, time_limit=time_limit, seed=seed))
    console = Console()
    console.print()
    console.print(_table(folder, seconds, DEEPPCB, seed))
    typer.echo(_NOTES)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One command, under the name by which the table finds its time."""

    name: str
    arguments: tuple[str, ...]


def _steps(folder: Path, data: Path, *, time_limit: str, seed: int) -> list[_Step]:
    runs = folder / "runs"
    truth = ("--labels", str(data), "--split", "val")
    steps = []
    for arch in ARCHS:
        training = f"train --arch {arch} --crop 192 --time-limit {time_limit} --seed {seed}"
        out = ("--data", str(data), "--out", str(runs / arch), "--overwrite")
        steps.append(_Step(name=arch, arguments=(*training.split(), *out)))
    for arch in ARCHS:
        part = ("--split", "val", "--tta", "--out", str(runs / f"{arch}-tta.json"))
        steps.append(
            _Step(name=f"{arch}-tta", arguments=("predict", str(runs / arch), str(data), *part))
        )
    members = tuple(str(runs / f"{arch}-tta.json") for arch in ARCHS)
    recipe, fused, tuned = (
        str(folder / name) for name in ("recipe.toml", "fused.json", "tuned.json")
    )
    alone = tuple(str(runs / f"{arch}.json") for arch in ARCHS)
    scores = ("--json", str(folder / "scores.json"))
    return [
        *steps,
        _Step(name="fused", arguments=("fuse", *members, "--out", fused)),
        _Step(
            name="tune",
            arguments=("tune", *members, *truth, "--out", recipe, "--seed", str(seed)),
        ),
        _Step(name="tuned", arguments=("fuse", *members, "--recipe", recipe, "--out", tuned)),
        _Step(
            name="evaluate",
            arguments=("evaluate", *alone, *members, fused, tuned, *truth, *scores),
        ),
    ]


def _run_all(steps: Sequence[_Step]) -> dict[str, float]:
    """Run the commands in this process, their tables left out; seconds of each."""
    import contextlib
    import io
    import shlex
    from time import perf_counter

    from smallobj.cli.main import app

    seconds = {}
    for step in steps:
        typer.echo(f"$ smallobj {shlex.join(step.arguments)}", err=True)
        start = perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            status = app(list(step.arguments), standalone_mode=False)
        seconds[step.name] = perf_counter() - start
        if status:
            raise typer.Exit(status)
    return seconds


def _table(folder: Path, seconds: dict[str, float], data: Path, seed: int) -> "Table":
    import msgspec
    from rich.box import SIMPLE
    from rich.table import Table

    from smallobj.ensemble import read_recipe

    runs = msgspec.json.decode((folder / "scores.json").read_bytes())["runs"]
    folds = _fold_means([Path(run["path"]) for run in runs], data, seed)
    folds["tuned"] = read_recipe(folder / "recipe.toml").scores["out_of_fold"]
    seconds = seconds | {"tuned": seconds["tune"] + seconds["tuned"]}
    table = Table(title="mAP50 on the validation boards", box=SIMPLE)
    for heading in ("", "all images", "95 % interval", "mean over 5 folds", "time"):
        table.add_column(heading, justify="right" if heading else "left")
    for run in runs:
        interval = run["intervals"]["map50"]
        table.add_row(
            _TITLES[run["name"]],
            f"{run['overall']['map50']:.3f}",
            f"{interval['low']:.3f} to {interval['high']:.3f}",
            f"{folds[run['name']]:.3f}",
            f"{seconds[run['name']]:.1f} s",
        )
    return table


def _fold_means(paths: Sequence[Path], data: Path, seed: int) -> dict[str, float]:
    """The mean over the folds of `tune`, by run."""
    from smallobj.ensemble import fold_mean
    from smallobj.formats import align_runs, read_labels, read_runs

    labels = read_labels(data, split="val")
    runs = read_runs(paths, labels=labels)
    tables = align_runs(runs, images=labels.table.images, classes=labels.table.classes).tables
    return {
        run.name: fold_mean(labels.table, table, seed=seed)
        for run, table in zip(runs, tables, strict=True)
    }
