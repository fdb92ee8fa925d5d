"""Candidates of a `predict --keep candidates`, merged as predicting would have merged them."""

from collections.abc import Sequence

import numpy as np

from smallobj.boxes import BoxTable, InputError
from smallobj.prediction.engine import PredictConfig, Seen, as_table
from smallobj.tta import Boxes, Candidates, View, distinct_looks, merge_candidates, view_named


def merge_kept(table: BoxTable, views: Sequence[str], config: PredictConfig) -> BoxTable:
    """What predicting as `config` says would have given, without predicting.

    table: candidates, whose sources name views. views: all that the images were looked at with, in
    their order (`RunInfo.views`): one that found nothing counts too. config: its views are all or
    some of these; `nms_iou`, `merge` and `max_boxes` are free. Rows of an image best first.

    Raises InputError for a view that is none of these or an image whose size is unknown,
    ValueError where the table says no views.
    """
    if table.source is None or table.score is None:
        raise ValueError("the table says no scores, or no views of its boxes")
    known = [view_named(name) for name in views]
    for view in config.views:
        _place(view.name, views)
    place = np.array([_place(source.view, views) for source in table.sources], np.int32)
    found = []
    for image, image_id in enumerate(table.images.ids):
        rows = table.rows(image)
        boxes = Boxes(table.xyxy[rows], table.score[rows], table.label[rows])
        size = int(table.images.width[image]), int(table.images.height[image])
        if not all(size):
            raise InputError("size of the image is unknown", item=image_id)
        kept = Candidates(boxes, place[table.source[rows]])
        found.append(Seen(image, *size, _merged(kept, known, config, *size)))
    return as_table(found, table.images.ids, table.classes)


def _merged(
    kept: Candidates, known: Sequence[View], config: PredictConfig, width: int, height: int
) -> Boxes:
    """The answer for one image; kept.view is a position in `known`."""
    everything = distinct_looks(known, width, height)
    looks = list(distinct_looks(config.views, width, height))
    # a view that comes to the patches of an earlier one was looked at once, as that one
    look_of_view = np.full(len(known), -1, np.int32)
    look_of_view[[everything[look] for look in looks]] = np.arange(len(looks))
    look = look_of_view[kept.view]
    chosen = Candidates(kept.boxes.take(look >= 0), look[look >= 0])
    return merge_candidates(
        looks,
        chosen,
        nms_iou=config.nms_iou,
        max_boxes=config.max_boxes,
        method=config.merge,
    )


def _place(name: str, views: Sequence[str]) -> int:
    try:
        return views.index(name)
    except ValueError as error:
        known = "; ".join(views)
        raise InputError(f"no such view was kept; kept: {known}", field="views", value=name) from (
            error
        )
