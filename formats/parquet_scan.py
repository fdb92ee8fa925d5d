"""First pass over a Parquet run: which images, classes and views its rows name, in which order."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smallobj.boxes import Classes, InputError
from smallobj.formats.image_ids import id_fault, normal_id
from smallobj.formats.parquet_columns import BATCH_ROWS, Place, coordinate, text_codes
from smallobj.formats.parquet_file import VIEW, OpenParquet, told_as_input
from smallobj.formats.parquet_labels import ClassIds


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What the rows of a run name. A stretch is a number of rows of one image on end."""

    ids: tuple[str, ...]  # the file's own list, then others in order of appearance
    sizes: NDArray[np.int32]  # [N, 2] width, height, 0 where unknown
    stretch_image: NDArray[np.int64]  # [S] index into ids
    stretch_rows: NDArray[np.int64]  # [S]
    classes: Classes | None  # what the file says of its classes; None where it has numbers alone
    numbered: bool  # False: the numbers of the classes are made up
    class_ids: tuple[int, ...]  # the ones in use
    views: tuple[str, ...]  # empty without the column

    @cached_property
    def grouped(self) -> bool:
        """Whether the rows of every image stand together, which is what sorting is for."""
        return len(np.unique(self.stretch_image)) == len(self.stretch_image)

    @property
    def image_index(self) -> NDArray[np.int64]:
        """The image of each row, [M]."""
        return np.repeat(self.stretch_image, self.stretch_rows)


def scan(run: OpenParquet, classes: Classes | None) -> Scan:
    """Read the columns image, label and view alone.

    classes: what the class numbers mean, where it is known from elsewhere. Raises InputError where
    a name is missing or empty, or a label is no class.
    """
    own = None if run.about is None else run.about.info().classes
    known = ClassIds(own or classes)
    images = _Images(run)
    views: dict[str, None] = {}
    columns = ["image", "label", *([VIEW] if run.has_views else [])]
    row = 0
    with told_as_input(run.path):
        for batch in run.batches(columns, BATCH_ROWS):
            images.add(batch.column("image"), row)
            known.of(batch.column("label"), run.path, row)
            if run.has_views:
                names = text_codes(batch.column(VIEW))[1]
                views.update(dict.fromkeys(name or "" for name in names))
            row += len(batch)
    if row != run.rows:
        raise InputError("ends before its last row", file=run.path)
    made_up = _classes_of_names(known)
    return Scan(
        ids=tuple(images.position),
        sizes=images.sizes(),
        stretch_image=np.concatenate([np.empty(0, np.int64), *images.image]),
        stretch_rows=np.diff(np.concatenate([*images.start, np.array([row])])),
        classes=own or made_up,
        numbered=made_up is None,
        class_ids=tuple(known.seen) if made_up is None else made_up.source_ids,
        views=tuple(views),
    )


def in_fractions(run: OpenParquet) -> bool:
    """Whether no box of a foreign file reaches beyond 1: they are fractions, not pixels."""
    if run.about is not None or not run.rows:
        return False
    columns = ["x2", "y2"]
    row = 0
    with told_as_input(run.path):
        for batch in run.batches(columns, BATCH_ROWS):
            for name in columns:
                values = coordinate(batch.column(name), name, Place(run.path, row))
                if len(values) and values.max() > 1:
                    return False
            row += len(batch)
    return True


class _Images:
    """Collects the images and the stretches of their rows."""

    def __init__(self, run: OpenParquet) -> None:
        self._run = run
        listed = [] if run.about is None else run.about.images
        self.position = {image_id: place for place, image_id in enumerate(listed)}
        self._last = -1
        self.image: list[NDArray[np.int64]] = []
        self.start: list[NDArray[np.int64]] = []  # first row of each stretch

    def add(self, column: pa.Array, first_row: int) -> None:
        codes, names = text_codes(column)
        if not len(codes):
            return
        places = np.array([self._place(name) for name in names], np.int64)
        if (places < 0).any():
            self._refuse(codes, names, places, first_row)
        image = places[codes[self._starts(codes)]]
        start = self._starts(codes)
        if image[0] == self._last:  # the stretch goes on from the part before
            image, start = image[1:], start[1:]
        else:
            new = np.ones(len(image), np.bool_)
            new[1:] = image[1:] != image[:-1]  # two spellings of one name
            image, start = image[new], start[new]
        if len(image):
            self._last = int(image[-1])
        self.image.append(image)
        self.start.append(start + first_row)

    def sizes(self) -> NDArray[np.int32]:
        sizes = np.zeros((len(self.position), 2), np.int32)
        about = self._run.about
        if about is not None:
            sizes[: len(about.images)] = about.sizes()
        return sizes

    def _place(self, name: str | None) -> int:
        place = self.position.get(name or "")
        if place is None:
            normal = normal_id(name or "")
            if id_fault(normal) is not None:
                return -1
            place = self.position.setdefault(normal, len(self.position))
        return place

    @staticmethod
    def _starts(codes: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])

    def _refuse(
        self,
        codes: NDArray[np.int64],
        names: list[str | None],
        places: NDArray[np.int64],
        first_row: int,
    ) -> None:
        row = int(np.argmax(places[codes] < 0))
        name = names[codes[row]]
        reason = "value is missing" if name is None else id_fault(normal_id(name))
        assert reason is not None
        raise Place(self._run.path, first_row).fault(row, "image", reason, name)


def _classes_of_names(known: ClassIds) -> Classes | None:
    """Classes numbered by the order of their names, where no one else numbered them."""
    if not known.made_up:
        return None
    names = {number: name for name, number in known.made_up.items()}
    return Classes.of(sorted(names.get(number, str(number)) for number in known.seen))
