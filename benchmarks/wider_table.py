"""What fusing and tuning bring on real predictions, all out of fold, each with its interval.

    python benchmarks/wider_table.py ../shared/data/wider_predictions
    python benchmarks/wider_table.py --labels LABELS RUN.json RUN.csv ...   (any labels, any runs)

The images are dealt into folds; what is chosen on the others is scored on one, and the mean over
folds is shown. Every row is scored on the same 1,000 bootstrap draws of every fold's images, so the
gains over untuned weighted boxes fusion are paired. NMS, soft-NMS, NMW and the untuned WBF have the
defaults of ensemble-boxes and equal weights. Steps of `smallobj tune` that it did not accept are
shown too, and marked.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text
from wider import DETECTORS, read_wider

from smallobj.boxes import BoxTable
from smallobj.ensemble import FusionConfig, model_names
from smallobj.ensemble.candidates import Candidate
from smallobj.ensemble.folds import Fits
from smallobj.ensemble.judge import Held, Judge, Judged
from smallobj.ensemble.learner import Learner
from smallobj.ensemble.tuning import Plan, tune
from smallobj.ensemble.tuning_result import Step, Tuning
from smallobj.evaluation import Difference, interval_of
from smallobj.formats import align_runs, read_labels, read_runs

UNTUNED = {  # defaults of ensemble-boxes 1.0.9
    "NMS": {"method": "nms", "iou": 0.5, "skip": 0.0},
    "soft-NMS": {"method": "soft_nms", "soft": "gaussian", "sigma": 0.5, "skip": 0.0},
    "NMW": {"method": "nmw", "iou": 0.55, "skip": 0.0},
    "WBF": {"method": "wbf", "iou": 0.55, "skip": 0.0, "conf_type": "avg"},
}
STEPS = {  # of tune, as rows
    "settings": "WBF tuned",
    "calibration": "+ calibration",
    "size-aware IoU": "+ size-aware",
    "weights": "+ selection",
    "learnt confidence": "+ learnt confidence",
}


@dataclass(frozen=True)
class Row:
    """One way to fuse, judged."""

    name: str
    judged: Judged
    note: str = ""


def main() -> None:
    """Print the table."""
    options = parse_options()
    truth, runs, names = read(options)
    cap = options.max_detections or None
    start = perf_counter()
    plan = Plan(metric=options.metric, folds=options.folds, seed=options.seed, max_detections=cap)
    console = Console(stderr=True)
    tuning = tune(truth, runs, names, plan, on_progress=Told(console))
    fits = Fits.deal(truth, options.folds, seed=options.seed)
    judge = Judge(truth, fits, Learner(truth, runs, fits), metric=options.metric, seed=options.seed)
    rows = [Row("best single", tuning.single, names[tuning.best_single])]
    rows += [untuned(name, judge, fits, cap) for name in UNTUNED]
    rows += [tuned(step) for step in tuning.steps if step.name in STEPS]
    rows.append(Row("what tune takes", tuning.final.judged, str(tuning.chosen)))
    seconds = perf_counter() - start
    out = Console(width=max(200, Console().width))
    out.print(as_table(rows, tuning, f"{len(truth.images):,} images, {seconds:.0f} s"))
    if options.json is not None:
        content = {"rows": [as_dict(row, rows) for row in rows], "tuning": tuning.as_dict()}
        options.json.write_text(json.dumps(content, indent=1))


def parse_options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="the wider folder, or runs")
    parser.add_argument("--labels", type=Path, help="labels of any kind that `smallobj tune` reads")
    parser.add_argument("--images", type=Path, help="the image folder, where labels need it")
    parser.add_argument("--metric", default="map50")
    parser.add_argument("--max-detections", type=int, default=1000, help="an image; 0: all")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of folds, bags and draws")
    parser.add_argument("--json", type=Path, help="write all that was found here too")
    return parser.parse_args()


def read(options: argparse.Namespace) -> tuple[BoxTable, list[BoxTable], tuple[str, ...]]:
    """The truth, the runs and what to call them."""
    if options.labels is None:
        truth, runs = read_wider(options.runs[0])
        return truth, runs, DETECTORS
    labels = read_labels(options.labels, images=options.images)
    loaded = read_runs(options.runs, labels=labels)
    truth = labels.table
    aligned = align_runs(loaded, images=truth.images, classes=truth.classes)
    return truth, list(aligned.tables), model_names(loaded)


def untuned(name: str, judge: Judge, fits: Fits, cap: int | None) -> Row:
    """A method with the library's defaults; no image says anything about them."""
    candidate = Candidate(config=FusionConfig(max_detections=cap, **UNTUNED[name]))
    return Row(name, judge.judge([candidate] * len(fits)), "defaults of ensemble-boxes")


def tuned(step: Step) -> Row:
    """What a step of tuning chose in every fold."""
    note = str(step.chosen[0]) if step.accepted else f"not accepted: {step.reason}"
    return Row(STEPS[step.name], step.judged, note)


def as_table(rows: Sequence[Row], tuning: Tuning, title: str) -> Table:
    """The rows as a person reads them, in points of the metric."""
    table = Table(title=f"{tuning.metric}, {title}", title_justify="left", box=SIMPLE)
    table.add_column("")
    for name in ("all boxes", "gain over WBF", "< 32 px", "gain over WBF", "over best single"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("chosen on all images")
    single, default = reference_rows(rows)
    for row in rows:
        every, small = row.judged.every, row.judged.small
        table.add_row(
            Text(row.name),
            with_interval(every),
            "" if row is default else gain(every.above(default.judged.every)),
            with_interval(small),
            "" if row is default else gain(small.above(default.judged.small)),
            "" if row is single else gain(small.above(single.judged.small)),
            Text(row.note),
        )
    return table


def as_dict(row: Row, rows: Sequence[Row]) -> dict[str, object]:
    """Plain values, scores from 0 to 1."""
    single, default = reference_rows(rows)
    content: dict[str, object] = {"name": row.name, "note": row.note}
    for area in ("every", "small"):
        held = getattr(row.judged, area)
        content[area] = {
            "mean": held.mean,
            "interval": interval(held),
            "above_wbf": held.above(getattr(default.judged, area)),
            "above_best_single": held.above(getattr(single.judged, area)),
        }
    return content


def reference_rows(rows: Sequence[Row]) -> tuple[Row, Row]:
    """The best single run, and untuned weighted boxes fusion."""
    by_name = {row.name: row for row in rows}
    return by_name["best single"], by_name["WBF"]


def interval(held: Held) -> tuple[float, float]:
    """95 % of the means over folds, each fold's images drawn."""
    return interval_of(held.draws[~np.isnan(held.scores)].mean(axis=0), held.mean)


def with_interval(held: Held) -> str:
    low, high = interval(held)
    return f"{100 * held.mean:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def gain(difference: Difference) -> str:
    mean, low, high = (100 * value for value in difference)
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


class Told:
    """Says which step is on its way, once each."""

    def __init__(self, console: Console) -> None:
        self._console, self._name = console, ""

    def __call__(self, name: str, done: int, total: int) -> None:
        """Of a step: candidates scored, and of how many."""
        if name != self._name:
            self._name = name
            self._console.print(f"{name}: {total} candidates")


if __name__ == "__main__":
    main()
