"""Runs as a folder of YOLO txt, `class cx cy w h conf` a line, as ultralytics writes them with
`save_txt=True save_conf=True`; an image without boxes has an empty txt, or none.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from smallobj.boxes import Array, BoxTable, InputError, cxcywh_norm_to_xyxy, xyxy_to_cxcywh_norm
from smallobj.formats.faults import Faults
from smallobj.formats.image_ids import id_fault, natural_key, normal_id, without_ending
from smallobj.formats.raw_run import RawRun, RunOutput, RunRequest
from smallobj.formats.values import LARGEST_CLASS, class_fault, parse_number

LOOKED_FOR = "a folder of YOLO txt (class cx cy w h conf)"
FOLDER = True
NORMALISED = True
NAMES_EMPTY = False

FIELDS = ("class", "cx", "cy", "w", "h", "conf")
_LARGEST_FRACTION = 1.5  # beyond it a number is no fraction but, say, pixels


def find(path: Path) -> bool:
    """Whether the first txt with a line in it has six numbers a line: labels have five."""
    if not path.is_dir():
        return False
    for file in _texts(path):
        try:
            with file.open(encoding="utf-8-sig") as stream:
                tokens = stream.readline(1000).split()
        except (OSError, UnicodeDecodeError):
            return False
        if tokens:
            numbers = (parse_number(token)[1] is None for token in tokens)
            return len(tokens) == len(FIELDS) and all(numbers)
    return False


def read(path: Path, request: RunRequest, faults: Faults) -> RawRun:
    """Boxes of every txt below the folder, or below its `labels`, called by its path."""
    root = _root(path)
    files = sorted(_texts(path), key=lambda p: natural_key(p.relative_to(root).as_posix()))
    if not files:
        raise InputError(
            "is a folder without a txt in it; YOLO runs have a txt an image", file=path
        )
    parts = [_tokens(file) for file in files]
    counts = np.array([len(tokens) // len(FIELDS) for tokens, _ in parts], np.int64)
    flat = [token for tokens, _ in parts for token in tokens]
    rows = _numbers(flat)
    if rows is None:
        _refuse(files)
        raise AssertionError("a value that is wrong has a place")
    return RawRun(
        ids=[_image_id(file, root) for file in files],
        image_index=np.repeat(np.arange(len(files)), counts),
        xyxy=cxcywh_norm_to_xyxy(rows[:, 1:5], 1.0, 1.0),
        class_id=rows[:, 0].astype(np.int64),
        score=rows[:, 5],
        number=np.array([n for _, lines in parts for n in lines], np.int64),
        row_field="line {}",
        unit="normalised",
        files=files,
    )


def write(table: BoxTable, place: Path, output: RunOutput) -> list[str]:
    """A txt an image, empty where nothing was found; classes by their source ids.

    Raises InputError where two images differ in their ending alone, or one cannot be a file.
    """
    assert table.score is not None
    names = _file_names(table.images.ids)
    image = table.image_index
    width, height = (c[image].astype(np.float64) for c in (table.images.width, table.images.height))
    boxes = xyxy_to_cxcywh_norm(table.xyxy, width, height).tolist()
    class_id = np.array(table.classes.source_ids, np.int64)[table.label].tolist()
    lines = [
        f"{number} {cx!r} {cy!r} {w!r} {h!r} {score!r}\n"
        for number, (cx, cy, w, h), score in zip(class_id, boxes, table.score.tolist(), strict=True)
    ]
    for parent in {name.parent for name in names}:
        (place / parent).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        with open(f"{place}/{name}", "w", encoding="utf-8", newline="") as stream:
            stream.write("".join(lines[table.rows(i)]))
    return []


def _file_names(ids: Sequence[str]) -> list[PurePosixPath]:
    first: dict[str, str] = {}
    for image_id in ids:
        name = without_ending(image_id)
        if any(part.startswith(".") or not part for part in name.split("/")) or "\0" in name:
            raise InputError("image cannot have a txt of its own: no name of a file", item=image_id)
        if name in first:
            reason = f"differs from {first[name]} only in its ending: one txt for both"
            raise InputError(reason, item=image_id)
        first[name] = image_id
    return [PurePosixPath(name + ".txt") for name in first]


def _root(path: Path) -> Path:
    """Where image ids begin: ultralytics puts the txt files into `labels`."""
    inner = path / "labels"
    return inner if inner.is_dir() and not any(path.glob("*.txt")) else path


def _texts(path: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(_root(path)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(".txt") and not name.startswith("."):
                yield Path(parent, name)


def _image_id(file: Path, root: Path) -> str:
    image_id = normal_id(file.relative_to(root).as_posix()[: -len(".txt")])
    reason = id_fault(image_id)
    if reason is not None:
        raise InputError(reason, file=file)
    return image_id


def _tokens(file: Path) -> tuple[list[str], list[int]]:
    """All values of a file, six a line, and the line of each box."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", file=file) from error
    tokens: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        values = line.split()
        if not values:
            continue
        if len(values) != len(FIELDS):
            raise _wrong_number(file, number, values)
        tokens += values
        numbers.append(number)
    return tokens, numbers


def _wrong_number(file: Path, number: int, values: list[str]) -> InputError:
    reason = f"a line of a run has 6 values ({', '.join(FIELDS)})"
    if len(values) == len(FIELDS) - 1:
        reason += "; five are labels, or predictions saved without save_conf"
    got = f"{len(values)} values: {' '.join(values[:8])}"
    return InputError(reason, file=file, field=f"line {number}", value=got)


def _numbers(tokens: list[str]) -> Array | None:
    """The values as rows [M, 6]; None where one of them is wrong."""
    try:
        rows = np.array(list(map(float, tokens)), np.float64).reshape(-1, len(FIELDS))
    except ValueError:
        return None
    boxes, score, number = rows[:, 1:5], rows[:, 5], rows[:, 0]
    right = (
        (np.abs(boxes) <= _LARGEST_FRACTION).all()  # NaN is not
        and ((score >= 0) & (score <= 1)).all()
        and ((number >= 0) & (number <= LARGEST_CLASS)).all()
        and (number == np.floor(number)).all()
        and not any("_" in token for token in tokens)
    )
    return rows if right else None


def _refuse(files: list[Path]) -> None:
    """Raise InputError at the first value that is wrong."""
    for file in files:
        tokens, numbers = _tokens(file)
        for i, token in enumerate(tokens):
            field = FIELDS[i % len(FIELDS)]
            reason = _fault(token, field)
            if reason is not None:
                where = f"line {numbers[i // len(FIELDS)]} {field}"
                raise InputError(reason, file=file, field=where, value=token)


def _fault(token: str, field: str) -> str | None:
    value, reason = parse_number(token)
    if reason is not None:
        return reason
    if field == "class":
        return class_fault(value, None)
    if field == "conf":
        return None if 0 <= value <= 1 else "score is outside 0 to 1"
    return None if abs(value) <= _LARGEST_FRACTION else "is no fraction of the image (pixels?)"
