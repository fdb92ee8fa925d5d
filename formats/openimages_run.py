"""Runs as Open Images CSV: a line a box, edges as fractions of the image."""

from pathlib import Path

import numpy as np

from smallobj.boxes import BoxTable, Classes, InputError
from smallobj.formats.coco_results import empty_images_note
from smallobj.formats.faults import Faults
from smallobj.formats.image_ids import natural_key
from smallobj.formats.openimages import Rows, is_normalised, read_header, read_table
from smallobj.formats.raw_run import RawRun, RunOutput, RunRequest
from smallobj.formats.values import LARGEST_CLASS

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
    rows = read_table(path, scored=True)
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
        number=np.arange(2, len(rows.score) + 2),
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


def classes_of(path: Path, rows: Rows, known: Classes | None) -> tuple[np.ndarray, Classes | None]:
    """Class number of each row, and the classes where the file names them (in natural order).

    known: classes that may be called by numbers, such as the value of a coin.
    """
    named = known is not None and set(rows.labels) <= set(known.names)
    if not named and all(map(_is_number, rows.labels)):
        numbers = [int(label) for label in rows.labels]
        largest = max(numbers, default=0)
        if largest > LARGEST_CLASS:
            reason = f"class is outside 0 to {LARGEST_CLASS}"
            raise InputError(reason, file=path, field="LabelName", value=largest)
        return np.array(numbers, np.int64)[rows.label_index], None
    names = sorted(rows.labels, key=natural_key)
    position = {name: i for i, name in enumerate(names)}
    ids = np.array([position[label] for label in rows.labels], np.int64)
    return ids[rows.label_index], Classes.of(names)


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal() and len(label) < 10 and str(int(label)) == label
