"""Faulty geometry: corners swapped, boxes outside their image, boxes without area."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, clip_boxes

CLIP_TOLERANCE_PX = 0.01  # what rounding to six decimals of a fraction can move a border by


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """How many boxes were repaired or dropped while reading."""

    swapped: int = 0  # corners put in order
    clipped: int = 0  # cut at the border of the image
    zero_area: int = 0  # dropped: no width or no height
    outside: int = 0  # dropped: wholly outside the image
    unlabelled_images: int = 0  # image files that the labels do not name, left out

    def lines(self) -> list[str]:
        """One line for each thing that was done, to tell the user."""
        told = (
            (
                self.swapped,
                "box with swapped corners repaired",
                "boxes with swapped corners repaired",
            ),
            (self.clipped, "box cut at the image border", "boxes cut at the image border"),
            (self.zero_area, "box without area dropped", "boxes without area dropped"),
            (self.outside, "box outside its image dropped", "boxes outside their image dropped"),
            (
                self.unlabelled_images,
                "image file is not named in the labels and is left out",
                "image files are not named in the labels and are left out",
            ),
        )
        return [f"{count} {one if count == 1 else many}" for count, one, many in told if count]

    def __add__(self, other: "Repairs") -> "Repairs":
        return Repairs(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


class Geometry(NamedTuple):
    """Boxes with their corners in order and cut at the border; what was wrong with each."""

    xyxy: Array  # [M, 4]
    swapped: NDArray[np.bool_]  # [M]
    clipped: NDArray[np.bool_]  # [M] partly outside by more than the tolerance
    zero_area: NDArray[np.bool_]  # [M] to be dropped
    outside: NDArray[np.bool_]  # [M] to be dropped

    @property
    def keep(self) -> NDArray[np.bool_]:
        """Which boxes are left, [M]."""
        return ~(self.zero_area | self.outside)

    def repairs(self) -> Repairs:
        """The counts; a box that is dropped counts as dropped only."""
        keep = self.keep
        return Repairs(
            swapped=int((self.swapped & keep).sum()),
            clipped=int((self.clipped & keep).sum()),
            zero_area=int(self.zero_area.sum()),
            outside=int(self.outside.sum()),
        )


def repair_boxes(xyxy: Array, width: NDArray[np.int32], height: NDArray[np.int32]) -> Geometry:
    """Judge boxes [M, 4] against the sizes of their images [M], in pixels, 0 where unknown."""
    low, high = np.minimum(xyxy[:, :2], xyxy[:, 2:]), np.maximum(xyxy[:, :2], xyxy[:, 2:])
    swapped = np.any(xyxy[:, :2] > xyxy[:, 2:], axis=1)
    size = np.stack([width, height], axis=1).astype(np.float64)
    size[size == 0] = np.inf
    known = np.isfinite(size)
    zero_area = np.any(high <= low, axis=1)
    outside = ~zero_area & np.any(known & ((low >= size) | (high <= 0)), axis=1)
    ordered = np.concatenate([low, high], axis=1)
    clipped_xyxy = clip_boxes(ordered, width.astype(np.float64), height.astype(np.float64))
    over = np.any(known & ((low < -CLIP_TOLERANCE_PX) | (high > size + CLIP_TOLERANCE_PX)), axis=1)
    sliver = ~outside & np.any(clipped_xyxy[:, 2:] <= clipped_xyxy[:, :2], axis=1)
    return Geometry(
        xyxy=clipped_xyxy,
        swapped=swapped,
        clipped=over & ~outside & ~zero_area & ~sliver,
        zero_area=zero_area | sliver,
        outside=outside,
    )
