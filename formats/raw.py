"""What a label file says, as columns, before its geometry is judged; and how it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, Classes, Images, InputError
from smallobj.formats.faults import Faults
from smallobj.formats.image_files import upright_size
from smallobj.formats.repairs import Geometry, Repairs, repair_boxes

ImageId = int | str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user said about a data set besides where it lies; None where nothing."""

    images: Path | None = None  # the image folder
    split: str | None = None  # one of the data set's own parts
    names: Path | None = None  # a file of class names
    voc_origin: int = 1  # what Pascal VOC files call the first pixel


@dataclass(frozen=True, kw_only=True)
class RawLabels:
    """Images, classes and boxes of a data set in the order of its files; N images, M boxes."""

    ids: tuple[str, ...]
    sizes: NDArray[np.int32]  # [N, 2] width, height as the labels say; 0 where they do not
    root: Path | None  # the image folder
    paths: tuple[Path | None, ...]  # image files, where found
    files: tuple[Path, ...]  # the label file of each image
    classes: Classes
    image_index: NDArray[np.int64]  # [M]
    xyxy: Array  # [M, 4] px
    label: NDArray[np.int32]  # [M]
    given: Array  # [M, 4] the numbers as the file has them
    number: NDArray[np.int64]  # [M] which box of its file or image
    row_field: str  # how the format calls a row: "box {}", "line {}"
    area: Array | None = None  # [M]
    ignore: NDArray[np.bool_] | None = None  # [M]
    source_image_ids: tuple[ImageId, ...] | None = None  # COCO's own ids
    images_clash: InputError | None = None  # why an image folder was not taken
    unlabelled: tuple[str, ...] = ()  # image files the labels do not name
    without_file: tuple[str, ...] = ()  # images that have no label file, taken as without boxes
    read_headers: bool = False  # sizes come from the image headers, whose faults were told

    def place(self, row: int) -> dict[str, Any]:
        """File, item, field and value of a box, for messages."""
        image = int(self.image_index[row])
        return {
            "file": self.files[image],
            "item": self.ids[image],
            "field": self.row_field.format(int(self.number[row])),
            "value": [float(f"{number:.9g}") for number in self.given[row]],
        }

    def take_images(self, index: Sequence[int]) -> "RawLabels":
        """The images at `index`, in that order, with their boxes."""
        position = np.full(len(self.ids), -1, np.int64)
        position[list(index)] = np.arange(len(index))
        keep = position[self.image_index] >= 0
        return self._rows(
            keep,
            ids=tuple(self.ids[i] for i in index),
            sizes=self.sizes[list(index)].reshape(-1, 2),
            paths=tuple(self.paths[i] for i in index),
            files=tuple(self.files[i] for i in index),
            image_index=position[self.image_index][keep],
            source_image_ids=None
            if self.source_image_ids is None
            else tuple(self.source_image_ids[i] for i in index),
            without_file=tuple({self.ids[i] for i in index} & set(self.without_file)),
        )

    def with_sizes(self, faults: Faults) -> "RawLabels":
        """The same with sizes from the image headers where the labels give none."""
        sizes = self.sizes.copy()
        for i in np.flatnonzero((sizes == 0).any(axis=1)):
            path = self.paths[i]
            if path is None:
                continue
            try:
                sizes[i] = upright_size(path)
            except InputError as error:
                faults.add("unreadable image", error.reason, file=path, item=self.ids[i])
        return self.sized(sizes)

    def sized(self, sizes: NDArray[np.int32]) -> "RawLabels":
        """The same with other image sizes [N, 2]."""
        return replace(self, sizes=sizes)

    def table(self, faults: Faults) -> tuple[BoxTable, Repairs]:
        """The boxes with their geometry repaired, and what was repaired."""
        width, height = self.sizes[self.image_index].T
        geometry = repair_boxes(self.xyxy, width, height)
        self._report(geometry, faults)
        keep = geometry.keep
        table = BoxTable.build(
            images=Images(ids=self.ids, width=self.sizes[:, 0], height=self.sizes[:, 1]),
            classes=self.classes,
            image_index=self.image_index[keep],
            xyxy=geometry.xyxy[keep],
            label=self.label[keep],
            area=None if self.area is None else self.area[keep],
            ignore=None if self.ignore is None else self.ignore[keep],
        )
        unlabelled = Repairs(unlabelled_images=len(self.unlabelled))
        return table, geometry.repairs() + unlabelled

    def _report(self, geometry: Geometry, faults: Faults) -> None:
        judged = (
            ("swapped corners", "width or height is negative", geometry.swapped),
            ("zero area", "box has no area", geometry.zero_area),
            ("outside the image", "box is outside its image of {} x {} px", geometry.outside),
            ("outside the image", "box sticks out of its image of {} x {} px", geometry.clipped),
        )
        for kind, reason, rows in judged:
            for row in np.flatnonzero(rows).tolist():
                size = self.sizes[self.image_index[row]]
                faults.add(kind, reason.format(*size), **self.place(row))

    def _rows(self, keep: NDArray[np.bool_], **changes: Any) -> "RawLabels":
        columns = {
            name: None if (column := getattr(self, name)) is None else column[keep]
            for name in ("image_index", "xyxy", "label", "given", "number", "area", "ignore")
        }
        return replace(self, **{**columns, **changes})


class RowList:
    """Boxes collected one by one by a reader of many small files."""

    def __init__(self) -> None:
        self.image: list[int] = []
        self.label: list[int] = []
        self.given: list[Sequence[float]] = []
        self.number: list[int] = []

    def add(self, image: int, label: int, given: Sequence[float], number: int) -> None:
        """One box: image and class by position, four numbers as given, its number in the file."""
        self.image.append(image)
        self.label.append(label)
        self.given.append(given)
        self.number.append(number)

    def columns(self) -> dict[str, Any]:
        """Columns image_index, label, given, number for RawLabels."""
        return {
            "image_index": np.array(self.image, np.int64),
            "label": np.array(self.label, np.int32),
            "given": np.array(self.given, np.float64).reshape(-1, 4),
            "number": np.array(self.number, np.int64),
        }
