"""What a run holds, in numbers."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from smallobj.formats.runs import Run


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What a run holds."""

    path: str
    kind: str
    model: str | None  # None where no TOML lies beside
    fold: str | None
    views: tuple[str, ...]
    unit: str  # of its boxes, "pixel" or "normalised"
    images: int
    empty_images: int  # in which nothing was found, as far as its format names them
    boxes: int
    most_boxes: int  # in one image
    classes: int  # that boxes are of
    known_classes: int
    lowest_score: float | None  # None where there are no boxes
    highest_score: float | None

    @property
    def boxes_an_image(self) -> float:
        """Mean number of boxes."""
        return self.boxes / self.images

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "boxes_an_image": self.boxes_an_image}


def summarise(run: Run) -> RunSummary:
    """Count what a run holds."""
    table, info = run.table, run.info
    counts = np.diff(table.offsets)
    assert table.score is not None
    return RunSummary(
        path=str(run.path),
        kind=run.kind,
        model=None if info is None else info.model,
        fold=None if info is None else info.fold,
        views=() if info is None else info.views,
        unit=run.unit,
        images=len(table.images),
        empty_images=int((counts == 0).sum()),
        boxes=len(table),
        most_boxes=int(counts.max(initial=0)),
        classes=len(np.unique(table.label)),
        known_classes=len(table.classes),
        lowest_score=float(table.score.min()) if len(table) else None,
        highest_score=float(table.score.max()) if len(table) else None,
    )
