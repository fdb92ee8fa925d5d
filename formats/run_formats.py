"""The kinds of files that runs are read from and written to, one module a kind."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from smallobj.boxes import BoxTable, InputError
from smallobj.formats import challenge_run, coco_results, openimages_run, parquet_run, yolo_run
from smallobj.formats.faults import Faults
from smallobj.formats.raw_run import RawRun, RunOutput, RunRequest


class RunFormat(NamedTuple):
    """One way to keep predictions.

    find: whether a file or folder holds predictions of this kind, told by its beginning; never
    raises InputError for what it does not know. read: its columns; a fault of a value raises
    InputError, geometry and classes are judged by the caller. write: into a temporary file, or an
    empty temporary folder, that takes its name when all is written; returns what to tell.
    """

    looked_for: str
    find: Callable[[Path], bool]
    read: Callable[[Path, RunRequest, Faults], RawRun]
    write: Callable[[BoxTable, Path, RunOutput], list[str]]
    folder: bool  # a run is a folder, not a file
    normalised: bool  # boxes are written as fractions of the image
    names_empty: bool  # an image without boxes stands in it as well, whoever wrote it


def format_of(module: object) -> RunFormat:
    """The format that a module defines by these names."""
    names = ("LOOKED_FOR", "find", "read", "write", "FOLDER", "NORMALISED", "NAMES_EMPTY")
    return RunFormat(*(getattr(module, name) for name in names))


RUN_FORMATS: dict[str, RunFormat] = {
    "challenge": format_of(challenge_run),
    "coco": format_of(coco_results),
    "openimages": format_of(openimages_run),
    "parquet": format_of(parquet_run),
    "yolo": format_of(yolo_run),
}

_BY_ENDING = {".csv": "openimages", ".parquet": "parquet"}


def run_format(kind: str) -> RunFormat:
    """The format of a name; raises InputError that lists the known ones."""
    if kind not in RUN_FORMATS:
        raise InputError(f"unknown kind of run; known: {', '.join(RUN_FORMATS)}", value=kind)
    return RUN_FORMATS[kind]


def find_run_kind(path: Path) -> str | None:
    """The kind of run a file or folder holds; None where none is recognised."""
    return next((kind for kind, form in RUN_FORMATS.items() if form.find(path)), None)


def guess_run_kind(path: Path) -> str:
    """The kind of a run, or the one whose reader tells best what is wrong with the file."""
    found = find_run_kind(path)
    if found is not None:
        return found
    if path.is_dir():
        return "yolo"
    by_ending = _BY_ENDING.get(path.suffix.lower(), "challenge")
    return by_ending if by_ending in RUN_FORMATS else "challenge"
