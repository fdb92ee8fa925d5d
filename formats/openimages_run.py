"""Runs as Open Images CSV: a line a box, edges as fractions of the image."""

from pathlib import Path

import numpy as np

from smallobj.boxes import BoxTable
from smallobj.formats.coco_results import empty_images_note
from smallobj.formats.faults import Faults
from smallobj.formats.openimages import classes_of, is_normalised, read_header, read_table
from smallobj.formats.raw_run import RawRun, RunOutput, RunRequest

LOOKED_FOR = "Open Images CSV (ImageID,LabelName,Conf,XMin,XMax,YMin,YMax)"
FOLDER = False
NORMALISED = True
NAMES_EMPTY = False

_SPECIAL = set(',"\r\n')  # a text with one of them stands in quotation marks


def find(path: Path) -> bool:
    """Whether the first line of a file names these columns, the score among them."""
    header = read_header(path)
    return header is not None and header.of_run


def read(path: Path, request: RunRequest, faults: Faults) -> RawRun:
    """Boxes of all lines; labels that are all whole numbers are class numbers, else names.

    Fractions and pixels are told apart by all boxes, unless the request says the unit.
    """
    rows = read_table(path, faults, scored=True)
    if request.unit is None:
        normalised = is_normalised(path, rows.xyxy)
    else:
        normalised = request.unit == "normalised"
    assert rows.score is not None
    class_id, classes = classes_of(path, rows, request.classes)
    return RawRun(
        ids=rows.ids,
        image_index=rows.image_index,
        xyxy=rows.xyxy,
        class_id=class_id,
        score=rows.score,
        number=rows.number,
        row_field="line {}",
        unit="normalised" if normalised else "pixel",
        classes=classes,
        numbered=classes is None,
    )


def write(table: BoxTable, place: Path, output: RunOutput) -> list[str]:
    """Classes by name, edges as fractions with all digits; sizes of the images are known."""
    import pyarrow as pa  # noqa: PLC0415 - a command that writes no CSV does without
    from pyarrow import csv  # noqa: PLC0415

    image = table.image_index
    width, height = (c[image].astype(np.float64) for c in (table.images.width, table.images.height))
    ids, names = (pa.array(one, pa.string()) for one in (table.images.ids, table.classes.names))
    columns = {
        "ImageID": ids.take(pa.array(image)),
        "LabelName": names.take(pa.array(table.label)),
        "Conf": table.score,
        "XMin": table.xyxy[:, 0] / width,
        "XMax": table.xyxy[:, 2] / width,
        "YMin": table.xyxy[:, 1] / height,
        "YMax": table.xyxy[:, 3] / height,
    }
    plain = not any(_SPECIAL & set(text) for text in (*table.images.ids, *table.classes.names))
    style = csv.WriteOptions(include_header=False, quoting_style="none" if plain else "needed")
    with place.open("wb") as stream:
        stream.write((",".join(columns) + "\n").encode())
        csv.write_csv(pa.table(columns), stream, style)
    return empty_images_note(table, "Open Images CSV")
