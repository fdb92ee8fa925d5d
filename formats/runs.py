"""Runs: one model's predictions on one image set, in any of the known formats."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smallobj.boxes import BoxTable, Classes, Images, InputError, whole_file
from smallobj.formats.challenge import labels_of
from smallobj.formats.faults import Faults, Stop
from smallobj.formats.image_ids import natural_key
from smallobj.formats.labels import Labels
from smallobj.formats.output import whole_folder
from smallobj.formats.raw_run import (
    UNITS,
    RawRun,
    RunOutput,
    RunRequest,
    Unit,
    is_unit_square,
    unit_square,
)
from smallobj.formats.repairs import Geometry, Repairs, repair_boxes
from smallobj.formats.run_classes import classes_of_run, require_agreement
from smallobj.formats.run_formats import RUN_FORMATS, find_run_kind, guess_run_kind, run_format
from smallobj.formats.run_info import RunInfo, read_run_info, run_info_path, write_run_info

RUN_KINDS = tuple(RUN_FORMATS)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model's predictions on one image set.

    Where boxes are fractions of images whose sizes are unknown, every image is 1 x 1 and
    `unit` says so; `align_runs` brings them to pixels as soon as it learns the sizes.
    """

    name: str  # the file's name without its ending, the folder's name
    path: Path
    kind: str  # one of RUN_KINDS
    table: BoxTable  # with scores
    info: RunInfo | None  # None where no TOML lies beside
    repairs: Repairs
    unit: Unit = "pixel"  # of the boxes
    numbered: bool = True  # False: the file has class names alone, and their ids are made up

    @property
    def names_empty(self) -> bool:
        """Whether an image in which nothing was found stands in a file of this kind as well."""
        return RUN_FORMATS[self.kind].names_empty


def read_run(
    path: Path,
    *,
    labels: Labels | None = None,
    classes: Classes | None = None,
    unit: str | None = None,
    strict: bool = False,
) -> Run:
    """Read predictions; the kind is found from the content.

    labels: translate the image ids of COCO results into those of the labels; without them an
    image is called by its COCO id. classes: what the class numbers of the file mean; without them
    those of `NAME.run.toml` beside it or of the file itself, else classes are called by their
    ids, 0 to the largest. unit: of the boxes of a CSV file, told by its boxes where None. Swapped
    corners are repaired, boxes without area dropped, both counted; `strict` makes them errors.

    Raises InputError with file, item, field and value where a value is at fault.
    """
    kind = guess_run_kind(path)
    info_path = run_info_path(path)
    info = read_run_info(info_path) if info_path.is_file() else None
    require_agreement(path, classes, None if info is None else info.classes)
    said = classes or (None if info is None else info.classes)
    faults = Stop(strict=strict)
    raw = RUN_FORMATS[kind].read(
        path, RunRequest(classes=said, labels=labels, unit=_unit(unit)), faults
    )
    if not raw.ids:
        raise InputError("holds no predictions", file=path)
    class_id, known = classes_of_run(path, raw, said)
    table, repairs = _table(path, raw, class_id, known, faults)
    return Run(
        name=path.name if path.is_dir() else path.stem,
        path=path,
        kind=kind,
        table=table,
        info=info or raw.info,
        repairs=repairs,
        unit="normalised" if is_unit_square(table.images) else "pixel",
        numbered=raw.numbered or said is not None,
    )


def read_runs(
    paths: Sequence[Path],
    *,
    labels: Labels | None = None,
    classes: Mapping[Path, Classes] | None = None,
    unit: str | None = None,
    strict: bool = False,
) -> list[Run]:
    """Read several runs; classes: what the class numbers of each mean, for some or all of them.

    Raises InputError where there are none or one stands twice.
    """
    require_once(paths)
    said = classes or {}
    return [
        read_run(path, labels=labels, classes=said.get(path), unit=unit, strict=strict)
        for path in paths
    ]


def require_once(paths: Sequence[Path]) -> None:
    """Raise InputError where no runs are given or one stands twice."""
    if not paths:
        raise InputError("no runs given")
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise InputError("run is given twice", file=path)
        seen.add(path.resolve())


def write_run(
    path: Path,
    table: BoxTable,
    info: RunInfo,
    *,
    kind: str = "challenge",
    labels: Labels | None = None,
) -> list[str]:
    """Write a run and `NAME.run.toml` beside it, both or none; returns what to tell.

    kind: one of RUN_KINDS; "yolo" writes a folder. labels: COCO labels that say the image ids of
    COCO results; without them the table's ids have to be numbers. Classes are written by their
    source ids, or by name where a format has names.

    Raises ValueError where the table has no scores or other classes than `info`, InputError where
    an image has no COCO id, or where sizes of images are needed to get from pixels to fractions
    or back, and unknown.
    """
    if table.score is None or table.classes != info.classes:
        raise ValueError("a run has scores, and the classes its info names")
    form = run_format(kind)
    require_unit(table, path, kind)
    output = RunOutput(path=path, info=info, labels=labels)
    with _whole(path, folder=form.folder) as temporary:
        notes = form.write(table, temporary, output)
        write_run_info(run_info_path(path, folder=form.folder), info)
    return notes


def require_unit(table: BoxTable, path: Path, kind: str) -> None:
    """Raise InputError where the boxes cannot be written in the unit of a format.

    That is fractions where the size of an image with boxes is unknown, and pixels where the boxes
    are fractions of images whose sizes nobody said.
    """
    form = run_format(kind)
    if not form.normalised and is_unit_square(table.images):
        fractions = ", ".join(name for name, one in RUN_FORMATS.items() if one.normalised)
        reason = (
            "boxes are fractions of images whose sizes are unknown: give the images (--images),"
            f" or labels that say them (--labels); {fractions} can be written without"
        )
        raise InputError(reason, file=path, field="to", value=kind)
    unknown = (table.images.width == 0) | (table.images.height == 0)
    unknown &= np.diff(table.offsets) > 0
    if form.normalised and unknown.any():
        reason = (
            f"size of the image is unknown, which {kind} needs: give the images (--images), or"
            " labels that say sizes (--labels)"
        )
        raise InputError(reason, file=path, item=table.images.ids[int(np.argmax(unknown))])


def is_run(path: Path) -> bool:
    """Whether a file or folder holds predictions, not labels; a TOML beside says so too.

    Raises InputError where it is an empty file or cannot be read.
    """
    if not path.exists():
        return False
    if run_info_path(path).is_file():
        return True
    return find_run_kind(path) is not None


def _unit(name: str | None) -> Unit | None:
    for unit in UNITS:
        if unit == name:
            return unit
    if name is None:
        return None
    raise InputError(f"unknown; known: {', '.join(UNITS)}", field="unit", value=name)


@contextmanager
def _whole(path: Path, *, folder: bool) -> Iterator[Path]:
    with whole_folder(path) if folder else whole_file(path) as temporary:
        yield temporary


def _table(
    path: Path, raw: RawRun, class_id: np.ndarray, classes: Classes, faults: Faults
) -> tuple[BoxTable, Repairs]:
    images = _images(path, raw)
    width, height = images.width[raw.image_index], images.height[raw.image_index]
    geometry = repair_boxes(raw.xyxy, width, height)
    report_geometry(path, raw, geometry, faults)
    keep = geometry.keep
    order = sorted(range(len(raw.ids)), key=lambda i: natural_key(raw.ids[i]))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    table = BoxTable.build(
        images=images.take(np.array(order, np.int64)),
        classes=classes,
        image_index=position[raw.image_index[keep]],
        xyxy=geometry.xyxy[keep],
        label=labels_of(class_id[keep], classes),
        score=raw.score[keep],
        source=None if raw.source is None else raw.source[keep],
        sources=raw.sources,
    )
    return table, geometry.repairs()


def _images(path: Path, raw: RawRun) -> Images:
    if len(set(raw.ids)) < len(raw.ids):
        twice = next(image_id for image_id in raw.ids if raw.ids.count(image_id) > 1)
        raise InputError("image stands twice", file=path, item=twice)
    if raw.unit == "normalised":
        return unit_square(raw.ids)
    if raw.sizes is None:
        return Images.of(raw.ids)
    return Images(ids=tuple(raw.ids), width=raw.sizes[:, 0], height=raw.sizes[:, 1])


def report_geometry(path: Path, raw: RawRun, geometry: Geometry, faults: Faults) -> None:
    """Report every box of faulty geometry with its row."""
    for kind, reason, bad in (
        ("swapped corners", "width or height is negative", geometry.swapped),
        ("zero area", "box has no area", geometry.zero_area),
        ("outside the image", "box is outside its image", geometry.outside),
        ("outside the image", "box sticks out of its image", geometry.clipped),
    ):
        for row in np.flatnonzero(bad):
            image = int(raw.image_index[row])
            faults.add(
                kind,
                reason,
                file=path if raw.files is None else raw.files[image],
                item=raw.ids[image],
                field=raw.row_field.format(raw.number[row]),
                value=[float(f"{number:.9g}") for number in raw.xyxy[row]],
            )
