"""COCO results: a list of boxes that know their image by its id in COCO labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from smallobj.boxes import BoxTable, InputError, xywh_to_xyxy, xyxy_to_xywh
from smallobj.formats.challenge import DECIMALS
from smallobj.formats.coco import number_list_fault, wrong_value
from smallobj.formats.faults import Faults
from smallobj.formats.image_ids import id_fault, match_ids, normal_id
from smallobj.formats.json_rows import collector_paused, load_json, read_json_bytes
from smallobj.formats.labels import Labels
from smallobj.formats.raw import ImageId
from smallobj.formats.raw_run import RawRun, RunOutput, RunRequest
from smallobj.formats.values import LARGEST_CLASS, LARGEST_NUMBER, Wrong, number_fault

LOOKED_FOR = "COCO results (a list of image_id, category_id, bbox, score)"
FOLDER = False
NORMALISED = False
NAMES_EMPTY = False


class _Result(msgspec.Struct, gc=False):
    image_id: ImageId
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


_RESULTS = msgspec.json.Decoder(list[_Result])


def find(path: Path) -> bool:
    """Whether a file begins like a JSON list."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(200).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def read(path: Path, request: RunRequest, faults: Faults) -> RawRun:
    """Boxes of `[{"image_id": ..., "category_id": ..., "bbox": [x, y, w, h], "score": ...}, ...]`.

    Image ids are translated into those of the request's labels. Raises InputError at the first
    fault.
    """
    results = _decode_results(path, read_json_bytes(path))
    class_ids = None if request.classes is None else frozenset(request.classes.source_ids)
    _check_results(path, results, class_ids)
    own = list(dict.fromkeys(r.image_id for r in results))
    position = {image_id: i for i, image_id in enumerate(own)}
    boxes = np.array([r.bbox for r in results], np.float64).reshape(-1, 4)
    return RawRun(
        ids=_image_names(path, own, request.labels),
        image_index=np.array([position[r.image_id] for r in results], np.int64),
        xyxy=xywh_to_xyxy(boxes),
        class_id=np.array([r.category_id for r in results], np.int64),
        score=np.array([r.score for r in results], np.float64),
        number=np.arange(len(results)),
    )


def write(table: BoxTable, place: Path, output: RunOutput) -> list[str]:
    """Classes by their source ids, images by their COCO ids; one without boxes leaves no trace."""
    ids = coco_image_ids(table.images.ids, output.labels, output.path)
    place.write_bytes(results_json(table, ids))
    return empty_images_note(table, "COCO results")


def empty_images_note(table: BoxTable, what: str) -> list[str]:
    """How many images without boxes a format that cannot name them has lost."""
    empty = int((np.diff(table.offsets) == 0).sum())
    were = "image without boxes does" if empty == 1 else "images without boxes do"
    return [f"{empty} {were} not stand in {what}"] if empty else []


def results_json(table: BoxTable, image_ids: Sequence[ImageId]) -> bytes:
    """The scored table as COCO results; image_ids [N] are COCO's own.

    Category ids are the classes' source ids. Images without boxes leave no trace.
    """
    assert table.score is not None
    xywh = np.round(xyxy_to_xywh(table.xyxy), DECIMALS).tolist()
    columns = zip(
        table.image_index.tolist(), table.label.tolist(), xywh, table.score.tolist(), strict=True
    )
    results = [
        _Result(image_ids[image], table.classes.source_ids[label], tuple(box), score)
        for image, label, box, score in columns
    ]
    lines = msgspec.json.Encoder().encode_lines(results).removesuffix(b"\n")
    return b"[" + lines.replace(b"\n", b",\n") + b"]\n"


def coco_image_ids(ids: Sequence[str], labels: Labels | None, out: Path) -> tuple[ImageId, ...]:
    """COCO's own id of each image: as the labels say, else the numbers that the ids are.

    Raises InputError where the labels are not COCO's or lack an image, or where there are none and
    an id is no number. out: the file to be written, for messages.
    """
    if labels is None:
        return tuple(_as_number(image_id, out) for image_id in ids)
    if labels.source_image_ids is None:
        reason = f"holds {labels.kind} labels; only COCO labels have image ids"
        raise InputError(reason, file=labels.path)
    index = match_ids(ids, labels.table.images.ids, wanted_file=out, given_file=labels.path)
    missing = np.flatnonzero(index < 0)
    if len(missing):
        reason = f"lacks {len(missing)} of {len(ids)} images: their COCO image ids are not known"
        raise InputError(reason, file=labels.path, item=ids[missing[0]])
    return tuple(labels.source_image_ids[i] for i in index)


def _as_number(image_id: str, out: Path) -> int:
    if image_id.isascii() and image_id.isdecimal() and str(int(image_id)) == image_id:
        return int(image_id)
    reason = "COCO results name images by number: give the COCO labels that have them (--labels)"
    raise InputError(reason, file=out, item=image_id)


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
    except UnicodeEncodeError as error:
        raise InputError("holds what is not Unicode text", file=path, item=item) from error
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
        if max(map(abs, result.bbox)) > LARGEST_NUMBER:
            reason = f"is beyond {LARGEST_NUMBER:g}"
            raise InputError(reason, file=path, item=item, field="bbox", value=list(result.bbox))
        known = result.category_id in class_ids if class_ids else None
        if known is False or not 0 <= result.category_id <= LARGEST_CLASS:
            raise InputError(
                "unknown class",
                file=path,
                item=item,
                field="category_id",
                value=result.category_id,
            )


def _image_names(path: Path, own: Sequence[ImageId], labels: Labels | None) -> list[str]:
    names: dict[ImageId, str] = {}
    if labels is not None and labels.source_image_ids is not None:
        names = dict(zip(labels.source_image_ids, labels.table.images.ids, strict=True))
    ids = [names.get(image_id) or normal_id(str(image_id)) for image_id in own]
    seen: set[str] = set()
    for given, image_id in zip(own, ids, strict=True):
        reason = id_fault(image_id)
        if image_id in seen:
            reason = f"second id of the image {image_id}"
        if reason is not None:
            raise InputError(reason, file=path, field="image_id", value=given)
        seen.add(image_id)
    return ids
