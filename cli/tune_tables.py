"""What `smallobj tune` prints."""

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from smallobj.ensemble import Tuning
    from smallobj.evaluation import Difference


def print_tuning(tuning: "Tuning", top: int) -> None:
    """Print the best settings, the steps, what each run brings, and the verdict."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge to break lines at
    console.print(_best_rows(tuning, top))
    console.print(_steps(tuning))
    for step in tuning.steps:
        mark = "chosen" if step.accepted else f"not taken, {step.reason}"
        typer.echo(f"{step.name}: {step.chosen[0]} ({mark})")
    typer.echo("")
    for table in (_runs(tuning), _front(tuning), _thresholds(tuning)):
        if table is not None:
            console.print(table)
    for line in verdict(tuning):
        typer.echo(line)


def verdict(tuning: "Tuning") -> list[str]:
    """What it comes to, a line a thing."""
    single = tuning.models[tuning.best_single]
    lines = [
        f"tuned against the untuned default, out of fold: {_gain(tuning.final.above_untuned)}",
        f"tuned against {single} alone, out of fold: {_gain(tuning.gain)}",
    ]
    if not isnan(tuning.gain_small.mean):
        lines.append(f"the same of objects under 32 px: {_gain(tuning.gain_small)}")
    if tuning.single_is_chosen:
        weights = tuning.chosen.config.weights_of(len(tuning.models))
        chosen = tuning.models[weights.index(max(weights))]
        how = "as it is" if tuning.chosen.calibration is None else "calibrated"
        lines.append(f"no fusion beats {chosen} alone: the recipe takes that run {how}")
    elif tuning.out_of_fold <= tuning.single.every.mean:
        lines.append(f"warning: out of fold the tuned fusion is no better than {single} alone")
    elif tuning.gain.low <= 0:
        lines.append("the gain could be chance: the interval holds zero")
    if tuning.gain_small.high < 0:
        lines.append(f"warning: objects under 32 px are found worse than by {single} alone")
    return lines


def _gain(gain: "Difference") -> str:
    if isnan(gain.mean):
        return "not known, no fold has a box"
    return f"{gain.mean:+.4f} (95 % interval: {gain.low:+.4f} to {gain.high:+.4f})"


def _best_rows(tuning: "Tuning", top: int) -> "Table":
    from rich.text import Text

    from smallobj.ensemble import Candidate, best_settings, setting_name

    models = ", ".join(tuning.models)
    table = _table(f"Best settings of scores as they are; weights are of {models}", "what", "how")
    for name in ("all images", "folds"):
        table.add_column(f"{tuning.metric}\n{name}", justify="right")
    for setting in best_settings(tuning)[:top]:
        how = Candidate(config=tuning.settings[setting])
        table.add_row(
            Text(setting_name(tuning, setting)),
            "" if setting < len(tuning.models) else Text(str(how)),
            _number(tuning.scores[setting]),
            _number(tuning.fold_mean(setting)),
        )
    return table


def _steps(tuning: "Tuning") -> "Table":
    from rich.text import Text

    folds, untuned = tuning.held_out.shape[1], tuning.untuned
    table = _table(f"{tuning.metric}, mean over {folds} folds; * taken", "", "")
    columns = ("in fold", "out of fold", "gain", "95 % interval")
    for name in (*columns, "above untuned", "95 % interval", "<32 px out of fold"):
        table.add_column(name, justify="right")
    single = tuning.single
    alone = Text(f"{tuning.models[tuning.best_single]} alone (best single run)")
    rest = ("", "", "", "")
    for title, mark in ((alone, single), (Text("untuned default"), untuned)):
        table.add_row("", title, "", _number(mark.every.mean), *rest, _number(mark.small.mean))
    for number, step in enumerate(tuning.steps):
        gain = ("", "") if number == 0 else _interval(step.gain)
        table.add_row(
            "*" if step.accepted else "",
            step.name if number == 0 else f"+ {step.name}",
            _number(step.in_fold),
            _number(step.out_of_fold),
            *gain,
            *_interval(step.above_untuned),
            _number(step.judged.small.mean),
        )
    final = tuning.final
    table.add_row(
        "", "tuned", _number(final.in_fold), _number(final.out_of_fold), "", "",
        *_interval(final.above_untuned), _number(final.judged.small.mean),
    )  # fmt: skip
    return table


def _runs(tuning: "Tuning") -> "Table":
    from rich.text import Text

    table = _table("Runs: what each brings out of fold, and how reliable its scores are", "run")
    for name in ("weight", "gain", "calibration error", "calibrated"):
        table.add_column(name, justify="right")
    errors = {one.model: one for one in tuning.reliability}
    for run in tuning.brings:
        error = errors.get(run.model)
        after = ("", "") if error is None else (_number(error.before), _number(error.after))
        gain = "" if isnan(run.gain) else f"{run.gain:+.4f}"
        table.add_row(Text(run.model), f"{run.weight:g}", gain, *after)
    if tuning.reliability:
        table.caption = f"out of fold, {tuning.reliability[0].calibration}"
    return table


def _front(tuning: "Tuning") -> "Table | None":
    from rich.text import Text

    rows = [row for row in tuning.front if not row.dominated]
    if not any(row.weight_mb or row.latency_ms for row in rows):
        return None
    table = _table("What more cost buys", "runs")
    for name in ("weights", tuning.metric + ", all images", "MB", "ms an image"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            Text(" + ".join(tuning.models[run] for run in row.runs)),
            ",".join(f"{row.weights[run]:g}" for run in row.runs),
            _number(row.score),
            *("" if cost is None else f"{cost:g}" for cost in (row.weight_mb, row.latency_ms)),
        )
    return table


def _thresholds(tuning: "Tuning") -> "Table | None":
    from rich.text import Text

    point = tuning.working_point
    if point is None:
        return None
    title = f"Working point {point.thresholds.goal}; what it reaches out of fold"
    table = _table(title, "class")
    for name in ("threshold", "precision", "recall", "f1"):
        table.add_column(name, justify="right")
    for chosen, rates in zip(point.thresholds.classes, point.out_of_fold, strict=True):
        threshold = "none" if chosen.threshold is None else f"{chosen.threshold:.4f}"
        threshold += "" if chosen.reached else " (out of reach)"
        table.add_row(Text(chosen.class_name), threshold, *_rates(rates))
    table.add_row("all", "", *_rates(point.overall))
    return table


def _rates(rates: Any) -> list[str]:
    known = (rates.kept, rates.positives, rates.positives)
    values = (rates.precision, rates.recall, rates.f1)
    return [f"{value:.3f}" if of else "-" for value, of in zip(values, known, strict=True)]


def _table(title: str, *columns: str) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _interval(gain: "Difference") -> Sequence[str]:
    if isnan(gain.mean):
        return "", ""
    return f"{gain.mean:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}"


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.4f}"
