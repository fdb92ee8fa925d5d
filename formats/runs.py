"""Runs: one model's predictions on one image set; the challenge's JSON or COCO results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smallobj.boxes import BoxTable, Classes, Images, InputError, whole_file, xywh_to_xyxy
from smallobj.formats.challenge import (
    challenge_json,
    is_challenge_run,
    labels_of,
    numbered_classes,
)
from smallobj.formats.coco_results import coco_image_ids, read_results, results_json
from smallobj.formats.faults import Faults, Stop
from smallobj.formats.image_ids import natural_key
from smallobj.formats.json_rows import RUN_FIELDS, JsonRows, read_json_bytes, read_rows
from smallobj.formats.labels import Labels
from smallobj.formats.repairs import Repairs, repair_boxes
from smallobj.formats.run_info import RunInfo, read_run_info, run_info_path, write_run_info

RUN_KINDS = ("challenge", "coco")  # what runs are written as


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model's predictions on one image set."""

    name: str  # the file's name without its ending
    path: Path
    kind: str  # one of RUN_KINDS; "coco" names no image without boxes
    table: BoxTable  # with scores
    info: RunInfo | None  # None where no TOML lies beside
    repairs: Repairs


def read_run(path: Path, *, labels: Labels | None = None, strict: bool = False) -> Run:
    """Read predictions: the challenge's JSON with scores, or a list of COCO results.

    labels: translate the image ids of COCO results into those of the labels; without them an
    image is called by its COCO id. Classes are those of `NAME.run.toml` beside the file, else
    they are called by their ids, 0 to the largest. Swapped corners are repaired, boxes without
    area dropped, both counted; `strict` makes them errors. Image sizes stay unknown.

    Raises InputError with file, item, field and value where a value is at fault.
    """
    content = read_json_bytes(path)
    info_path = run_info_path(path)
    info = read_run_info(info_path) if info_path.is_file() else None
    class_ids = None if info is None else frozenset(info.classes.source_ids)
    faults = Stop(strict=strict)
    kind = "coco" if content.lstrip()[:1] == b"[" else "challenge"
    if kind == "coco":
        rows = read_results(path, content, class_ids, labels)
    else:
        _refuse_labels(path, content)
        rows = read_rows(path, content, RUN_FIELDS, class_ids, faults)
    if not rows.ids:
        raise InputError("holds no predictions", file=path)
    classes = numbered_classes(rows.rows[:, 0]) if info is None else info.classes
    table, repairs = _table(path, rows, classes, faults)
    return Run(name=path.stem, path=path, kind=kind, table=table, info=info, repairs=repairs)


def read_runs(
    paths: Sequence[Path], *, labels: Labels | None = None, strict: bool = False
) -> list[Run]:
    """Read several runs; raises InputError where there are none or one stands twice."""
    if not paths:
        raise InputError("no runs given")
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise InputError("run is given twice", file=path)
        seen.add(path.resolve())
    return [read_run(path, labels=labels, strict=strict) for path in paths]


def write_run(
    path: Path,
    table: BoxTable,
    info: RunInfo,
    *,
    kind: str = "challenge",
    labels: Labels | None = None,
) -> list[str]:
    """Write a run and `NAME.run.toml` beside it, both or none; returns what to tell.

    kind: "challenge", where an image without boxes is an empty list, or "coco", results in which
    it does not stand. labels: COCO labels that say the image ids of results; without them the
    table's ids have to be numbers. Classes are written by their source ids.

    Raises ValueError where the table has no scores or other classes than `info`, InputError where
    an image has no COCO id.
    """
    if table.score is None or table.classes != info.classes:
        raise ValueError("a run has scores, and the classes its info names")
    if kind not in RUN_KINDS:
        raise InputError(f"unknown kind of run; known: {', '.join(RUN_KINDS)}", value=kind)
    notes = []
    if kind == "coco":
        content = results_json(table, coco_image_ids(table.images.ids, labels, path))
        empty = int((np.diff(table.offsets) == 0).sum())
        if empty:
            were = "image without boxes does" if empty == 1 else "images without boxes do"
            notes.append(f"{empty} {were} not stand in COCO results")
    else:
        content = challenge_json(table)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
        write_run_info(run_info_path(path), info)
    return notes


def is_run(path: Path) -> bool:
    """Whether a file holds predictions, not labels: a list, six values a box, a TOML beside.

    Raises InputError where it is empty or cannot be read.
    """
    if not path.is_file():
        return False
    if run_info_path(path).is_file():
        return True
    content = read_json_bytes(path).lstrip()
    return content[:1] == b"[" or is_challenge_run(content)


def _table(
    path: Path, rows: JsonRows, classes: Classes, faults: Faults
) -> tuple[BoxTable, Repairs]:
    unknown = np.zeros(len(rows.rows), np.int32)
    geometry = repair_boxes(xywh_to_xyxy(rows.rows[:, 1:5]), unknown, unknown)
    for kind, reason, bad in (
        ("swapped corners", "width or height is negative", geometry.swapped),
        ("zero area", "box has no area", geometry.zero_area),
    ):
        for row in np.flatnonzero(bad):
            faults.add(
                kind,
                reason,
                file=path,
                item=rows.ids[rows.image_index[row]],
                field=f"box {rows.number[row]}",
                value=rows.rows[row, 1:5].tolist(),
            )
    keep = geometry.keep
    order = sorted(range(len(rows.ids)), key=lambda i: natural_key(rows.ids[i]))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    table = BoxTable.build(
        images=Images.of([rows.ids[i] for i in order]),
        classes=classes,
        image_index=position[rows.image_index[keep]],
        xyxy=geometry.xyxy[keep],
        label=labels_of(rows.rows[keep, 0].astype(np.int64), classes),
        score=rows.rows[keep, 5],
    )
    return table, geometry.repairs()


def _refuse_labels(path: Path, content: bytes) -> None:
    if content.lstrip()[:1] == b"{" and b'"categories"' in content:
        raise InputError("holds COCO labels, not predictions", file=path)
