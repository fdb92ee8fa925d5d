"""A run written from its part file in one pass, some images at a time."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smallobj.boxes import BoxTable, Classes, whole_file, write_text
from smallobj.formats import RunInfo
from smallobj.formats.challenge import challenge_json
from smallobj.formats.image_ids import natural_key
from smallobj.formats.run_info import run_info_path, write_run_info
from smallobj.prediction.engine import as_table
from smallobj.prediction.inputs import Skipped
from smallobj.prediction.names import escaped
from smallobj.prediction.part import PartFile

_IMAGES_AT_ONCE = 64


def write_found(out: Path, part: PartFile, ids: Sequence[str], info: RunInfo) -> int:
    """Write what `part` holds of the images `ids` as the run `out`; returns how many boxes.

    Images stand in natural order whatever order they were predicted in. NAME.json and
    NAME.run.toml are written both or none. Memory does not grow with the boxes.
    """
    boxes = 0
    with whole_file(out) as temporary:
        with temporary.open("wb") as stream:
            for table in _tables(part, ids, info.classes):
                _write_table(stream, table, first=not stream.tell())
                boxes += len(table)
            stream.write(b"}" if stream.tell() else b"{}")
        write_run_info(run_info_path(out), info)
    return boxes


def write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    r"""Write NAME.skipped.tsv, a line an image, or remove that of a run before this one.

    In both columns a tab is `\t`, a line end `\n`, a backslash `\\`, a byte that is no UTF-8
    `\xff`.
    """
    if not skipped:
        path.unlink(missing_ok=True)
        return
    rows = [("image", "reason"), *skipped]
    write_text(path, "".join("\t".join(map(escaped, row)) + "\n" for row in rows))


def skipped_path(out: Path) -> Path:
    """Where the images are listed that `out`, NAME.json, lacks: NAME.skipped.tsv."""
    return out.with_name(f"{out.stem}.skipped.tsv")


def _tables(part: PartFile, ids: Sequence[str], classes: Classes) -> Iterator[BoxTable]:
    images = np.flatnonzero(part.done).tolist()
    keys = (natural_key(ids[image]) for image in images)
    if any(a > b for a, b in pairwise(keys)):  # only lists: keys of all images are large
        images.sort(key=lambda image: natural_key(ids[image]))
    for first in range(0, len(images), _IMAGES_AT_ONCE):
        some = images[first : first + _IMAGES_AT_ONCE]
        yield as_table(list(part.read_all(some)), [ids[image] for image in some], classes)


def _write_table(stream: BinaryIO, table: BoxTable, *, first: bool) -> None:
    whole = challenge_json(table)
    assert whole[:1] == b"{"
    stream.write(whole[:-1] if first else b",\n" + whole[1:-1])
