"""Several Parquet runs of one order of images, read in step a few images at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, Classes, Images, Source
from smallobj.formats.align import Aligned, align_runs
from smallobj.formats.faults import Stop
from smallobj.formats.image_ids import natural_key
from smallobj.formats.image_spans import CHUNK_ROWS, image_spans
from smallobj.formats.parquet_columns import RowReader, Rows
from smallobj.formats.parquet_file import OpenParquet, open_parquet
from smallobj.formats.parquet_labels import ClassIds
from smallobj.formats.parquet_outline import Outline, outline_of
from smallobj.formats.parquet_scan import Scan, in_fractions, scan
from smallobj.formats.raw_run import RawRun
from smallobj.formats.repairs import Repairs, repair_boxes
from smallobj.formats.run_info import read_run_info, run_info_path
from smallobj.formats.runs import Run, report_geometry, require_once


class UnlikeOrders(Exception):  # noqa: N818 - not a fault of the user's: the runs are read whole
    """Runs cannot be read in step; says why."""


class RunStream:
    """Runs brought to the same images and classes, as `align_runs` does with whole ones.

    Only an outline of each file is kept: its images and how many boxes each has.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        known: Classes | None = None,
        classes: Mapping[Path, Classes] | None = None,
        sized: Images | None = None,
        image_folder: Path | None = None,
        strict: bool = False,
    ) -> None:
        """Scan the files.

        known: the classes of the labels. classes: what the numbers of some runs mean. sized,
        image_folder: as `align_runs` takes them.

        Raises InputError where a file is at fault, UnlikeOrders where the rows of an image do not
        stand together, the files' orders of images contradict each other, or boxes are fractions.
        """
        require_once(paths)
        said = classes or {}
        self._strict = strict
        self._files = [_File.open(path, said.get(path)) for path in paths]
        aligned = align_runs(
            [file.outline.run for file in self._files],
            classes=known,
            sized=sized,
            image_folder=image_folder,
        )
        self.notes = aligned.notes
        self.classes = aligned.classes
        self.images, self._rows = self._in_one_order(aligned)
        self.repairs = [Repairs() for _ in paths]  # complete when all chunks were read

    @property
    def runs(self) -> list[Run]:
        """The runs without their boxes: name, path, info."""
        return [file.outline.run for file in self._files]

    @property
    def sources(self) -> list[tuple[Source, ...]]:
        """The views that each run keeps apart; empty where it does not."""
        return [file.sources for file in self._files]

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[list[BoxTable]]:
        """One table a run over the next images: at most `rows` boxes, or a single image's.

        Raises InputError where a value is at fault.
        """
        readers = [
            RowReader(file.opened, ClassIds(file.known), file.scan.views) for file in self._files
        ]
        for start, stop in image_spans(self._rows.sum(axis=0), rows):
            images = Images(
                ids=self.images.ids[start:stop],
                width=self.images.width[start:stop],
                height=self.images.height[start:stop],
            )
            yield [
                self._table(number, reader, images, start) for number, reader in enumerate(readers)
            ]

    def _table(self, number: int, reader: RowReader, images: Images, start: int) -> BoxTable:
        file = self._files[number]
        counts = self._rows[number, start : start + len(images)]
        first_row = reader.row
        rows = reader.take(int(counts.sum()))
        table = BoxTable(
            images=images,
            classes=self.classes,
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            xyxy=rows.xyxy,
            label=file.labels_of(rows.class_id),
            score=rows.score,
            source=rows.view,
            sources=file.sources,
        )
        table, repairs = self._repaired(number, table, rows, first_row)
        self.repairs[number] += repairs
        return table

    def _repaired(
        self, number: int, table: BoxTable, rows: Rows, first_row: int
    ) -> tuple[BoxTable, Repairs]:
        """The table without faulty geometry, as a run that is read whole; mostly nothing to do."""
        file = self._files[number]
        size = file.sizes_of(table)
        if _is_sound(table.xyxy, size):
            return table, Repairs()
        width, height = np.zeros((2, len(table)), np.int32) if size is None else size.T
        geometry = repair_boxes(table.xyxy, width, height)
        raw = RawRun(
            ids=table.images.ids,
            image_index=table.image_index,
            xyxy=table.xyxy,
            class_id=rows.class_id,
            score=rows.score,
            number=np.arange(first_row, first_row + len(table)),
            row_field="row {}",
        )
        report_geometry(file.outline.run.path, raw, geometry, Stop(strict=self._strict))
        return replace(table, xyxy=geometry.xyxy).filter_rows(geometry.keep), geometry.repairs()

    def _in_one_order(self, aligned: Aligned) -> tuple[Images, NDArray[np.int64]]:
        """Images in an order that fits every file, and the boxes of each run [R, N] in them."""
        union = aligned.images
        for file, table in zip(self._files, aligned.tables, strict=True):
            file.place(table)
        places = [file.place_of_stretch for file in self._files]
        for order in _orders(union, [file.place_of_image for file in self._files]):
            rank = np.empty(len(union), np.int64)
            rank[order] = np.arange(len(union))
            if all((np.diff(rank[place]) > 0).all() for place in places):
                break
        else:
            raise UnlikeOrders("the runs name their images in different orders")
        rows = np.zeros((len(self._files), len(union)), np.int64)
        for number, (file, place) in enumerate(zip(self._files, places, strict=True)):
            rows[number, rank[place]] = file.scan.stretch_rows
            file.order(order)
        return union.take(order), rows


@dataclass(kw_only=True, eq=False)
class _File:
    """One of the files, and how its images and classes stand to those all share."""

    opened: OpenParquet
    scan: Scan
    known: Classes | None  # what the numbers in the file mean
    outline: Outline
    place_of_image: NDArray[np.int64]  # [own images] position among the shared ones
    shared_label: NDArray[np.int32]  # by rank of the class ids in use
    sizes: NDArray[np.int32]  # [shared images, 2] the file's own, 0 where unknown

    @classmethod
    def open(cls, path: Path, said: Classes | None) -> "_File":
        opened = open_parquet(path)
        info_path = run_info_path(path)
        beside = read_run_info(info_path) if info_path.is_file() else None
        said = said or (None if beside is None else beside.classes)
        found = scan(opened, said)
        if not found.grouped:
            raise UnlikeOrders(f"{path} is not sorted by image")
        if in_fractions(opened):
            raise UnlikeOrders(f"{path} has boxes as fractions of the images")
        info = beside or (None if opened.about is None else opened.about.info())
        nothing = np.empty(0, np.int64)
        return cls(
            opened=opened,
            scan=found,
            known=found.classes or said,
            outline=outline_of(path, found, said, info),
            place_of_image=nothing,
            shared_label=nothing.astype(np.int32),
            sizes=found.sizes,
        )

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(Source(self.opened.path.stem, view) for view in self.scan.views)

    @property
    def place_of_stretch(self) -> NDArray[np.int64]:
        return self.place_of_image[self.scan.stretch_image]

    def place(self, aligned: BoxTable) -> None:
        """Learn from the aligned outline where the images and classes went."""
        self.place_of_image, self.shared_label = self.outline.placed(aligned)
        own, self.sizes = self.sizes, np.zeros((len(aligned.images), 2), np.int32)
        self.sizes[self.place_of_image] = own

    def order(self, order: NDArray[np.int64]) -> None:
        """Take another order of the shared images."""
        self.sizes = self.sizes[order]
        self._start = 0

    def labels_of(self, class_id: NDArray[np.int64]) -> NDArray[np.int32]:
        ids = np.array(self.scan.class_ids, np.int64)
        return self.shared_label[np.searchsorted(ids, class_id)]

    def sizes_of(self, table: BoxTable) -> NDArray[np.int32] | None:
        """Width and height of each box's image as this file has them; None where it has none."""
        if not self.sizes.any():
            return None
        own = self.sizes[self._start : self._start + len(table.images)]
        self._start += len(table.images)
        return np.repeat(own, np.diff(table.offsets), axis=0)


def _is_sound(xyxy: Array, size: NDArray[np.int32] | None) -> bool:
    """Whether no box needs repair: corners in order, an area, inside its image."""
    sound = bool((xyxy[:, 2] > xyxy[:, 0]).all() and (xyxy[:, 3] > xyxy[:, 1]).all())
    if size is None or not sound:
        return sound
    limit = np.where(size > 0, size, np.inf)
    return bool((xyxy[:, :2] >= 0).all() and (xyxy[:, 2:] <= limit).all())


def _orders(union: Images, places: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """Orders of the shared images that files are likely to have, as positions [N]."""
    count = len(union)
    yield np.arange(count)
    yield from (place for place in places if len(place) == count)
    yield np.array(sorted(range(count), key=union.ids.__getitem__), np.int64)
    yield np.array(sorted(range(count), key=lambda i: natural_key(union.ids[i])), np.int64)
