"""Several Parquet runs of one order of images, read in step a few images at a time."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Classes, Images, Source
from smallobj.boxes.compiled import cpu_count
from smallobj.formats.align import align_runs
from smallobj.formats.image_ids import natural_key
from smallobj.formats.image_spans import CHUNK_ROWS, image_spans
from smallobj.formats.parquet_file import open_parquet
from smallobj.formats.parquet_outline import outline_of
from smallobj.formats.parquet_parts import PartReader, ScannedFile
from smallobj.formats.parquet_scan import in_fractions, scan
from smallobj.formats.repairs import Repairs
from smallobj.formats.run_info import read_run_info, run_info_path
from smallobj.formats.runs import Run, require_once


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
        with ThreadPoolExecutor(cpu_count()) as threads:
            self._files = list(threads.map(lambda path: _scanned(path, said.get(path)), paths))
        aligned = align_runs(self.runs, classes=known, sized=sized, image_folder=image_folder)
        self.notes = aligned.notes
        self.classes = aligned.classes
        placed = [
            file.outline.placed(table)
            for file, table in zip(self._files, aligned.tables, strict=True)
        ]
        self._labels = [label for _, label in placed]
        order = self._order(aligned.images, [place for place, _ in placed])
        self.images = aligned.images.take(order)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        self._places = [rank[place] for place, _ in placed]
        self._counts = np.zeros((len(paths), len(order)), np.int64)  # boxes of each run and image
        for counts, file, place in zip(self._counts, self._files, self._places, strict=True):
            counts[place[file.scan.stretch_image]] = file.scan.stretch_rows
        self.repairs = [Repairs() for _ in paths]  # of the chunks that were read

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
            PartReader(
                file,
                self.classes,
                place=place,
                label=label,
                images=len(self.images),
                strict=self._strict,
            )
            for file, place, label in zip(self._files, self._places, self._labels, strict=True)
        ]
        for start, stop in image_spans(self._counts.sum(axis=0), rows):
            images = Images(
                ids=self.images.ids[start:stop],
                width=self.images.width[start:stop],
                height=self.images.height[start:stop],
            )
            yield [
                reader.table(images, counts[start:stop])
                for reader, counts in zip(readers, self._counts, strict=True)
            ]
            self.repairs = [reader.repairs for reader in readers]

    def _order(self, union: Images, places: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Positions of the shared images in an order in which every file has its rows."""
        rows = [
            place[file.scan.stretch_image] for file, place in zip(self._files, places, strict=True)
        ]
        for order in _orders(union, places):
            rank = np.empty(len(union), np.int64)
            rank[order] = np.arange(len(union))
            if all((np.diff(rank[stretch]) > 0).all() for stretch in rows):
                return order
        raise UnlikeOrders("the runs name their images in different orders")


def _scanned(path: Path, said: Classes | None) -> ScannedFile:
    opened = open_parquet(path)
    info_path = run_info_path(path)
    info = read_run_info(info_path) if info_path.is_file() else None
    said = said or (None if info is None else info.classes)
    found = scan(opened, said)
    if not found.grouped:
        raise UnlikeOrders(f"{path} is not sorted by image")
    if in_fractions(opened):
        raise UnlikeOrders(f"{path} has boxes as fractions of the images")
    if info is None and opened.about is not None:
        info = opened.about.info()
    return ScannedFile(
        opened=opened,
        scan=found,
        known=found.classes or said,
        outline=outline_of(path, found, said, info),
    )


def _orders(union: Images, places: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """Orders of the shared images that files are likely to have, as positions [N]."""
    count = len(union)
    yield np.arange(count)
    yield from (place for place in places if len(place) == count)
    yield np.array(sorted(range(count), key=union.ids.__getitem__), np.int64)
    yield np.array(sorted(range(count), key=lambda i: natural_key(union.ids[i])), np.int64)
