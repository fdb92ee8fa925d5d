"""The images on which tuning chooses, and those it is judged on."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, InputError
from smallobj.formats import split_folds


@dataclass(frozen=True, kw_only=True, eq=False)
class Fits:
    """F folds of N images. Fit 0 is all images, fit k the images outside fold k - 1.

    What a fit chooses, it chooses on its own images alone; its held-out fold only judges.
    """

    fold: NDArray[np.int64]  # [N]
    folds: int

    @classmethod
    def deal(
        cls, truth: BoxTable, folds: int, *, seed: int, groups: Sequence[str] | None = None
    ) -> "Fits":
        """Deal images alike in classes and boxes; those of one group stay together."""
        return cls(fold=split_folds(truth, folds, seed=seed, groups=groups), folds=folds)

    def __len__(self) -> int:
        return 1 + self.folds

    def own(self, fit: int) -> NDArray[np.bool_]:
        """The images a fit chooses on, [N]."""
        return np.ones(len(self.fold), np.bool_) if fit == 0 else self.fold != fit - 1

    def held_out(self, fit: int) -> NDArray[np.bool_]:
        """The images a fit is judged on, [N]; none for that of all images."""
        return self.fold == fit - 1 if fit else np.zeros(len(self.fold), np.bool_)

    def parts(self, fits: Sequence[int] | None = None) -> NDArray[np.int64]:
        """Own and held-out images of every fit, [2 * fits, N], as `score_settings` takes them."""
        chosen = range(len(self)) if fits is None else fits
        rows = [part for fit in chosen for part in (self.own(fit), self.held_out(fit))]
        return np.array(rows, np.int64)


def read_groups(given: str, ids: Sequence[str]) -> list[str]:
    """The group of every image id: from a file, else by a pattern.

    A file (CSV or text) holds `image,group` a line, every image of `ids` in it; a first line
    `image,group` is a heading. A pattern is a regular expression; what its first (...) finds in
    an id is the group. Raises InputError where an image has none, or the pattern is none.
    """
    if Path(given).is_file():
        return _groups_of_file(Path(given), ids)
    try:
        pattern = re.compile(given)
    except re.error as error:
        reason = f"is no file, and no regular expression: {error}"
        raise InputError(reason, field="groups", value=given) from error
    if pattern.groups < 1:
        reason = "is no file, and as a pattern it needs (...) around what names the group"
        raise InputError(reason, field="groups", value=given)
    found = [pattern.search(image_id) for image_id in ids]
    for image_id, match in zip(ids, found, strict=True):
        if match is None or match[1] is None:
            raise InputError("has no group by this pattern", item=image_id, value=given)
    return [match[1] for match in found if match is not None]


def _groups_of_file(path: Path, ids: Sequence[str]) -> list[str]:
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read: {error}", file=path) from error
    groups: dict[str, str] = {}
    for number, row in enumerate(rows):
        if not row or (number == 0 and [cell.strip() for cell in row] == ["image", "group"]):
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise InputError(
                "a line is image,group", file=path, field=f"line {number + 1}", value=",".join(row)
            )
        image, group = (cell.strip() for cell in row)
        if groups.setdefault(image, group) != group:
            raise InputError("image stands in two groups", file=path, item=image)
    for image_id in ids:
        if image_id not in groups:
            raise InputError("image has no group in this file", file=path, item=image_id)
    return [groups[image_id] for image_id in ids]
