"""Several runs on the same images and the same classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats.align_classes import note_numbers, to_classes, union_classes
from smallobj.formats.align_images import from_folder, from_labels, known_sizes, union_images
from smallobj.formats.image_ids import match_ids
from smallobj.formats.raw_run import Unit, unit_square
from smallobj.formats.runs import Run


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Tables of several runs with equal images and classes."""

    tables: list[BoxTable]  # one per run, in the order of the runs
    notes: list[str]  # what the user is told: images that a run lacks or that were left out
    positions: NDArray[np.int64]  # [N], where the images stand among those asked for
    unit: Unit = "pixel"  # "normalised": all boxes are fractions, of images of 1 x 1

    @property
    def images(self) -> Images:
        """The images all tables share."""
        return self.tables[0].images

    @property
    def classes(self) -> Classes:
        """The classes all tables share."""
        return self.tables[0].classes


def align_runs(
    runs: Sequence[Run],
    *,
    images: Images | None = None,
    classes: Classes | None = None,
    common: bool = False,
    sized: Images | None = None,
    image_folder: Path | None = None,
) -> Aligned:
    """Bring runs to the same images, classes and unit.

    images: the truth's; without them the union of the runs' images in order of first appearance.
    common: of the truth's images only those that every run holds. classes: the truth's; without
    them those that the runs name, or the runs' ids. Classes are matched by name where a run names
    them, else by the source's id. A run without an image counts as having found nothing there, and
    is told. sized: images of labels that say sizes; image_folder: where to read them from headers.

    Fractions become pixels by the sizes that the truth, another run, `sized` or the headers say.
    Where all runs have fractions and a size is unknown they stay fractions, of images of 1 x 1.

    Raises InputError where a run has no image in common with the others or a class outside, where
    two runs say different sizes of an image, or where pixels meet fractions and a size is unknown.
    """
    if not runs:
        raise InputError("no runs given")
    notes: list[str] = []
    shared_classes = classes or union_classes(runs, notes)
    tables = [to_classes(run, shared_classes) for run in runs]
    note_numbers(runs, shared_classes, notes)
    given = images
    if images is None:
        images, indices = union_images(runs)
        _note_missing(runs, indices, notes)
        chosen = np.arange(len(images))
    else:
        indices = [_find(run, images) for run in runs]
        chosen = _held_by_all(indices) if common else np.arange(len(images))
        _note_scored(runs, indices, notes, common=common)
    sizes = known_sizes(images, runs, indices)
    if sized is not None:
        images, sizes = from_labels(images, sizes, sized, runs)
    if image_folder is not None and not (sizes > 0).all():
        images, sizes = from_folder(images, sizes, image_folder, runs)
    unit = _shared_unit(runs, tables, indices, sizes, images, scored=given is not None)
    if unit == "pixel":
        tables = [
            _scaled(run, table, index, sizes)
            for run, table, index in zip(runs, tables, indices, strict=True)
        ]
    if given is None:
        images = (
            Images(ids=images.ids, width=sizes[:, 0], height=sizes[:, 1])
            if unit == "pixel"
            else unit_square(images.ids)
        )
    shared = (images if given is None else given).take(chosen)
    aligned = [
        _take(table, shared, index[chosen]) for table, index in zip(tables, indices, strict=True)
    ]
    return Aligned(tables=aligned, notes=notes, positions=chosen, unit=unit)


def in_pixels(run: Run, *, sized: Images | None = None, image_folder: Path | None = None) -> Run:
    """The run with the sizes of its images, and its fractions as pixels where all are known.

    sized, image_folder: where sizes are known from, as in `align_runs`.
    """
    aligned = align_runs([run], classes=run.table.classes, sized=sized, image_folder=image_folder)
    return replace(run, table=aligned.tables[0], unit=aligned.unit)


def _shared_unit(
    runs: Sequence[Run],
    tables: Sequence[BoxTable],
    indices: Sequence[NDArray[np.int64]],
    sizes: NDArray[np.int32],
    images: Images,
    *,
    scored: bool,
) -> Unit:
    """Pixels, or fractions where no run has pixels and not every size is known.

    Raises InputError where a size is unknown that is needed.
    """
    unknown = ~(sizes > 0).all(axis=1)
    pixels = scored or any(
        run.unit == "pixel" and len(table) for run, table in zip(runs, tables, strict=True)
    )
    for run, table, index in zip(runs, tables, indices, strict=True):
        if run.unit == "pixel":
            continue
        has_boxes = np.diff(table.offsets) > 0
        lacking = unknown & (index >= 0)
        lacking[lacking] = has_boxes[index[lacking]]
        if lacking.any() and pixels:
            reason = (
                f"boxes are fractions of images, and the size of {_number_of(int(lacking.sum()))}"
                " is unknown: give the images (--images), or labels that say sizes (--labels)"
            )
            raise InputError(reason, file=run.path, item=images.ids[int(np.argmax(lacking))])
        if lacking.any():
            return "normalised"
    return "pixel"


def _scaled(
    run: Run, table: BoxTable, index: NDArray[np.int64], sizes: NDArray[np.int32]
) -> BoxTable:
    """A run's table with its fractions as pixels; index [N] says where it has the images."""
    if run.unit == "pixel":
        return table
    own = np.zeros((len(table.images), 2), np.int32)
    own[index[index >= 0]] = sizes[index >= 0]
    scale = own[table.image_index].astype(np.float64)
    return replace(table, xyxy=table.xyxy * np.concatenate([scale, scale], axis=1))


def _find(run: Run, images: Images) -> NDArray[np.int64]:
    """Where the run has each of the truth's images, -1 nowhere."""
    own = run.table.images.ids
    index = match_ids(images.ids, own, wanted_file="the labels", given_file=run.path)
    if len(images) and not (index >= 0).any():
        raise InputError(
            f"has no image in common with the labels (labels of another data set?);"
            f" the labels have {images.ids[0]}",
            file=run.path,
            item=own[0],
        )
    return index


_WITHOUT_EMPTY = {
    "coco": "COCO results name",
    "openimages": "Open Images CSV names",
    "yolo": "a folder of YOLO txt may name",
}


def _held_by_all(indices: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Positions of the images that are in every run."""
    return np.flatnonzero(np.all([index >= 0 for index in indices], axis=0))


def _note_scored(
    runs: Sequence[Run], indices: Sequence[NDArray[np.int64]], notes: list[str], *, common: bool
) -> None:
    """Tell which images are scored; raises InputError where that is none."""
    held, count = len(_held_by_all(indices)), len(indices[0])
    if common and not held:
        raise InputError("no image of the labels is in every run", file=runs[0].path)
    lacking = [run for run, index in zip(runs, indices, strict=True) if (index < 0).any()]
    if common:
        notes.append(f"only the images that every run holds count: {held} of {count}")
        notes += [
            f"{run.path}: {_WITHOUT_EMPTY[run.kind]} no image without boxes,"
            " so none of those counts"
            for run in lacking
            if not run.names_empty
        ]
    else:
        _note_missing(runs, indices, notes)
        if held and any(run.names_empty for run in lacking):
            notes.append(f"--common scores only the {_number_of(held)} that every run holds")
    for run, index in zip(runs, indices, strict=True):
        left_out = len(run.table.images) - int((index >= 0).sum())
        if left_out:
            notes.append(f"{run.path} has {_number_of(left_out)} that the labels lack; left out")


def _number_of(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _note_missing(
    runs: Sequence[Run], indices: Sequence[NDArray[np.int64]], notes: list[str]
) -> None:
    for run, index in zip(runs, indices, strict=True):
        missing = int((index < 0).sum())
        if missing:
            notes.append(
                f"{run.path} lacks {missing} of {len(index)} images; counted as nothing found"
            )


def _take(table: BoxTable, images: Images, index: NDArray[np.int64]) -> BoxTable:
    """The table's boxes on `images`; index [len(images)] says where each stands, -1 nowhere."""
    position = np.full(len(table.images), -1, np.int64)
    there = np.flatnonzero(index >= 0)
    position[index[there]] = there
    image_index = position[table.image_index]
    kept = table.filter_rows(image_index >= 0)
    return BoxTable.build(
        images=images,
        classes=kept.classes,
        image_index=image_index[image_index >= 0],
        xyxy=kept.xyxy,
        label=kept.label,
        score=kept.score,
        area=kept.area,
        ignore=kept.ignore,
        source=kept.source,
        sources=kept.sources,
    )
