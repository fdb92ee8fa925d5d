"""Several runs on the same images and the same classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats.image_ids import match_ids
from smallobj.formats.runs import Run


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Tables of several runs with equal images and classes."""

    tables: list[BoxTable]  # one per run, in the order of the runs
    notes: list[str]  # what the user is told: images that a run lacks or that were left out

    @property
    def images(self) -> Images:
        """The images all tables share."""
        return self.tables[0].images

    @property
    def classes(self) -> Classes:
        """The classes all tables share."""
        return self.tables[0].classes


def align_runs(
    runs: Sequence[Run], *, images: Images | None = None, classes: Classes | None = None
) -> Aligned:
    """Bring runs to the same images and classes.

    images: the truth's; without them the union of the runs' images in order of first appearance.
    classes: the truth's; without them those that the runs' TOML files name, or the runs' ids.
    Classes are matched by name where a run names them, else by the source's id. A run without an
    image counts as having found nothing there, and is told.

    Raises InputError where a run has no image in common with the others or a class outside.
    """
    if not runs:
        raise InputError("no runs given")
    notes: list[str] = []
    shared_classes = classes or _union_classes(runs, notes)
    tables = [_to_classes(run, shared_classes) for run in runs]
    if images is not None:
        return Aligned(
            tables=[
                _to_images(run, table, images, notes)
                for run, table in zip(runs, tables, strict=True)
            ],
            notes=notes,
        )
    union, indices = _union_images(runs)
    aligned = []
    for run, table, index in zip(runs, tables, indices, strict=True):
        _note_missing(run, index, len(union), notes)
        aligned.append(_take(table, union, index))
    return Aligned(tables=aligned, notes=notes)


def _to_images(run: Run, table: BoxTable, images: Images, notes: list[str]) -> BoxTable:
    index = match_ids(images.ids, table.images.ids, wanted_file="the labels", given_file=run.path)
    found = int((index >= 0).sum())
    if not found and len(images):
        raise InputError(
            f"has no image in common with the labels (labels of another data set?);"
            f" the labels have {images.ids[0]}",
            file=run.path,
            item=table.images.ids[0],
        )
    _note_missing(run, index, len(images), notes)
    left_out = len(table.images) - found
    if left_out:
        notes.append(f"{run.path}: {left_out} images that the labels lack are left out")
    return _take(table, images, index)


def _note_missing(run: Run, index: NDArray[np.int64], count: int, notes: list[str]) -> None:
    missing = int((index < 0).sum())
    if missing:
        notes.append(f"{run.path} lacks {missing} of {count} images; counted as nothing found")


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


def _union_images(runs: Sequence[Run]) -> tuple[Images, list[NDArray[np.int64]]]:
    union = runs[0].table.images
    for run in runs[1:]:
        own = run.table.images
        index = match_ids(own.ids, union.ids, wanted_file=run.path, given_file=runs[0].path)
        if not (index >= 0).any():
            raise InputError(
                f"has no image in common with {runs[0].path} (runs of another data set?)",
                file=run.path,
                item=own.ids[0],
            )
        new = own.take(np.flatnonzero(index < 0))
        union = Images(
            ids=union.ids + new.ids,
            width=np.concatenate([union.width, new.width]),
            height=np.concatenate([union.height, new.height]),
        )
    return union, [match_ids(union.ids, run.table.images.ids, given_file=run.path) for run in runs]


def _union_classes(runs: Sequence[Run], notes: list[str]) -> Classes:
    named = [run for run in runs if run.info is not None]
    if not named:
        return max((run.table.classes for run in runs), key=len)
    ids: dict[str, int] = {}
    for run in named:
        for name, class_id in zip(
            run.table.classes.names, run.table.classes.source_ids, strict=True
        ):
            if name in ids:
                continue
            if class_id in ids.values():
                fresh = max(ids.values()) + 1
                notes.append(f"{run.path}: class {name} is written as {fresh}, {class_id} is taken")
                class_id = fresh  # noqa: PLW2901
            ids[name] = class_id
    return Classes.of(tuple(ids), tuple(ids.values()))


def _to_classes(run: Run, classes: Classes) -> BoxTable:
    table = run.table
    if table.classes == classes:
        return table
    if run.info is not None:
        known: dict[object, int] = {name: i for i, name in enumerate(classes.names)}
        own: Sequence[object] = table.classes.names
    else:
        known = {class_id: i for i, class_id in enumerate(classes.source_ids)}
        own = table.classes.source_ids
    to_shared = np.array([known.get(one, -1) for one in own], np.int32)
    label = to_shared[table.label]
    if (label < 0).any():
        row = int(np.argmax(label < 0))
        names = ", ".join(classes.names[:20]) + (", …" if len(classes) > 20 else "")
        raise InputError(
            f"class is outside the known ones ({names})",
            file=run.path,
            item=table.images.ids[int(table.image_index[row])],
            field="class",
            value=own[int(table.label[row])],
        )
    return replace(table, classes=classes, label=label)
