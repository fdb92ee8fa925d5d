"""Candidates of a `predict --keep candidates`, merged as predicting would have merged them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, InputError
from smallobj.prediction.engine import PredictConfig, Seen, as_table
from smallobj.tta import (
    Boxes,
    Patch,
    distinct_looks,
    merge_views,
    suppress_boxes,
    view_named,
)


def merge_kept(table: BoxTable, views: Sequence[str], config: PredictConfig) -> BoxTable:
    """What predicting as `config` says would have given, without predicting.

    table: candidates, whose sources name views. views: all that the images were looked at with, in
    their order (`RunInfo.views`): one that found nothing counts too. config: its views are all or
    some of these; `nms_iou`, `merge` and `max_boxes` are free. Rows of an image best first.

    Raises InputError for a view that is none of these or an image whose size is unknown,
    ValueError where the table says no views.
    """
    kept = KeptViews(table, views)
    places = [_place(view.name, views) for view in config.views]
    return kept.merged(
        places, nms_iou=config.nms_iou, merge=config.merge, max_boxes=config.max_boxes
    )


class Looks(NamedTuple):
    """What the views kept come to on images of one size."""

    images: int  # how many are of this size
    patches: list[tuple[Patch, ...]]  # of each view
    first: list[int]  # the first view with the same patches, which was looked at for all of them

    def once(self, views: Sequence[int]) -> list[int]:
        """The views without those that come to the patches of one before them."""
        by_look: dict[int, int] = {}
        for view in views:
            by_look.setdefault(self.first[view], view)
        return list(by_look.values())


class KeptViews:
    """The candidates of several views, to be merged again and again, from any thread.

    table, views: as in `merge_kept`, which says what is raised. Suppressed boxes of single views
    are remembered, so that each further set of views costs little.
    """

    def __init__(self, table: BoxTable, views: Sequence[str]) -> None:
        if table.source is None or table.score is None:
            raise ValueError("the table says no scores, or no views of its boxes")
        self.views = tuple(view_named(name) for name in views)
        self.table = table
        places = np.array([_place(source.view, views) for source in table.sources], np.int32)
        self._view = places[table.source]
        sizes = zip(table.images.width.tolist(), table.images.height.tolist(), strict=True)
        self._sizes: list[tuple[int, int]] = list(sizes)
        for image_id, size in zip(table.images.ids, self._sizes, strict=True):
            if not all(size):
                raise InputError("size of the image is unknown", item=image_id)
        counts = Counter(self._sizes)
        self._looks = {size: self._looks_of(*size, count) for size, count in counts.items()}
        self._suppressed: dict[tuple[int, int, float, int], Boxes] = {}

    def merged(
        self,
        views: Sequence[int],
        *,
        nms_iou: float,
        merge: str,
        max_boxes: int,
        images: NDArray[np.int64] | None = None,
    ) -> BoxTable:
        """What looking with these views alone gives, by their positions; rows best first.

        images: positions [K] of those that are wanted, all where None.
        """
        wanted = range(len(self._sizes)) if images is None else images.tolist()
        found = [
            Seen(
                image,
                *self._sizes[image],
                self._merged(image, views, nms_iou, merge, max_boxes),
            )
            for image in wanted
        ]
        ids = self.table.images.ids
        return as_table(found, [ids[image] for image in wanted], self.table.classes)

    @property
    def looks(self) -> list[Looks]:
        """What the views come to on the images, by their sizes."""
        return list(self._looks.values())

    def _looks_of(self, width: int, height: int, images: int) -> Looks:
        distinct = distinct_looks(self.views, width, height)
        patches = [tuple(view.patches(width, height)) for view in self.views]
        return Looks(images, patches, [distinct[some] for some in patches])

    def _merged(
        self, image: int, views: Sequence[int], nms_iou: float, merge: str, max_boxes: int
    ) -> Boxes:
        looks = self._looks[self._sizes[image]]
        # a view that comes to the patches of an earlier one was looked at once, as that one
        seen = [looks.first[view] for view in looks.once(views)]
        if len(seen) == 1:
            return self._alone(image, seen[0], nms_iou, max_boxes)
        if merge == "nms":
            return suppress_boxes(self._of_views(image, seen), nms_iou, max_boxes)
        patches = [looks.patches[view] for view in seen]
        alone = [self._alone(image, view, nms_iou, max_boxes) for view in seen]
        return merge_views(patches, alone, nms_iou=nms_iou, max_boxes=max_boxes, method=merge)

    def _alone(self, image: int, view: int, nms_iou: float, max_boxes: int) -> Boxes:
        key = (image, view, nms_iou, max_boxes)
        if key not in self._suppressed:
            boxes = self._of_views(image, [view])
            self._suppressed[key] = suppress_boxes(boxes, nms_iou, max_boxes)
        return self._suppressed[key]

    def _of_views(self, image: int, views: Sequence[int]) -> Boxes:
        """The candidates of an image that these views saw."""
        rows = self.table.rows(image)
        assert self.table.score is not None
        boxes = Boxes(self.table.xyxy[rows], self.table.score[rows], self.table.label[rows])
        return boxes.take(np.isin(self._view[rows], views))


def _place(name: str, views: Sequence[str]) -> int:
    try:
        return views.index(name)
    except ValueError as error:
        known = "; ".join(views)
        raise InputError(f"no such view was kept; kept: {known}", field="views", value=name) from (
            error
        )
