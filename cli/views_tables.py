"""What `smallobj views search` prints."""

from math import isnan
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from smallobj.evaluation import Difference
    from smallobj.prediction import ViewSearch


def print_views(search: "ViewSearch") -> None:
    """Print the curve, a row a step, what was chosen, and the verdict."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge to break lines at
    console.print(_curve(search))
    for line in verdict(search):
        typer.echo(line)


def verdict(search: "ViewSearch") -> list[str]:
    """What it comes to, a line a thing."""
    best, choice = search.best, search.best.chosen[0]
    lines = [f"not taken: {step.name}, {step.reason}" for step in search.steps if not step.accepted]
    count = len(search.chosen)
    names = "; ".join(view.name for view in search.chosen)
    if count == 1:
        lines.append(f"no view pays out of fold: the plain view alone is chosen ({names})")
    else:
        lines.append(f"{count} views pay: {names}")
    lines.append(f"nms_iou {choice.nms_iou:g}, merge {choice.merge}")
    if best is not search.plain:
        lines.append(f"gain over the plain view, out of fold: {_gain(best.gain)}")
        if not isnan(best.gain_small.mean):
            lines.append(f"the same of objects under 32 px: {_gain(best.gain_small)}")
        if best.gain.low <= 0:
            lines.append("warning: the gain could be chance: the interval holds zero")
        times = best.seconds / search.plain.seconds
        lines.append(
            f"{best.seconds:.3g} s an image, {times:.1f} times the plain view's"
            f" {search.plain.seconds:.3g} s"
        )
    return lines


def _curve(search: "ViewSearch") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    folds = int(search.fold.max(initial=0)) + 1
    title = f"{search.metric} of {len(search.fold)} images, {folds} folds; * chosen"
    table = Table(title=Text(title), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("", "views"):
        table.add_column(name)
    for name in ("in sample", "out of fold", "gain over plain", "95 % interval", "s an image"):
        table.add_column(name, justify="right")
    for number, step in enumerate(search.steps):
        gain = ("", "")
        if number and not isnan(step.gain.mean):
            low, high = step.gain.low, step.gain.high
            gain = (f"{step.gain.mean:+.4f}", f"{low:+.4f} to {high:+.4f}")
        table.add_row(
            "*" if step is search.best else "",
            Text(step.name if number == 0 else f"+ {step.name}"),
            _number(step.all_images),
            _number(step.out_of_fold),
            *gain,
            f"{step.seconds:.3f}",
        )
    table.caption = "seconds: every view timed by itself on images in memory, without reading files"
    table.caption_justify = "left"
    return table


def _gain(gain: "Difference") -> str:
    return f"{gain.mean:+.4f} (95 % interval: {gain.low:+.4f} to {gain.high:+.4f})"


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.4f}"
