"""A picture of what a data set consists of."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smallobj.boxes import Array, BoxTable, InputError, whole_file
from smallobj.formats.statistics import SIDE_EDGES_PX, box_ratios, box_sides

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_ENDINGS = (".png", ".svg", ".pdf")
_MOST_CLASSES = 30
_COLOUR = "#2f6db3"


def plot_statistics(table: BoxTable, out: Path, *, title: str) -> None:
    """Draw classes, sizes, ratios, boxes an image, places and image sizes into one file.

    Raises InputError where `out` does not end in .png, .svg or .pdf or cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    if out.suffix.lower() not in PICTURE_ENDINGS:
        raise InputError(f"a picture ends in {', '.join(PICTURE_ENDINGS)}", value=str(out))
    boxes = table if table.ignore is None else table.filter_rows(~table.ignore)
    figure = Figure(figsize=(13, 8), layout="constrained")
    figure.suptitle(_plain(f"{title}: {len(table.images)} images, {len(boxes)} boxes"))
    axes = figure.subplots(2, 3)
    _classes(axes[0, 0], boxes)
    _sides(axes[0, 1], box_sides(boxes))
    _ratios(axes[0, 2], box_ratios(boxes))
    _per_image(axes[1, 0], boxes)
    _places(axes[1, 1], boxes)
    _image_sizes(axes[1, 2], boxes)
    with whole_file(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=110)


def _classes(axes: "Axes", table: BoxTable) -> None:
    count = np.bincount(table.label, minlength=len(table.classes))
    shown = np.argsort(-count, kind="stable")[:_MOST_CLASSES][::-1]
    names = [_plain(table.classes.names[i])[:24] for i in shown]
    bars = axes.barh(np.arange(len(shown)), count[shown], color=_COLOUR)
    axes.bar_label(bars, padding=2, fontsize=8)
    axes.set_yticks(np.arange(len(shown)), names, fontsize=8)
    axes.margins(x=0.15)
    some = f" ({_MOST_CLASSES} of {len(count)} classes)" if len(count) > _MOST_CLASSES else ""
    axes.set_title(f"boxes by class{some}")


def _sides(axes: "Axes", sides: Array) -> None:
    if len(sides):
        low, high = max(float(sides.min()), 0.5), max(float(sides.max()), 1.0)
        axes.hist(sides, bins=np.geomspace(low * 0.99, high * 1.01, 40).tolist(), color=_COLOUR)
        axes.set_xscale("log")
    for edge in SIDE_EDGES_PX:
        axes.axvline(edge, color="grey", linestyle=":", linewidth=1)
    axes.set_xticks(SIDE_EDGES_PX, [f"{edge:g}" for edge in SIDE_EDGES_PX])
    axes.minorticks_off()
    axes.set_title("side of the boxes, square root of area")
    axes.set_xlabel("px")


def _ratios(axes: "Axes", ratios: Array) -> None:
    if len(ratios):
        axes.hist(
            np.clip(np.log2(ratios), -4, 4), bins=np.linspace(-4, 4, 33).tolist(), color=_COLOUR
        )
    axes.set_xticks([-3, -2, -1, 0, 1, 2, 3], ["1:8", "1:4", "1:2", "1:1", "2:1", "4:1", "8:1"])
    axes.set_title("width : height of the boxes")


def _per_image(axes: "Axes", table: BoxTable) -> None:
    count = np.diff(table.offsets)
    highest = int(count.max(initial=0))
    bins = np.arange(-0.5, highest + 1.5, max(1, -(-highest // 40)))
    axes.hist(count, bins=[*bins.tolist(), bins[-1] + max(1, -(-highest // 40))], color=_COLOUR)
    axes.set_title(f"boxes an image ({int((count == 0).sum())} images empty)")
    axes.set_xlabel("boxes")


def _places(axes: "Axes", table: BoxTable) -> None:
    rows = table.image_index
    size = np.stack([table.images.width[rows], table.images.height[rows]], axis=1)
    known = (size > 0).all(axis=1)
    centre = (table.xyxy[known, :2] + table.xyxy[known, 2:]) / 2 / size[known]
    places, _, _ = np.histogram2d(centre[:, 1], centre[:, 0], bins=24, range=[[0, 1], [0, 1]])
    axes.imshow(places, extent=(0, 1, 1, 0), cmap="Blues", vmin=0, aspect="auto")
    axes.set_title("centres of the boxes, share of the image")


def _image_sizes(axes: "Axes", table: BoxTable) -> None:
    size = np.stack([table.images.width, table.images.height], axis=1)
    known = size[(size > 0).all(axis=1)]
    kinds, count = np.unique(known, axis=0, return_counts=True)
    axes.scatter(
        kinds[:, 0], kinds[:, 1], s=20 + 200 * np.sqrt(count / max(1, len(known))), alpha=0.6
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    unknown = len(size) - len(known)
    axes.set_title("image sizes, px" + (f" ({unknown} unknown)" if unknown else ""))
    axes.set_xlabel("width")
    axes.set_ylabel("height")


def _plain(text: str) -> str:
    """A user's text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
