"""The challenge's JSON: `{"a.jpg": [[class, x, y, w, h], ...], ...}`, pixels from the top left."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from smallobj.boxes import (
    BoxTable,
    Classes,
    InputError,
    write_bytes,
    write_text,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from smallobj.formats.class_names import find_names, names_text, read_names
from smallobj.formats.faults import Faults
from smallobj.formats.image_files import locate_images
from smallobj.formats.image_ids import natural_key
from smallobj.formats.json_rows import LABEL_FIELDS, RUN_FIELDS, read_json_bytes, read_rows
from smallobj.formats.output import Output
from smallobj.formats.raw import RawLabels, Request

LOOKED_FOR = "challenge JSON (*_label, *.json)"
DECIMALS = 9  # of written pixels: 0.1 + 0.2 - 0.1 is written as 0.2 again

_FIRST_VALUE = re.compile(rb'\s*\{\s*(?:\}|"(?:[^"\\]|\\.)*"\s*:\s*\[\s*[\[\]])')
_FIRST_ROW = re.compile(rb"\[\s*\[([^\]]*)\]")
_COCO_KEYS = (b'{"images"', b'{"annotations"', b'{"categories"', b'{"licenses"')


def find(data: Path, request: Request) -> list[Path]:
    """Label files of this kind: the file itself, or files in a folder, one below it included."""
    if data.is_file():
        return [data] if is_challenge(data) else []
    patterns = ("*.json", "*label", "*labels", "*/*.json", "*/*label", "*/*labels")
    files = {p for pattern in patterns for p in data.glob(pattern) if p.is_file()}
    found = [p for p in sorted(files, key=str) if not p.name.startswith(".") and is_challenge(p)]
    return [p for p in found if request.split in (None, *_split_names(p, data))]


def is_challenge(path: Path) -> bool:
    """Whether a file begins like this format, and not like a run, whose rows have six values."""
    with path.open("rb") as stream:
        start = stream.read(4096).removeprefix(b"\xef\xbb\xbf")
    return _begins_right(start) and _first_row_length(start) != len(RUN_FIELDS)


def is_challenge_run(content: bytes) -> bool:
    """Whether a file is in this form and its first box has a sixth value, the score."""
    return _begins_right(content) and _first_row_length(content) == len(RUN_FIELDS)


def read(place: Path, request: Request, faults: Faults) -> RawLabels:
    """Labels of one file; classes are named by a names file, else by their ids."""
    content = read_json_bytes(place)
    known = read_names(request.names) if request.names else _names_beside(place)
    class_ids = None if known is None else set(known.source_ids)
    rows = read_rows(place, content, LABEL_FIELDS, class_ids, faults)
    if not rows.ids:
        raise InputError("holds no images", file=place)
    class_id = rows.rows[:, 0].astype(np.int64)
    classes = known or numbered_classes(class_id)
    order = sorted(range(len(rows.ids)), key=lambda i: natural_key(rows.ids[i]))
    located = locate_images(
        rows.ids, images=request.images, labels=place, usual=_image_folders(place)
    )
    return RawLabels(
        ids=tuple(rows.ids),
        sizes=np.zeros((len(rows.ids), 2), np.int32),
        root=located.root,
        images_clash=located.clash,
        paths=located.paths,
        files=(place,) * len(rows.ids),
        classes=classes,
        image_index=rows.image_index,
        xyxy=xywh_to_xyxy(rows.rows[:, 1:]),
        label=labels_of(class_id, classes),
        given=rows.rows[:, 1:],
        number=rows.number,
        row_field="box {}",
        unlabelled=located.others,
    ).take_images(order)


def write(table: BoxTable, out: Path, output: Output) -> list[str]:
    """Write the file `out`, and the class names beside it as `out` with the ending `.names`."""
    names = names_text(table.classes)
    names_file = out.with_suffix(".names")
    write_bytes(out, challenge_json(table))
    write_text(names_file, names)
    return [f"class names are in {names_file}"]


def challenge_json(table: BoxTable) -> bytes:
    """The table in the challenge's form, with a sixth value where it has scores.

    Classes are written by the id their source used, an image without boxes as an empty list.
    """
    source_ids = np.array(table.classes.source_ids, np.int64)
    xywh = np.round(xyxy_to_xywh(table.xyxy), DECIMALS)
    columns: list[list[Any]] = [source_ids[table.label].tolist(), *xywh.T.tolist()]
    if table.score is not None:
        columns.append(table.score.tolist())
    rows = list(zip(*columns, strict=True))
    bounds = table.offsets.tolist()
    encode = msgspec.json.Encoder().encode
    lines = [
        encode(image_id) + b":" + encode(rows[bounds[i] : bounds[i + 1]])
        for i, image_id in enumerate(table.images.ids)
    ]
    return b"{" + b",\n".join(lines) + b"}"


def numbered_classes(class_id: np.ndarray) -> Classes:
    """Classes named by their ids, 0 to the largest in use."""
    count = int(class_id.max()) + 1 if len(class_id) else 1
    return Classes.of([str(i) for i in range(count)])


def labels_of(class_id: np.ndarray, classes: Classes) -> np.ndarray:
    """Position in `classes` of each source id [M], all of which are known."""
    source_ids = np.array(classes.source_ids, np.int64)
    order = np.argsort(source_ids)
    return order[np.searchsorted(source_ids[order], class_id)].astype(np.int32)


def _begins_right(start: bytes) -> bool:
    compact = b"".join(start[:200].split())
    return bool(_FIRST_VALUE.match(start)) and not compact.startswith(_COCO_KEYS)


def _first_row_length(content: bytes) -> int:
    """How many values the first box has, 0 where none is found."""
    row = _FIRST_ROW.search(content)
    return 0 if row is None else row[1].count(b",") + 1


def _names_beside(place: Path) -> Classes | None:
    own = place.with_suffix(".names")
    if own != place and own.is_file():
        return read_names(own)
    of_split = place.stem.startswith(place.parent.name)  # train/train_label: names may lie above
    return find_names(place.parent, *([place.parent.parent] if of_split else []))


def _split_names(place: Path, data: Path) -> list[str]:
    folders = place.relative_to(data).parts[:-1]
    return [*folders, *re.split(r"[^0-9A-Za-z]+", place.stem)]


def _image_folders(place: Path) -> list[str]:
    """What the image folder is called: `train_data` beside `train_label`."""
    base = re.sub(r"[_-]?labels?$", "", place.stem)
    own = [f"{base}_data", f"{base}_images", base] if base else []
    return [*own, "data", "images"]
