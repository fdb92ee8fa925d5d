"""Boxes of many images as columns ordered by image; labels and predictions are both tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes.errors import InputError
from smallobj.boxes.geometry import Array, box_area


class Source(NamedTuple):
    """Where a predicted box came from: one view of one run."""

    run: str
    view: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """The images of a table: ids, and sizes in pixels (0 where unknown)."""

    ids: tuple[str, ...]  # path relative to the image folder, POSIX, Unicode NFC
    width: NDArray[np.int32]  # [N]
    height: NDArray[np.int32]  # [N]

    def __post_init__(self) -> None:
        count = len(self.ids)
        for name in ("width", "height"):
            column = np.ascontiguousarray(getattr(self, name), dtype=np.int32)
            object.__setattr__(self, name, column)
            _require(column.shape == (count,), f"{name} has shape {column.shape}, not ({count},)")
            _require(bool((column >= 0).all()), f"{name} has a negative value")
        _require(len(set(self.ids)) == count, "an image id appears twice")

    @classmethod
    def of(cls, ids: Sequence[str], sizes: Sequence[tuple[int, int]] | None = None) -> Self:
        """Images with sizes as (width, height) pairs; all sizes unknown where None."""
        size = np.zeros((len(ids), 2), np.int32) if sizes is None else np.array(sizes, np.int32)
        size = size.reshape(len(ids), 2)
        return cls(ids=tuple(ids), width=size[:, 0], height=size[:, 1])

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Images)
            and self.ids == other.ids
            and _same_columns(self, other, ("width", "height"))
        )

    __hash__ = None  # type: ignore[assignment]

    def take(self, index: NDArray[np.int64]) -> "Images":
        """The images at `index` [K], in that order."""
        ids = tuple(self.ids[i] for i in index)
        return Images(ids=ids, width=self.width[index], height=self.height[index])


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Class names in label order, and the id that the source used for each."""

    names: tuple[str, ...]
    source_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        _require(len(self.names) == len(self.source_ids), "names and source ids differ in number")
        _require(
            len(set(self.names)) == len(self.names), f"a class name appears twice: {self.names}"
        )
        _require(len(set(self.source_ids)) == len(self.source_ids), "a class id appears twice")

    @classmethod
    def of(cls, names: Sequence[str], source_ids: Sequence[int] | None = None) -> Self:
        """Classes numbered from 0 where the source gave no ids."""
        ids = range(len(names)) if source_ids is None else source_ids
        return cls(names=tuple(names), source_ids=tuple(ids))

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxTable:
    """Boxes of N images as columns; the boxes of image i are rows offsets[i] to offsets[i + 1].

    A wrong shape, type or order raises ValueError; a wrong value is the reader's business.
    """

    images: Images
    classes: Classes
    offsets: NDArray[np.int64]  # [N + 1], from 0 to M, never falling
    xyxy: Array  # [M, 4], pixels of the upright original image
    label: NDArray[np.int32]  # [M], index into classes
    score: Array | None = None  # [M], 0..1; None for truth
    area: Array | None = None  # [M], square pixels, COCO's own (of the mask, say)
    ignore: NDArray[np.bool_] | None = None  # [M], COCO's crowd
    source: NDArray[np.int32] | None = None  # [M], index into sources
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS.items():
            column = getattr(self, name)
            if column is not None:
                object.__setattr__(self, name, np.ascontiguousarray(column, dtype=dtype))
        rows = len(self.xyxy)
        _require(self.xyxy.shape == (rows, 4), f"xyxy has shape {self.xyxy.shape}, not (M, 4)")
        for name in ("label", "score", "area", "ignore", "source"):
            column = getattr(self, name)
            _require(column is None or column.shape == (rows,), f"{name} does not have {rows} rows")
        _require(self.offsets.shape == (len(self.images) + 1,), "offsets do not fit the images")
        _require(
            self.offsets[0] == 0
            and self.offsets[-1] == rows
            and bool((np.diff(self.offsets) >= 0).all()),
            f"offsets do not rise from 0 to {rows}",
        )
        _require(_inside(self.label, len(self.classes)), "a label is outside the classes")
        _require(
            self.source is None or _inside(self.source, len(self.sources)),
            "a source is outside the sources",
        )

    @classmethod
    def build(
        cls,
        *,
        images: Images,
        classes: Classes,
        image_index: NDArray[np.int64],
        xyxy: Array,
        label: NDArray[np.int32],
        **columns: Any,
    ) -> "BoxTable":
        """A table from rows in any order; image_index [M] says which image a row belongs to.

        Rows of one image keep their order.
        """
        image_index = np.asarray(image_index, np.int64)
        _require(_inside(image_index, len(images)), "an image index is outside the images")
        order = np.argsort(image_index, kind="stable")
        offsets = np.zeros(len(images) + 1, np.int64)
        np.cumsum(np.bincount(image_index, minlength=len(images)), out=offsets[1:])
        ordered: dict[str, Any] = {
            name: np.asarray(column)[order] if name in _COLUMNS and column is not None else column
            for name, column in columns.items()
        }
        return cls(
            images=images,
            classes=classes,
            offsets=offsets,
            xyxy=np.asarray(xyxy, np.float64).reshape(-1, 4)[order],
            label=np.asarray(label)[order],
            **ordered,
        )

    @classmethod
    def empty(cls, images: Images, classes: Classes, *, scored: bool) -> "BoxTable":
        """A table of images without a box; `scored` where it holds predictions."""
        return cls(
            images=images,
            classes=classes,
            offsets=np.zeros(len(images) + 1, np.int64),
            xyxy=np.empty((0, 4)),
            label=np.empty(0, np.int32),
            score=np.empty(0) if scored else None,
        )

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.xyxy)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BoxTable)
            and self.images == other.images
            and self.classes == other.classes
            and self.sources == other.sources
            and _same_columns(self, other, tuple(_COLUMNS))
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def image_index(self) -> NDArray[np.int64]:
        """The image each box belongs to, [M]."""
        return np.repeat(np.arange(len(self.images)), np.diff(self.offsets))

    @property
    def box_area(self) -> Array:
        """Square pixels of each box, [M]: the source's own where it gave one."""
        return box_area(self.xyxy) if self.area is None else self.area

    def rows(self, image: int) -> slice:
        """Rows of one image, by its position."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def images_slice(self, start: int, stop: int) -> "BoxTable":
        """The table of images start to stop; its columns are views, not copies."""
        low, high = self.offsets[start], self.offsets[stop]
        columns: dict[str, Any] = {name: column[low:high] for name, column in self._row_columns()}
        images = Images(
            ids=self.images.ids[start:stop],
            width=self.images.width[start:stop],
            height=self.images.height[start:stop],
        )
        offsets = self.offsets[start : stop + 1] - low
        return replace(self, images=images, offsets=offsets, **columns)

    def chunks(self, images: int) -> Iterator["BoxTable"]:
        """Tables of at most `images` images each, in order."""
        for start in range(0, len(self.images), images):
            yield self.images_slice(start, min(start + images, len(self.images)))

    def take_images(self, index: Sequence[int] | NDArray[np.int64]) -> "BoxTable":
        """The table of the images at `index` [K], in that order, each at most once."""
        index = np.asarray(index, np.int64)
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        columns: dict[str, Any] = {name: column[rows] for name, column in self._row_columns()}
        return replace(self, images=self.images.take(index), offsets=offsets, **columns)

    def filter_rows(self, keep: NDArray[np.bool_]) -> "BoxTable":
        """The same images with the boxes where `keep` [M] is true."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        columns: dict[str, Any] = {name: column[keep] for name, column in self._row_columns()}
        return replace(self, offsets=kept[self.offsets], **columns)

    def take_rows(self, order: NDArray[np.int64]) -> "BoxTable":
        """The same boxes in another order [M], which leaves every box in its image."""
        columns: dict[str, Any] = {name: column[order] for name, column in self._row_columns()}
        return replace(self, **columns)

    def _row_columns(self) -> Iterator[tuple[str, NDArray]]:
        for name in _COLUMNS:
            column = getattr(self, name)
            if name != "offsets" and column is not None:
                yield name, column


def concatenate(tables: Sequence[BoxTable]) -> BoxTable:
    """One table of the images of all, in order; the tables share classes, columns and sources.

    Raises ValueError where they differ, InputError where an image stands in two of them.
    """
    first = tables[0]
    _require(all(t.classes == first.classes for t in tables), "the tables' classes differ")
    _require(all(t.sources == first.sources for t in tables), "the tables' sources differ")
    names = [name for name, _ in first._row_columns()]
    _require(
        all([n for n, _ in t._row_columns()] == names for t in tables), "the tables' columns differ"
    )
    ids = [image_id for t in tables for image_id in t.images.ids]
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            raise InputError("image stands in two of the tables", item=image_id)
        seen.add(image_id)
    starts = np.cumsum([0, *(len(t) for t in tables)])
    offsets = [t.offsets[:-1] + start for t, start in zip(tables, starts[:-1], strict=True)]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(t, name) for t in tables]) for name in names
    }
    return replace(
        first,
        images=Images(
            ids=tuple(ids),
            width=np.concatenate([t.images.width for t in tables]),
            height=np.concatenate([t.images.height for t in tables]),
        ),
        offsets=np.concatenate([*offsets, starts[-1:]]),
        **columns,
    )


_COLUMNS = {
    "offsets": np.int64,
    "xyxy": np.float64,
    "label": np.int32,
    "score": np.float64,
    "area": np.float64,
    "ignore": np.bool_,
    "source": np.int32,
}


def _inside(index: NDArray, count: int) -> bool:
    return not len(index) or bool(index.min() >= 0 and index.max() < count)


def _same_columns(a: object, b: object, names: tuple[str, ...]) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return all((x is None) == (y is None) and (x is None or np.array_equal(x, y)) for x, y in pairs)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)
