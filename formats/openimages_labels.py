"""Labels as Open Images CSV: a line a box, edges as fractions of the image.

Columns are found by name; a column of confidences is not looked at.
"""

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Classes, InputError, write_bytes, write_text
from smallobj.formats.challenge import labels_of, numbered_classes
from smallobj.formats.class_names import names_text, read_names
from smallobj.formats.faults import Faults
from smallobj.formats.image_files import Located, locate_images, upright_size
from smallobj.formats.image_ids import natural_key
from smallobj.formats.openimages import (
    Rows,
    classes_of,
    is_normalised,
    read_header,
    read_table,
)
from smallobj.formats.output import Output
from smallobj.formats.raw import RawLabels, Request

LOOKED_FOR = "Open Images CSV (ImageID,LabelName,XMin,XMax,YMin,YMax)"


def find(data: Path, request: Request) -> list[Path]:
    """CSV files whose first line names an image, a class and four edges."""
    files = [data] if data.is_file() else sorted(data.glob("*.csv"))
    headers = [(file, read_header(file)) for file in files]
    found = [file for file, header in headers if header is not None and header.has_boxes]
    if request.split is None or data.is_file():
        return found
    return [file for file in found if request.split in file.stem.replace("-", "_").split("_")]


def read(place: Path, request: Request, faults: Faults) -> RawLabels:
    """Labels of one file; a line that holds an image alone is an image without boxes.

    Fractions become pixels by the sizes that the image headers say.
    """
    rows = read_table(place, faults, scored=False)
    if not rows.ids:
        raise InputError("holds no images", file=place)
    class_id, classes = _classes(place, rows, request)
    usual = ["images", "data", place.stem, "train", "validation", "test"]
    located = locate_images(rows.ids, images=request.images, labels=place, usual=usual)
    fractions = is_normalised(place, rows.xyxy)
    sizes = np.zeros((len(rows.ids), 2), np.int32)
    if fractions:
        sizes = _sizes(place, rows, located, faults)
    sized = sizes[rows.image_index].astype(np.float64)
    scale = np.concatenate([sized, sized], axis=1) if fractions else 1.0
    keep = (sized > 0).all(axis=1) if fractions else np.ones(len(rows.xyxy), bool)
    order = sorted(range(len(rows.ids)), key=lambda i: natural_key(rows.ids[i]))
    return RawLabels(
        ids=tuple(rows.ids),
        sizes=sizes,
        root=located.root,
        images_clash=located.clash,
        paths=located.paths,
        files=(place,) * len(rows.ids),
        classes=classes,
        image_index=rows.image_index[keep],
        xyxy=(rows.xyxy * scale)[keep],
        label=labels_of(class_id, classes)[keep],
        given=rows.xyxy[keep],
        number=rows.number[keep],
        row_field="line {}",
        unlabelled=located.others,
        read_headers=fractions,
    ).take_images(order)


def write(table: BoxTable, out: Path, output: Output) -> list[str]:
    """Write the file `out`, and the class names beside it as `out` with the ending `.names`.

    Raises InputError where the size of an image with boxes is unknown.
    """
    images = table.images
    unknown = ((images.width == 0) | (images.height == 0)) & (np.diff(table.offsets) > 0)
    if unknown.any():
        reason = "size of the image is unknown, which Open Images needs; name the image folder"
        raise InputError(reason, item=images.ids[int(np.argmax(unknown))])
    size = np.stack([images.width, images.height], axis=1)[table.image_index].astype(np.float64)
    edges = (table.xyxy / np.concatenate([size, size], axis=1))[:, [0, 2, 1, 3]].tolist()
    names = names_text(table.classes)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"])
    for image, image_id in enumerate(images.ids):
        rows = table.rows(image)
        for label, box in zip(table.label[rows].tolist(), edges[rows], strict=True):
            writer.writerow([image_id, table.classes.names[label], *box])
        if rows.start == rows.stop:
            writer.writerow([image_id, "", "", "", "", ""])
    write_bytes(out, stream.getvalue().encode())
    names_file = out.with_suffix(".names")
    write_text(names_file, names)
    return [f"class names are in {names_file}"]


def _classes(place: Path, rows: Rows, request: Request) -> tuple[NDArray[np.int64], Classes]:
    """Class id of each box, and the classes: those given or beside the file, else its own."""
    beside = place.with_suffix(".names")
    file = request.names or (beside if beside.is_file() else None)
    known = None if file is None else read_names(file)
    class_id, own = classes_of(place, rows, known)
    if known is None:
        return class_id, own or numbered_classes(class_id)
    ids = dict(zip(known.names, known.source_ids, strict=True))
    if own is None:
        ids = {str(number): number for number in known.source_ids}
    unknown = [label for label in rows.labels if label not in ids]
    if unknown:
        row = int(np.argmax(rows.label_index == rows.labels.index(unknown[0])))
        raise InputError(
            f"unknown class; known are {', '.join(known.names[:20])}",
            file=place,
            item=rows.ids[int(rows.image_index[row])],
            field=f"line {rows.number[row]} LabelName",
            value=unknown[0],
        )
    each = np.array([ids[label] for label in rows.labels], np.int64)
    return each[rows.label_index], known


def _sizes(place: Path, rows: Rows, located: Located, faults: Faults) -> NDArray[np.int32]:
    """Width and height of every image [N, 2] from the headers; 0 where one has no boxes."""
    sizes = np.zeros((len(rows.ids), 2), np.int32)
    with_boxes = set(rows.image_index.tolist())
    for i, path in enumerate(located.paths):
        if path is None and i in with_boxes:
            reason = "image is missing, and the boxes are fractions of it; name the image folder"
            faults.add("missing image", reason, file=place, item=rows.ids[i])
        elif path is not None:
            try:
                sizes[i] = upright_size(path)
            except InputError as error:
                faults.add("unreadable image", error.reason, file=path, item=rows.ids[i])
    return sizes
