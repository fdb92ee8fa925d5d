"""Validation through the path users predict with, and the run that the best weights leave."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable
from smallobj.detectors import Detector, Segmenter
from smallobj.evaluation import METRICS, count_pixels, draw_boxes, map_score, pixel_scores
from smallobj.formats import RunInfo, write_run
from smallobj.prediction import MAX_BOXES, class_tiles, predict
from smallobj.training.part import Part
from smallobj.tta import View
from smallobj.weights import Manifest

_PIXELS_A_BATCH = 8_000_000
_MEASURED_IMAGES = 4
_MEASURED_IMAGES_GPU = 32  # faster, and slower with the first batches of a size


class Validation:
    """Looks at the held-out images with a detector and scores what it finds."""

    def __init__(self, part: Part, *, views: tuple[View, ...], precision: str) -> None:
        self.truth, self.views = part.table, views
        self._paths, self._precision = part.paths, precision
        self._seen = _seen_pixels(part.table, views)
        sides = [view.tiling.side_px for view in views if view.tiling is not None]
        self._tile_px = min(sides, default=None)
        largest = min([int(self._seen.max()), *(side**2 for side in sides)])
        self._batch = int(np.clip(_PIXELS_A_BATCH // max(1, largest), 1, 8))

    @property
    def pixels(self) -> int:
        """Of all validation images, as the detector sees them."""
        return int(self._seen.sum())

    def predict(self, model: Detector, on_progress: Callable[[int, int], None]) -> BoxTable:
        """What the detector finds in the held-out images."""
        return self._predict(model, np.arange(len(self._paths)), on_progress)

    def score(self, predictions: BoxTable, metric: str) -> float:
        """One of METRICS, 0..1."""
        return map_score(self.truth, predictions, metric)

    def scores(self, predictions: BoxTable) -> dict[str, float]:
        """Every metric by name."""
        return {metric: round(self.score(predictions, metric), 6) for metric in METRICS}

    def pixel_scores(
        self, model: Detector, on_progress: Callable[[int, int], None]
    ) -> dict[str, float]:
        """PIXEL_METRICS by name where the detector segments and a pixel is judged; else none.

        One more look at the images: what it says of each pixel, against the boxes as masks. Of
        squashed images, whose pixels are no longer the image's own, there are none either.
        """
        counts = self._count_pixels(model, np.arange(len(self._paths)), on_progress)
        if counts is None:
            return {}
        scores = pixel_scores(counts)
        return {name: round(value, 6) for name, value in scores.items() if not np.isnan(value)}

    def seconds(self, model: Detector) -> float:
        """About how long a whole validation takes, from a few images after first ones."""
        gpu = model.mean.device.type == "cuda"
        count = min(_MEASURED_IMAGES_GPU if gpu else _MEASURED_IMAGES, len(self._paths))
        chosen = np.unique(np.linspace(0, len(self._paths) - 1, count).round().astype(np.int64))
        self.score_part(model, chosen if gpu else chosen[:1])
        started = time.perf_counter()
        self.score_part(model, chosen)
        spent = time.perf_counter() - started
        return spent * float(self._seen.sum() / self._seen[chosen].sum())

    def score_part(self, model: Detector, index: NDArray[np.int64]) -> None:
        """Predict and score some images, for the time it takes."""
        found = self._predict(model, index, lambda done, images: None)
        map_score(self.truth.take_images(index), found, METRICS[0])
        self._count_pixels(model, index, lambda done, images: None)

    def _predict(
        self, model: Detector, index: NDArray[np.int64], on_progress: Callable[[int, int], None]
    ) -> BoxTable:
        return predict(
            model,
            [self._paths[i] for i in index],
            [self.truth.images.ids[i] for i in index],
            classes=self.truth.classes,
            views=self.views,
            batch_size=self._batch,
            max_boxes=MAX_BOXES,
            precision=self._precision,
            on_progress=on_progress,
        )

    def _count_pixels(
        self, model: Detector, index: NDArray[np.int64], on_progress: Callable[[int, int], None]
    ) -> NDArray[np.int64] | None:
        """Pixels of the images at `index` by true and by predicted class, [C + 1, C + 1].

        None where pixels are not judged.
        """
        squashed = any(view.squash_px is not None for view in self.views)
        if squashed or not isinstance(model, Segmenter):
            return None
        table = self.truth.take_images(index)
        classes = len(table.classes)
        counts = np.zeros((classes + 1, classes + 1), np.int64)
        tiles = class_tiles(
            model,
            [self._paths[i] for i in index],
            tile_px=self._tile_px,
            batch_size=self._batch,
            precision=self._precision,
            on_progress=on_progress,
        )
        for image, left, top, predicted in tiles:
            rows = slice(*table.offsets[image : image + 2])
            drawn = draw_boxes(
                table.xyxy[rows] - (left, top, left, top),
                table.label[rows],
                size=predicted.shape,
                background=classes,
                ignore=None if table.ignore is None else table.ignore[rows],
            )
            counts += count_pixels(drawn, predicted, classes)
        return counts


def write_validation_run(
    path: Path,
    table: BoxTable,
    validation: Validation,
    *,
    manifest: Manifest,
    latency_ms: float | None,
    held_out: str,
    data: Path,
) -> None:
    """Write the predictions of the best weights as a run, out of fold, with its TOML beside."""
    info = RunInfo(
        model=manifest.id,
        classes=table.classes,
        views=tuple(view.name for view in validation.views),
        fold=held_out,
        image_set=str(data),
        cap=MAX_BOXES,
        weight_mb=manifest.weight_mb,
        latency_ms=latency_ms,
    )
    write_run(path, table, info)


def _seen_pixels(table: BoxTable, views: Sequence[View]) -> NDArray[np.int64]:
    """Pixels of each image as it is seen: its own, or those of the square it is squashed to."""
    areas = table.images.width.astype(np.int64) * table.images.height
    sides = [view.squash_px for view in views if view.squash_px is not None]
    return np.full_like(areas, sum(side**2 for side in sides)) if sides else areas
