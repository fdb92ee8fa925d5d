"""YOLO: a txt an image with `class cx cy w h` as fractions of the image, and `data.yaml`.

Layouts: `images/` beside `labels/`; a txt beside each image; the folders `data.yaml` names.
"""

import math
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from numpy.typing import NDArray

from smallobj.boxes import (
    BoxTable,
    Classes,
    InputError,
    cxcywh_norm_to_xyxy,
    xyxy_to_cxcywh_norm,
)
from smallobj.formats.challenge import labels_of, numbered_classes
from smallobj.formats.class_names import find_names, read_names, read_yaml, yaml_classes
from smallobj.formats.faults import Faults
from smallobj.formats.image_files import upright_size
from smallobj.formats.output import (
    Output,
    put_images,
    require_one_stem_each,
    whole_folder,
    write_into,
)
from smallobj.formats.raw import RawLabels, Request, RowList
from smallobj.formats.values import Wrong, class_fault, parse_number
from smallobj.formats.yolo_layout import (
    SPLITS,
    ImageFile,
    beside_images,
    data_yamls,
    find_images,
    orphans,
)

LOOKED_FOR = "YOLO (data.yaml, labels/*.txt, a txt beside an image)"
FIELDS = ("class", "cx", "cy", "w", "h")
_LARGEST_FRACTION = 1.5  # beyond it a number is no fraction but, say, pixels


def find(data: Path, request: Request) -> list[Path]:
    """`data.yaml` files, else the folder itself where txt files lie as labels do."""
    if data.is_file():
        return [data] if data.suffix.lower() in {".yaml", ".yml"} else []
    return data_yamls(data) or ([data] if beside_images(data, request.images) else [])


def read(place: Path, request: Request, faults: Faults) -> RawLabels:
    """Labels of a folder or a `data.yaml`; an image without a txt has no boxes."""
    root, files = find_images(place, request, faults)
    labelled = [f for f in files if f.labels is not None]
    if not labelled:
        raise InputError(
            f"no label file for any of its {len(files)} images; looked for a txt in labels/ and"
            " beside the image",
            file=place,
        )
    for orphan in orphans(labelled, root):
        faults.add("missing image", "no image for these labels", file=orphan)
    classes = _classes(place, root, labelled, request)
    sizes = _sizes(files, faults)
    rows = RowList()
    class_ids = None if classes is None else set(classes.source_ids)
    for image, file in enumerate(files):
        if file.labels is not None:
            kept = rows if sizes[image].all() else RowList()  # without a size there are no pixels
            _read_labels(kept, image, file, class_ids, faults)
    columns = rows.columns()
    class_id = columns.pop("label").astype(np.int64)
    classes = classes or numbered_classes(class_id)
    width, height = sizes[columns["image_index"]].T.astype(np.float64)
    return RawLabels(
        ids=tuple(f.image_id for f in files),
        sizes=sizes,
        root=root,
        paths=tuple(f.path for f in files),
        files=tuple(f.labels or f.path.with_suffix(".txt") for f in files),
        classes=classes,
        xyxy=cxcywh_norm_to_xyxy(columns["given"], width, height),
        label=labels_of(class_id, classes),
        row_field="line {}",
        read_headers=True,
        without_file=tuple(f.image_id for f in files if f.labels is None),
        **columns,
    )


def write(table: BoxTable, out: Path, output: Output) -> list[str]:
    """Write the folder `out`: `data.yaml`, `labels/`, images linked or copied into `images/`.

    Classes are numbered from 0 in their order. Raises InputError where an image's size is unknown.
    """
    unknown = np.flatnonzero((table.images.width == 0) | (table.images.height == 0))
    if len(unknown):
        reason = "size of the image is unknown, which YOLO needs; name the image folder"
        raise InputError(reason, item=table.images.ids[unknown[0]])
    require_one_stem_each(table.images.ids)
    rows = table.image_index
    size = (column[rows].astype(np.float64) for column in (table.images.width, table.images.height))
    fractions = xyxy_to_cxcywh_norm(table.xyxy, *size).tolist()
    lines = [
        f"{label} {' '.join(map(repr, box))}\n"
        for label, box in zip(table.label.tolist(), fractions, strict=True)
    ]
    with whole_folder(out) as folder:
        for image, image_id in enumerate(table.images.ids):
            name = PurePosixPath("labels", image_id).with_suffix(".txt")
            write_into(folder, name, "".join(lines[table.rows(image)]))
        write_into(folder, "data.yaml", _data_yaml(table))
        return put_images(table.images.ids, folder / "images", output)


def _classes(
    place: Path, root: Path, labelled: Sequence[ImageFile], request: Request
) -> Classes | None:
    if request.names is not None:
        return read_names(request.names)
    if place.is_file():
        return yaml_classes(place, read_yaml(place))
    folders = [p for f in labelled[:1] if f.labels is not None for p in f.labels.parents[:2]]
    return find_names(place, *(p for p in (root, *folders) if p.is_relative_to(place)))


def _sizes(files: Sequence[ImageFile], faults: Faults) -> NDArray[np.int32]:
    sizes = np.zeros((len(files), 2), np.int32)
    for i, file in enumerate(files):
        try:
            sizes[i] = upright_size(file.path)
        except InputError as error:
            faults.add("unreadable image", error.reason, file=file.path, item=file.image_id)
    return sizes


def _read_labels(
    rows: RowList, image: int, file: ImageFile, class_ids: Collection[int] | None, faults: Faults
) -> None:
    assert file.labels is not None
    try:
        text = file.labels.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        faults.add("unreadable labels", f"cannot be read: {error}", file=file.labels)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        tokens = line.split()
        if not tokens:
            continue
        values, fault = _parse(tokens, class_ids)
        if fault is None:
            rows.add(image, int(values[0]), values[1:], number)
            continue
        kind, field, reason, value = fault
        place = f"line {number} {field}".rstrip()
        faults.add(kind, reason, file=file.labels, item=file.image_id, field=place, value=value)


def _parse(
    tokens: list[str], class_ids: Collection[int] | None
) -> tuple[list[float], Wrong | None]:
    if len(tokens) != len(FIELDS):
        expected = f"a line has 5 values ({', '.join(FIELDS)})"
        got = f"{len(tokens)} values: {' '.join(tokens[:8])}"
        return [], Wrong("number of values", "", expected, got)
    values: list[float] = []
    for name, token in zip(FIELDS, tokens, strict=True):
        value, reason = parse_number(token)
        kind = "not a number"
        if reason is None and name == "class":
            kind, reason = "unknown class", class_fault(value, class_ids)
        elif reason is None and math.fabs(value) > _LARGEST_FRACTION:
            kind, reason = "not a fraction", "is not a fraction of the image (pixels?)"
        if reason is not None:
            return [], Wrong(kind, name, reason, token)
        values.append(value)
    return values, None


def _data_yaml(table: BoxTable) -> str:
    tops = {image_id.split("/", 1)[0] if "/" in image_id else "" for image_id in table.images.ids}
    parts = [split for split in SPLITS if split in tops]
    folders = {s: f"images/{s}" for s in parts} if tops <= set(SPLITS) else {"train": "images"}
    content = {"path": ".", **folders, "names": dict(enumerate(table.classes.names))}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
