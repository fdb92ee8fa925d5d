"""The challenge's answer: `{"a.jpg": [[class, x, y, w, h, score], ...], ...}`, in pixels."""

from pathlib import Path

import numpy as np

from smallobj.boxes import BoxTable, InputError, xywh_to_xyxy
from smallobj.formats.challenge import challenge_json, is_challenge_run
from smallobj.formats.faults import Faults
from smallobj.formats.json_rows import RUN_FIELDS, read_json_bytes, read_rows
from smallobj.formats.raw_run import RawRun, RunOutput, RunRequest

LOOKED_FOR = "challenge JSON (class, x, y, w, h, score)"
FOLDER = False
NORMALISED = False
NAMES_EMPTY = True

_START = 1_000_000  # bytes: as a rule the first box stands there


def find(path: Path) -> bool:
    """Whether a file is in this form and its first box has a score."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(_START).removeprefix(b"\xef\xbb\xbf")
        if not start.lstrip().startswith(b"{"):
            return False
        return is_challenge_run(start) or (
            len(start) >= _START - 3 and is_challenge_run(start + stream.read())
        )


def read(path: Path, request: RunRequest, faults: Faults) -> RawRun:
    """Every image of the file, in its order; one without boxes has an empty list."""
    content = read_json_bytes(path)
    if content.lstrip()[:1] == b"{" and b'"categories"' in content:
        raise InputError("holds COCO labels, not predictions", file=path)
    class_ids = None if request.classes is None else frozenset(request.classes.source_ids)
    rows = read_rows(path, content, RUN_FIELDS, class_ids, faults)
    return RawRun(
        ids=rows.ids,
        image_index=rows.image_index,
        xyxy=xywh_to_xyxy(rows.rows[:, 1:5]),
        class_id=rows.rows[:, 0].astype(np.int64),
        score=rows.rows[:, 5],
        number=rows.number,
    )


def write(table: BoxTable, place: Path, output: RunOutput) -> list[str]:
    """Classes by their source ids, an image without boxes as an empty list."""
    place.write_bytes(challenge_json(table))
    return []
