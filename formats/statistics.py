"""What a data set consists of: classes, sizes, ratios, empty images, image sizes."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable

SIDE_EDGES_PX = (16.0, 32.0, 64.0, 100.0)
SIDE_BINS = ("<16", "16-32", "32-64", "64-100", ">100")
RATIO_EDGES = (1 / 3, 1 / 2, 1.0, 2.0, 3.0)
RATIO_BINS = ("<1:3", "1:3-1:2", "1:2-1:1", "1:1-2:1", "2:1-3:1", ">3:1")
_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """One class of a data set."""

    id: int  # as the source numbers it
    name: str
    boxes: int
    images: int  # that have a box of it
    median_side: float | None  # px, None without boxes
    by_side: dict[str, int]  # boxes by SIDE_BINS


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """A data set in numbers; a side is the square root of a box's area, in pixels."""

    images: int
    boxes: int  # without crowd regions
    crowds: int
    classes: tuple[ClassStatistics, ...]
    empty_images: tuple[str, ...]  # ids
    boxes_per_image: dict[str, float]  # percentiles
    side: dict[str, float]  # percentiles, px
    by_side: dict[str, int]
    ratio: dict[str, float]  # percentiles of width : height
    by_ratio: dict[str, int]
    image_sizes: dict[str, int]  # images by "width x height", most frequent first

    def as_dict(self) -> dict[str, Any]:
        """The statistics as plain values, for JSON."""
        return asdict(self)


def describe(table: BoxTable) -> Statistics:
    """Count a table of labels; crowd regions are counted apart."""
    boxes = table if table.ignore is None else table.filter_rows(~table.ignore)
    sides, ratios = box_sides(boxes), box_ratios(boxes)
    per_image = np.diff(boxes.offsets)
    empty = np.flatnonzero(np.diff(table.offsets) == 0)
    sizes = zip(table.images.width.tolist(), table.images.height.tolist(), strict=True)
    count = Counter(f"{w} x {h}" if w and h else "unknown" for w, h in sizes)
    return Statistics(
        images=len(table.images),
        boxes=len(boxes),
        crowds=len(table) - len(boxes),
        classes=tuple(_of_class(boxes, sides, label) for label in range(len(table.classes))),
        empty_images=tuple(table.images.ids[i] for i in empty),
        boxes_per_image=_percentiles(per_image.astype(np.float64)),
        side=_percentiles(sides),
        by_side=_binned(sides, SIDE_EDGES_PX, SIDE_BINS),
        ratio=_percentiles(ratios),
        by_ratio=_binned(ratios, RATIO_EDGES, RATIO_BINS),
        image_sizes=dict(count.most_common()),
    )


def box_sides(table: BoxTable) -> Array:
    """Square root of each box's area (the source's own where it gives one), px, [M]."""
    return np.sqrt(table.box_area)


def box_ratios(table: BoxTable) -> Array:
    """Width over height of each box, [M]; boxes of a table that was read have both."""
    width, height = (table.xyxy[:, 2:] - table.xyxy[:, :2]).T
    return width / height


def _of_class(table: BoxTable, sides: Array, label: int) -> ClassStatistics:
    of_class: NDArray[np.bool_] = table.label == label
    own = sides[of_class]
    return ClassStatistics(
        id=table.classes.source_ids[label],
        name=table.classes.names[label],
        boxes=len(own),
        images=len(np.unique(table.image_index[of_class])),
        median_side=float(np.median(own)) if len(own) else None,
        by_side=_binned(own, SIDE_EDGES_PX, SIDE_BINS),
    )


def _percentiles(values: Array) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.percentile(values, _PERCENTILES)
    return {f"p{p}": float(v) for p, v in zip(_PERCENTILES, found, strict=True)}


def _binned(values: Array, edges: tuple[float, ...], names: tuple[str, ...]) -> dict[str, int]:
    """How many values lie in each bin; a value at an edge belongs to the bin above it."""
    count = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(names))
    return dict(zip(names, count.tolist(), strict=True))
