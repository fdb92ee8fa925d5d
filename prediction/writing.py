"""A run written from its part file in one pass, some images at a time."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smallobj.boxes import BoxTable, Classes, Images, Source, whole_file, write_text
from smallobj.formats import RunInfo
from smallobj.formats.challenge import challenge_json
from smallobj.formats.image_ids import natural_key
from smallobj.formats.run_info import run_info_path, write_run_info
from smallobj.prediction.engine import as_table
from smallobj.prediction.inputs import Skipped
from smallobj.prediction.names import escaped
from smallobj.prediction.part import PartFile
from smallobj.tta import View

_IMAGES_AT_ONCE = 64
_CANDIDATE_IMAGES_AT_ONCE = 8  # up to 1,000 boxes a patch


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


def write_candidates(
    out: Path, part: PartFile, ids: Sequence[str], info: RunInfo, views: Sequence[View]
) -> int:
    """Write what `part` holds as Parquet with the view of every box; returns how many boxes.

    As `write_found`: images in natural order, both files or none, in flat memory.
    """
    from smallobj.formats.parquet_writer import ParquetRunWriter  # noqa: PLC0415 - loads pyarrow

    order = _in_order(part, ids)
    width, height = part.sizes[order].T
    images = Images(ids=tuple(ids[image] for image in order), width=width, height=height)
    sources = [Source(out.stem, view.name) for view in views]
    boxes = 0
    with whole_file(out) as temporary:
        with ParquetRunWriter(temporary, images, info.classes, sources) as writer:
            for table in _tables(part, ids, info.classes, sources):
                writer.write(table)
                boxes += len(table)
            writer.finish(info)
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


def _in_order(part: PartFile, ids: Sequence[str]) -> list[int]:
    images: list[int] = np.flatnonzero(part.done).tolist()
    keys = (natural_key(ids[image]) for image in images)
    if any(a > b for a, b in pairwise(keys)):  # only lists: keys of all images are large
        images.sort(key=lambda image: natural_key(ids[image]))
    return images


def _tables(
    part: PartFile, ids: Sequence[str], classes: Classes, sources: Sequence[Source] = ()
) -> Iterator[BoxTable]:
    images = _in_order(part, ids)
    at_once = _CANDIDATE_IMAGES_AT_ONCE if sources else _IMAGES_AT_ONCE
    for first in range(0, len(images), at_once):
        some = images[first : first + at_once]
        names = [ids[image] for image in some]
        yield as_table(list(part.read_all(some)), names, classes, sources)


def _write_table(stream: BinaryIO, table: BoxTable, *, first: bool) -> None:
    whole = challenge_json(table)
    assert whole[:1] == b"{"
    stream.write(whole[:-1] if first else b",\n" + whole[1:-1])
