"""A picture of how the metric depends on two settings."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np

from smallobj.boxes import Array, InputError, whole_file
from smallobj.report.statistics_plot import PICTURE_ENDINGS

_LETTERS_AN_INCH = 12  # of the title
_COLOURS = "cividis"  # even in lightness, and the same to the colour-blind


def plot_heatmap(
    out: Path,
    *,
    values: Array,
    rows: Sequence[float],
    columns: Sequence[float],
    row_name: str,
    column_name: str,
    title: str,
    chosen: tuple[int, int] | None = None,
) -> None:
    """Draw values [R, C], NaN where nothing is known, one cell each with its number.

    chosen: the cell that is marked. Raises InputError where `out` does not end in .png, .svg or
    .pdf or cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    if out.suffix.lower() not in PICTURE_ENDINGS:
        raise InputError(f"a picture ends in {', '.join(PICTURE_ENDINGS)}", value=str(out))
    size = (2.4 + 0.85 * len(columns), 1.8 + 0.45 * len(rows))
    width, height = max(size[0], 5.5), max(size[1], 2.6)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    if not values.size:  # as where no fusion was tried: the picture says so
        values, rows, columns, chosen = np.full((1, 1), np.nan), [np.nan], [np.nan], None
    drawn = axes.imshow(np.ma.masked_invalid(values), cmap=_COLOURS, aspect="auto", origin="lower")
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axes.set_xlabel(column_name)
    axes.set_ylabel(row_name)
    marked = "" if chosen is None else "; framed: chosen"
    lines = fill(title + marked, int(_LETTERS_AN_INCH * (width - 1.5)))  # less the colours' bar
    axes.set_title(lines.replace("$", r"\$"), fontsize=9)
    low, high = (np.nanmin(values), np.nanmax(values)) if (~np.isnan(values)).any() else (0, 1)
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        shade = "black" if value > (low + high) / 2 else "white"
        axes.text(column, row, f"{value:.4f}", color=shade, ha="center", va="center", fontsize=9)
    if chosen is not None:
        corner = (chosen[1] - 0.5, chosen[0] - 0.5)
        axes.add_patch(
            Rectangle(corner, 1, 1, fill=False, edgecolor="#d62728", linewidth=3, clip_on=False)
        )
    if low < high:
        figure.colorbar(drawn, ax=axes)
    with whole_file(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=110)
