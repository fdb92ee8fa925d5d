"""What a run's file says, as columns, before its classes and geometry are judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, Classes, Images, Source
from smallobj.formats.labels import Labels
from smallobj.formats.run_info import RunInfo

Unit = Literal["pixel", "normalised"]
UNITS: tuple[Unit, ...] = ("pixel", "normalised")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What is known about a run besides its file; None where nothing."""

    classes: Classes | None = None  # what its class numbers mean
    labels: Labels | None = None  # translate COCO's image ids
    unit: Unit | None = None  # of the boxes, where the content may leave it open


@dataclass(frozen=True, kw_only=True)
class RunOutput:
    """What a writer of a run is told besides the table."""

    path: Path  # where the run will stand, for messages
    info: RunInfo
    labels: Labels | None = None  # COCO labels that say the ids of images


@dataclass(frozen=True, kw_only=True)
class RawRun:
    """Images, classes and boxes of a run in the order of its file; N images, M boxes."""

    ids: Sequence[str]  # [N] in normal form, each once
    image_index: NDArray[np.int64]  # [M]
    xyxy: Array  # [M, 4] finite; pixels, or fractions where unit is "normalised"
    class_id: NDArray[np.int64]  # [M] as in the file; one of classes.source_ids where it has them
    score: Array  # [M] in 0..1
    number: NDArray[np.int64]  # [M] which box of its image, or line of its file
    row_field: str = "box {}"  # how the format calls a row: "box {}", "line {}"
    unit: Unit = "pixel"
    classes: Classes | None = None  # what the file itself says; None where it has numbers alone
    numbered: bool = True  # False: the file has names alone, and the ids of `classes` are made up
    sizes: NDArray[np.int32] | None = None  # [N, 2] width, height; None or 0 where unknown
    files: Sequence[Path] | None = None  # [N] the file of each image, where there are several
    source: NDArray[np.int32] | None = None  # [M] index into sources
    sources: tuple[Source, ...] = ()
    info: RunInfo | None = None  # what the file itself says of its model


def unit_square(ids: Sequence[str]) -> Images:
    """Images of 1 x 1: on them boxes are fractions of an image whose size is unknown."""
    return Images.of(ids, [(1, 1)] * len(ids))


def is_unit_square(images: Images) -> bool:
    """Whether boxes on these images are fractions, not pixels: every one is 1 x 1."""
    return len(images) > 0 and bool((images.width == 1).all() and (images.height == 1).all())
