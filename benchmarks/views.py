"""What views bring to trained models: none, the flips, all eight symmetries, those searched for.

python benchmarks/views.py DATA OUT runs/centernet runs/fcos runs/yolo --split val

Every model looks once with every view of the pool (--views; by default that of `smallobj views
search`, which has to hold d4); each set of views is then merged from the candidates. Scores are
means over the folds held out of the same five, gains over the plain view are paired by image; what
is searched is chosen on the other folds. The recipes, for `smallobj predict --recipe`, are left in
OUT.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from smallobj.boxes import BoxTable
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.judge import Judge, Judged
from smallobj.formats import Labels, read_labels
from smallobj.prediction import ViewPlan, ViewRequest, search_view_files, write_view_recipe
from smallobj.prediction.candidates import KeptViews
from smallobj.prediction.opening import open_model
from smallobj.prediction.view_pool import read_pool
from smallobj.prediction.view_result import ViewStep
from smallobj.tta import View
from smallobj.tta.symmetry import IDENTITY

FLIPS = ("identity", "hflip", "vflip", "rot180")
D4 = (*FLIPS, "rot90", "rot270", "transpose", "antitranspose")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="labels and images, in any known format")
    parser.add_argument("out", type=Path, help="folder of candidates and recipes")
    parser.add_argument("models", type=Path, nargs="+", help="folders of trained models")
    parser.add_argument("--split", help="part of the data")
    parser.add_argument("--views", help="the pool")
    parser.add_argument("--metric", default="map50")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    labels = read_labels(given.data, split=given.split)
    plan = ViewPlan(metric=given.metric)
    print(f"{plan.metric} of {len(labels.table.images)} images, mean of {plan.folds} folds\n")
    print("| model | views | out of fold | gain | 95 % interval | s an image |")
    print("|---|---|---|---|---|---|")
    for model in given.models:
        for line in rows(model, labels, plan, given):
            print(line, flush=True)


def rows(model: Path, labels: Labels, plan: ViewPlan, given: argparse.Namespace) -> list[str]:
    """The lines of the table for a model."""
    out = given.out / f"{model.name}.toml"
    request = ViewRequest(
        model=model, labels=labels, out=out, plan=plan, views=given.views, threads=given.threads
    )
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(model.name)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, description=f"{model.name}: {what}", completed=done, total=total)

        found, name = search_view_files(request, on_progress=show)
    write_view_recipe(out, found.recipe(name))
    pool = read_pool(request.kept, open_model(model)[1], labels)
    fits = Fits.deal(labels.table, plan.folds, seed=plan.seed)
    judge = Judge(labels.table, fits, Kept(pool.kept, plan), metric=plan.metric, seed=plan.seed)
    plain, best = found.plain, found.best
    lines = [line(model, "none", plain.judged, plain, plain.seconds)]
    for title, wanted in (("flips", FLIPS), ("d4", D4)):
        views = tuple(i for i, view in enumerate(pool.kept.views) if is_turned(view, wanted))
        judged = judge.judge([views] * len(fits))
        lines.append(line(model, title, judged, plain, plain.seconds * len(views)))
    title = f"searched: {len(found.chosen)}"
    return [*lines, line(model, title, best.judged, plain, best.seconds)]


class Kept:
    """Merges the same views for every fit."""

    def __init__(self, kept: KeptViews, plan: ViewPlan) -> None:
        self._kept, self._plan = kept, plan

    def fused(
        self, candidate: tuple[int, ...], _: int, index: NDArray[np.int64] | None = None, /
    ) -> BoxTable:
        """What the views find: the best 100 boxes an image, which the metric counts."""
        plan = self._plan
        return self._kept.merged(
            candidate,
            nms_iou=plan.nms_ious[0],
            merge=plan.merges[0],
            max_boxes=100,
            images=index,
        )


def is_turned(view: View, symmetries: tuple[str, ...]) -> bool:
    """Whether a view only mirrors or turns, in one of these ways."""
    return view.symmetry.name in symmetries and replace(view, symmetry=IDENTITY) == View(
        tiling=view.tiling, squash_px=view.squash_px
    )


def line(model: Path, title: str, judged: Judged, plain: ViewStep, seconds: float) -> str:
    cells = [model.name, title, f"{judged.every.mean:.4f}"]
    if judged is plain.judged:
        cells += ["", ""]
    else:
        gain = judged.every.above(plain.judged.every)
        cells += [f"{gain.mean:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}"]
    return f"| {' | '.join([*cells, f'{seconds:.3f}'])} |"


if __name__ == "__main__":
    main()
