"""Open Images CSV: which column is which, told by the header; the rows, checked as columns.

https://storage.googleapis.com/openimages/web/evaluation.html and the same form with other
names, as contests use it: `ImageID,LabelName,Conf,XMin,XMax,YMin,YMax`.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, Classes, InputError
from smallobj.formats.faults import Faults
from smallobj.formats.image_ids import id_fault, natural_key, normal_id
from smallobj.formats.json_rows import read_json_bytes
from smallobj.formats.values import LARGEST_CLASS, LARGEST_NUMBER, parse_number

BOX_FIELDS = ("xmin", "xmax", "ymin", "ymax")
LARGEST_FRACTION = 1.5  # a detector may reach a little over the border; pixels lie far beyond

_NAMES = {  # of each field, in lower case and without signs between words
    "image": ("imageid", "image", "imagename", "filename", "file", "imagepath", "path"),
    "label": ("labelname", "label", "class", "classname", "category", "classid", "categoryid"),
    "score": ("conf", "confidence", "score"),
    "xmin": ("xmin", "x1", "left"),
    "xmax": ("xmax", "x2", "right"),
    "ymin": ("ymin", "y1", "top"),
    "ymax": ("ymax", "y2", "bottom"),
}
_ONLY_LABELS_HAVE = {"isgroupof", "isoccluded", "istruncated", "isdepiction", "isinside"}
_DELIMITERS = (",", ";", "\t")
_LINE_END = re.compile(rb"[\r\n]")
_LONGEST_LINE = 10_000  # bytes of a header


class Header(NamedTuple):
    """The first line of a file."""

    names: list[str]
    delimiter: str
    columns: dict[str, list[int]]  # where the columns of each field stand; most often one

    @property
    def has_boxes(self) -> bool:
        """Whether images, classes and four edges are named."""
        return all(self.columns[field] for field in ("image", "label", *BOX_FIELDS))

    @property
    def of_run(self) -> bool:
        """Whether boxes have scores, and no field that only true boxes have."""
        return (
            self.has_boxes
            and bool(self.columns["score"])
            and not _ONLY_LABELS_HAVE & set(map(_plain, self.names))
        )


class _File(NamedTuple):
    """A file that is read: its header, and where each field stands."""

    path: Path
    header: Header
    at: dict[str, int]

    def cell(self, line: int, field: str) -> str:
        """How messages call a value."""
        return f"line {line} {self.header.names[self.at[field]]}"


class Rows(NamedTuple):
    """The rows of a file as columns; M rows, N images, C labels."""

    ids: list[str]  # [N] in normal form, in the order of the file
    image_index: NDArray[np.int64]  # [M]
    labels: list[str]  # [C] as they are written, in the order of the file
    label_index: NDArray[np.int64]  # [M]
    number: NDArray[np.int64]  # [M] line of the file, from 1
    xyxy: Array  # [M, 4]
    score: Array | None  # [M]; None where the file has no such column


def read_header(path: Path) -> Header | None:
    """The header of a file; None where its first line is no text."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        start = stream.readline(_LONGEST_LINE)
    try:
        return parse_header(_LINE_END.split(start, maxsplit=1)[0].decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None


def parse_header(line: str) -> Header:
    """Fields by their names, whatever the order; the delimiter is the one that finds most."""
    headers = [_header(line, delimiter) for delimiter in _DELIMITERS]
    return max(headers, key=lambda header: sum(map(bool, header.columns.values())))


def read_table(path: Path, faults: Faults, *, scored: bool) -> Rows:
    """All rows; scored: a column of scores has to be there, and every line is a box.

    Without scores a line that holds an image alone is an image without boxes. A line of another
    length, what is no finite number and a score outside 0 to 1 are reported with line, field and
    value, and left out. Raises InputError where a column is missing or the file is no text.
    """
    content = read_json_bytes(path)
    try:
        header = parse_header(_LINE_END.split(content, maxsplit=1)[0].decode())
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", file=path, field="line 1") from error
    at = _columns(path, header, scored=scored)
    columns = _fast_columns(content, header, at)
    if columns is None:
        columns = _walk(_File(path, header, at), content, faults, bare=not scored)
    images, image_index, labels, label_index, lines, numbers = columns
    ids, image_index = _normal_ids(path, images, image_index)
    score = numbers[4] if scored or "score" in at else None
    xyxy = numbers[[0, 2, 1, 3]].T.copy()
    return Rows(ids, image_index, labels, label_index, lines, xyxy, score)


def is_normalised(path: Path, xyxy: Array) -> bool:
    """Whether boxes [M, 4] are fractions of their images, told by all of them.

    Raises InputError where some are like fractions and some like pixels.
    """
    beyond = int((np.abs(xyxy).max(axis=1, initial=0) > LARGEST_FRACTION).sum())
    if not beyond or 2 * beyond > len(xyxy):
        return not beyond
    reason = (
        f"{beyond} of {len(xyxy)} boxes reach beyond {LARGEST_FRACTION}, the others lie within:"
        " pixels or fractions of the image? Say which (--unit)"
    )
    raise InputError(reason, file=path)


def classes_of(
    path: Path, rows: Rows, known: Classes | None
) -> tuple[NDArray[np.int64], Classes | None]:
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


def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _header(text: str, delimiter: str) -> Header:
    try:
        names = next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        names = []
    plain = [_plain(name) for name in names]
    columns = {
        field: [i for i, name in enumerate(plain) if name in known]
        for field, known in _NAMES.items()
    }
    return Header(names, delimiter, columns)


def _columns(path: Path, header: Header, *, scored: bool) -> dict[str, int]:
    """Where each field stands; raises InputError where it is missing or stands twice."""
    wanted = [field for field in _NAMES if field != "score" or scored or header.columns["score"]]
    for field in wanted:
        if len(header.columns[field]) == 1:
            continue
        names = [header.names[i] for i in header.columns[field]]
        if names:
            reason = f"two columns mean the same: {', '.join(names)}"
        else:
            reason = f"no column {_SPELLED[field]}; looked for Open Images' {_LINE}"
            if field == "score" and header.has_boxes:
                reason = "no column Conf: labels, no predictions?"
        raise InputError(reason, file=path, field="line 1", value=",".join(header.names))
    return {field: header.columns[field][0] for field in wanted}


_SPELLED = {
    "image": "ImageID",
    "label": "LabelName",
    "score": "Conf",
    "xmin": "XMin",
    "xmax": "XMax",
    "ymin": "YMin",
    "ymax": "YMax",
}
_LINE = "ImageID,LabelName,Conf,XMin,XMax,YMin,YMax"

_Columns = tuple[
    list[str], NDArray[np.int64], list[str], NDArray[np.int64], NDArray[np.int64], Array
]


def _fast_columns(content: bytes, header: Header, at: dict[str, int]) -> _Columns | None:
    """The columns by Arrow; None where it stumbles or a value is wrong, to be told exactly."""
    import pyarrow as pa  # noqa: PLC0415 - a command that reads no CSV does without
    from pyarrow import csv as arrow_csv  # noqa: PLC0415

    names = [str(i) for i in range(len(header.names))]
    numbers = [str(at[field]) for field in (*BOX_FIELDS, "score") if field in at]
    texts = [str(at["image"]), str(at["label"])]
    types = dict.fromkeys(texts, pa.dictionary(pa.int32(), pa.string()))
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=1),
            parse_options=arrow_csv.ParseOptions(delimiter=header.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                column_types={**types, **dict.fromkeys(numbers, pa.float64())},
                include_columns=[*texts, *numbers],
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, ValueError):
        return None
    values = np.stack([table[name].to_numpy() for name in numbers])
    within = np.abs(values[:4]) <= LARGEST_NUMBER  # NaN is not
    if not within.all() or not ((values[4:] >= 0) & (values[4:] <= 1)).all():
        return None
    images, labels = (table[name].unify_dictionaries().combine_chunks() for name in texts)
    one_line_each = len(table) == content.rstrip(b"\r\n").count(b"\n")
    if len(table) == 0 or not one_line_each or "" in labels.dictionary.to_pylist():
        return None
    return (*_coded(images), *_coded(labels), np.arange(2, len(table) + 2), values)


def _coded(column: Any) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts of an Arrow dictionary column, and which stands in each row."""
    return column.dictionary.to_pylist(), np.asarray(column.indices, np.int64)


def _walk(file: _File, content: bytes, faults: Faults, *, bare: bool) -> _Columns:
    """The columns line by line; bare: a line may hold an image alone."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError("is not UTF-8 text", file=file.path, field=f"line {line}") from error
    images: dict[str, int] = {}
    labels: dict[str, int] = {}
    coded: list[tuple[int, int, int]] = []
    numbers: list[list[float]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=file.header.delimiter)
    fields = [field for field in (*BOX_FIELDS, "score") if field in file.at]
    try:
        next(reader)
        for row in reader:
            if not row or row == [""]:
                continue
            try:
                if bare and len(row) == len(file.header.names) and _alone(row, file.at["image"]):
                    images.setdefault(row[file.at["image"]], len(images))
                    continue
                image, label = _texts(file, reader.line_num, row)
                values = [_number(file, reader.line_num, row, field) for field in fields]
            except InputError as error:
                faults.add(
                    "wrong value",
                    error.reason,
                    file=error.file,
                    item=error.item,
                    field=error.field,
                    value=error.value,
                )
                continue
            images.setdefault(image, len(images))
            labels.setdefault(label, len(labels))
            coded.append((images[image], labels[label], reader.line_num))
            numbers.append(values)
    except csv.Error as error:
        where = f"line {reader.line_num}"
        raise InputError(f"is not CSV: {error}", file=file.path, field=where) from error
    index = np.array(coded, np.int64).reshape(-1, 3)
    columns = np.array(numbers, np.float64).reshape(-1, len(fields)).T
    return list(images), index[:, 0], list(labels), index[:, 1], index[:, 2], columns


def _alone(row: Sequence[str], image: int) -> bool:
    """Whether nothing but the image stands in a line."""
    return not any(cell.strip() for i, cell in enumerate(row) if i != image)


def _texts(file: _File, line: int, row: Sequence[str]) -> tuple[str, str]:
    """Image and class of a line; raises InputError where its length differs or one is empty."""
    names = file.header.names
    if len(row) != len(names):
        got = f"{len(row)} values: {file.header.delimiter.join(row)}"
        expected = f"a line has {len(names)} values, like the header"
        raise InputError(expected, file=file.path, field=f"line {line}", value=got)
    image, label = row[file.at["image"]], row[file.at["label"]]
    if not label:
        where = file.cell(line, "label")
        raise InputError("value is missing", file=file.path, item=image, field=where)
    return image, label


def _number(file: _File, line: int, row: Sequence[str], field: str) -> float:
    text = row[file.at[field]].strip()
    value, reason = parse_number(text)
    if reason is None and field == "score" and not 0 <= value <= 1:
        reason = "score is outside 0 to 1"
    if reason is None:
        return value
    image = row[file.at["image"]]
    raise InputError(reason, file=file.path, item=image, field=file.cell(line, field), value=text)


def _normal_ids(
    path: Path, images: list[str], index: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """The images in normal form, in which two ways to write one become the same."""
    position: dict[str, int] = {}
    to_normal = np.zeros(max(len(images), 1), np.int64)
    for i, given in enumerate(images):
        image_id = normal_id(given)
        reason = id_fault(image_id)
        if reason is not None:
            raise InputError(reason, file=path, field="ImageID", value=given)
        to_normal[i] = position.setdefault(image_id, len(position))
    return list(position), to_normal[index]


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal() and len(label) < 10 and str(int(label)) == label
