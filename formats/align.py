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
    positions: NDArray[np.int64]  # [N], where the images stand among those asked for

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
) -> Aligned:
    """Bring runs to the same images and classes.

    images: the truth's; without them the union of the runs' images in order of first appearance.
    common: of the truth's images only those that every run holds. classes: the truth's; without
    them those that the runs' TOML files name, or the runs' ids. Classes are matched by name where a
    run names them, else by the source's id. A run without an image counts as having found nothing
    there, and is told.

    Raises InputError where a run has no image in common with the others or a class outside.
    """
    if not runs:
        raise InputError("no runs given")
    notes: list[str] = []
    shared_classes = classes or _union_classes(runs, notes)
    tables = [_to_classes(run, shared_classes) for run in runs]
    if images is None:
        images, indices = _union_images(runs)
        _note_missing(runs, indices, notes)
        chosen = np.arange(len(images))
    else:
        indices = [_find(run, images) for run in runs]
        chosen = _held_by_all(indices) if common else np.arange(len(images))
        _note_scored(runs, indices, notes, common=common)
    shared = images.take(chosen)
    aligned = [
        _take(table, shared, index[chosen]) for table, index in zip(tables, indices, strict=True)
    ]
    return Aligned(tables=aligned, notes=notes, positions=chosen)


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
            f"{run.path}: COCO results name no image without boxes, so none of those counts"
            for run in lacking
            if run.kind == "coco"
        ]
    else:
        _note_missing(runs, indices, notes)
        if held and any(run.kind != "coco" for run in lacking):
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
    named = [run for run in runs if _has_names(run)]
    if not named:
        numbers = sorted({i for run in runs for i in run.table.classes.source_ids})
        return Classes.of([str(i) for i in numbers], numbers)
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


def _has_names(run: Run) -> bool:
    """Whether a run's classes are more than ids; a run fused of foreign ones has those as names."""
    classes = run.table.classes
    return any(
        name != str(class_id)
        for name, class_id in zip(classes.names, classes.source_ids, strict=True)
    )


def _to_classes(run: Run, classes: Classes) -> BoxTable:
    table = run.table
    if table.classes == classes:
        return table
    if _has_names(run):
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
