"""Labelled images: a part of a data set, trained on or validated on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, concatenate


@dataclass(frozen=True, kw_only=True)
class Part:
    """Labelled images: a table whose image sizes are those of the files, and the files.

    The size of an image whose header cannot be read is 0; `load_data` leaves none of them.
    """

    table: BoxTable
    paths: tuple[Path, ...]

    def take(self, index: NDArray[np.int64]) -> "Part":
        """The images at `index` [K]."""
        return Part(table=self.table.take_images(index), paths=tuple(self.paths[i] for i in index))

    def without(self, left_out: Collection[Path]) -> "Part":
        """All images but those of some files."""
        kept = np.array([path not in left_out for path in self.paths], np.bool_)
        return self if kept.all() else self.take(np.flatnonzero(kept))


def join_parts(parts: Sequence[Part], names: Sequence[str]) -> Part:
    """All images of the parts; ids that stand for files of two get the part's name in front."""
    paths = tuple(path for part in parts for path in part.paths)
    tables = [replace(part.table, area=None) for part in parts]  # COCO's own, not trained on
    if any(table.ignore is not None for table in tables):
        tables = [
            replace(t, ignore=np.zeros(len(t), np.bool_)) if t.ignore is None else t for t in tables
        ]
    ids = [image_id for table in tables for image_id in table.images.ids]
    if len(set(ids)) < len(ids) == len(set(paths)):
        tables = [_prefixed(table, name) for table, name in zip(tables, names, strict=True)]
    return Part(table=concatenate(tables), paths=paths)


def _prefixed(table: BoxTable, part: str) -> BoxTable:
    ids = tuple(f"{part}/{image_id}" for image_id in table.images.ids)
    return replace(table, images=replace(table.images, ids=ids))
