"""A scanned Parquet run as tables of the images that several runs share, a few images at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, Classes, Images, Source
from smallobj.formats.faults import Stop
from smallobj.formats.parquet_columns import RowReader, Rows
from smallobj.formats.parquet_file import OpenParquet
from smallobj.formats.parquet_labels import ClassIds
from smallobj.formats.parquet_outline import Outline
from smallobj.formats.parquet_scan import Scan
from smallobj.formats.raw_run import RawRun
from smallobj.formats.repairs import Repairs, repair_boxes
from smallobj.formats.runs import report_geometry

_LARGEST_SPAN = 1_000_000  # of class ids for which a table by id is kept


@dataclass(frozen=True, kw_only=True, eq=False)
class ScannedFile:
    """A file after the first pass."""

    opened: OpenParquet
    scan: Scan
    known: Classes | None  # what the numbers in the file mean
    outline: Outline

    @property
    def sources(self) -> tuple[Source, ...]:
        """The views that the file keeps apart."""
        return tuple(Source(self.opened.path.stem, view) for view in self.scan.views)


class PartReader:
    """Reads a file's boxes in step with others', in one order of N shared images.

    classes: the shared ones. place: where the file's images stand among the shared ones; label: the
    shared label of each class id in use, by rising id.
    """

    def __init__(
        self,
        file: ScannedFile,
        classes: Classes,
        *,
        place: NDArray[np.int64],
        label: NDArray[np.int32],
        images: int,
        strict: bool,
    ) -> None:
        self._file, self._classes = file, classes
        self._rows = RowReader(file.opened, ClassIds(file.known), file.scan.views)
        self._label_of = _label_of(file.scan.class_ids, label)
        self._sizes = np.zeros((images, 2), np.int32)
        self._sizes[place] = file.scan.sizes
        self._sized = bool(self._sizes.any())
        self._faults = Stop(strict=strict)
        self._image = 0
        self.repairs = Repairs()

    def table(self, images: Images, counts: NDArray[np.int64]) -> BoxTable:
        """The boxes of the next images, `counts` of each.

        Raises InputError where a value is at fault.
        """
        rows = self._rows.take(int(counts.sum()))
        table = BoxTable(
            images=images,
            classes=self._classes,
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            xyxy=rows.xyxy,
            label=self._label_of(rows.class_id),
            score=rows.score,
            source=rows.view,
            sources=self._file.sources,
        )
        size = None
        if self._sized:  # the file's own sizes judge it, as where it is read whole
            own = self._sizes[self._image : self._image + len(images)]
            size = np.repeat(own, counts, axis=0)
        self._image += len(images)
        return table if _is_sound(table.xyxy, size) else self._repaired(table, rows, size)

    def _repaired(self, table: BoxTable, rows: Rows, size: NDArray[np.int32] | None) -> BoxTable:
        width, height = np.zeros((2, len(table)), np.int32) if size is None else size.T
        geometry = repair_boxes(table.xyxy, width, height)
        raw = RawRun(
            ids=table.images.ids,
            image_index=table.image_index,
            xyxy=table.xyxy,
            class_id=rows.class_id,
            score=rows.score,
            number=self._rows.row - len(table) + np.arange(len(table)),
            row_field="row {}",
        )
        path: Path = self._file.opened.path
        report_geometry(path, raw, geometry, self._faults)
        self.repairs += geometry.repairs()
        return replace(table, xyxy=geometry.xyxy).filter_rows(geometry.keep)


def _label_of(
    class_ids: Sequence[int], label: NDArray[np.int32]
) -> Callable[[NDArray[np.int64]], NDArray[np.int32]]:
    """From class ids to shared labels: by a table where the ids lie close, which is far quicker."""
    ids = np.array(class_ids, np.int64)
    if not len(ids) or ids[-1] - ids[0] > _LARGEST_SPAN:
        return lambda class_id: label[np.searchsorted(ids, class_id)]
    by_id = np.zeros(int(ids[-1] - ids[0]) + 1, np.int32)
    by_id[ids - ids[0]] = label
    return lambda class_id: by_id[class_id - ids[0]]


def _is_sound(xyxy: Array, size: NDArray[np.int32] | None) -> bool:
    """Whether no box needs repair: corners in order, an area, inside its image."""
    sound = bool((xyxy[:, 2] > xyxy[:, 0]).all() and (xyxy[:, 3] > xyxy[:, 1]).all())
    if size is None or not sound:
        return sound
    limit = np.where(size > 0, size, np.inf)
    return bool((xyxy[:, :2] >= 0).all() and (xyxy[:, 2:] <= limit).all())
