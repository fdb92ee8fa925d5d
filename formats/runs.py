"""Runs: one model's predictions on one image set; the challenge's JSON or COCO results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from smallobj.boxes import BoxTable, Classes, Images, InputError, write_bytes, xywh_to_xyxy
from smallobj.formats.challenge import challenge_json, labels_of, numbered_classes
from smallobj.formats.coco import number_list_fault, wrong_value
from smallobj.formats.faults import Faults, Stop
from smallobj.formats.image_ids import natural_key
from smallobj.formats.json_rows import (
    RUN_FIELDS,
    JsonRows,
    collector_paused,
    load_json,
    read_json_bytes,
    read_rows,
)
from smallobj.formats.labels import Labels
from smallobj.formats.raw import ImageId
from smallobj.formats.repairs import Repairs, repair_boxes
from smallobj.formats.run_info import RunInfo, read_run_info, run_info_path, write_run_info
from smallobj.formats.values import LARGEST_CLASS, Wrong, number_fault


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model's predictions on one image set."""

    name: str  # the file's name without its ending
    path: Path
    table: BoxTable  # with scores
    info: RunInfo | None  # None where no TOML lies beside
    repairs: Repairs


class _Result(msgspec.Struct, gc=False):
    image_id: ImageId
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


_RESULTS = msgspec.json.Decoder(list[_Result])


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
    if content.lstrip()[:1] == b"[":
        rows = _read_results(path, content, class_ids, labels, faults)
    else:
        _refuse_labels(path, content)
        rows = read_rows(path, content, RUN_FIELDS, class_ids, faults)
    if not rows.ids:
        raise InputError("holds no predictions", file=path)
    classes = numbered_classes(rows.rows[:, 0]) if info is None else info.classes
    table, repairs = _table(path, rows, classes, faults)
    return Run(name=path.stem, path=path, table=table, info=info, repairs=repairs)


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


def write_run(path: Path, table: BoxTable, info: RunInfo) -> None:
    """Write a run as the challenge's JSON, and `NAME.run.toml` beside it; each file whole.

    Classes are written by their source ids, an image without boxes as an empty list. Raises
    ValueError where the table has no scores or other classes than `info`.
    """
    if table.score is None or table.classes != info.classes:
        raise ValueError("a run has scores, and the classes its info names")
    write_run_info(run_info_path(path), info)
    write_bytes(path, challenge_json(table))


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
    if content.lstrip()[:1] == b"{" and b'"annotations"' in content:
        raise InputError("are COCO labels, not predictions", file=path)


def _read_results(
    path: Path,
    content: bytes,
    class_ids: frozenset[int] | None,
    labels: Labels | None,
    faults: Faults,
) -> JsonRows:
    results = _decode_results(path, content)
    _check_results(path, results, class_ids)
    own = list(dict.fromkeys(r.image_id for r in results))
    ids = _image_names(own, labels)
    position = {image_id: i for i, image_id in enumerate(own)}
    rows = np.array([(r.category_id, *r.bbox, r.score) for r in results], np.float64).reshape(-1, 6)
    return JsonRows(
        ids,
        np.array([position[r.image_id] for r in results], np.int64),
        np.arange(len(rows)),
        rows,
    )


def _decode_results(path: Path, content: bytes) -> list[_Result]:
    try:
        with collector_paused():
            return _RESULTS.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        for number, part in enumerate(load_json(path, content)):
            _refuse_result(path, number, part)
        raise InputError(f"is not JSON: {error}", file=path) from error


def _refuse_result(path: Path, number: int, part: Any) -> None:
    """Raise InputError where an entry of COCO results is none."""
    item = f"[{number}]"
    if not isinstance(part, dict):
        reason = "COCO results are objects with image_id, category_id, bbox and score"
        raise InputError(reason, file=path, item=item, value=json.dumps(part)[:60])
    wrong = number_list_fault(part, "bbox", 4)
    score = part.get("score", 0)
    score_fault = number_fault(score)
    if wrong is None and score_fault is not None:
        wrong = Wrong("score", "score", score_fault, "null" if score is None else score)
    if wrong is not None:
        raise InputError(
            wrong.reason, file=path, item=item, field=wrong.field or None, value=wrong.value
        )
    try:
        msgspec.convert(part, _Result)
    except msgspec.ValidationError as error:
        _, field, reason, value = wrong_value(part, error)
        raise InputError(reason, file=path, item=item, field=field or None, value=value) from error


def _check_results(
    path: Path, results: Sequence[_Result], class_ids: frozenset[int] | None
) -> None:
    for number, result in enumerate(results):
        item = f"[{number}]"
        if not 0 <= result.score <= 1:
            raise InputError(
                "score is outside 0 to 1", file=path, item=item, field="score", value=result.score
            )
        known = result.category_id in class_ids if class_ids else None
        if known is False or not 0 <= result.category_id <= LARGEST_CLASS:
            raise InputError(
                "unknown class",
                file=path,
                item=item,
                field="category_id",
                value=result.category_id,
            )


def _image_names(own: Sequence[ImageId], labels: Labels | None) -> list[str]:
    if labels is None or labels.source_image_ids is None:
        return [str(image_id) for image_id in own]
    names = dict(zip(labels.source_image_ids, labels.table.images.ids, strict=True))
    return [names.get(image_id, str(image_id)) for image_id in own]
