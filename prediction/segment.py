"""The class of every pixel of images from disk, tile by tile, each pixel once."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from smallobj.datasets import ImageSource
from smallobj.detectors import Segmenter
from smallobj.prediction.batching import BatchSizes
from smallobj.prediction.device import autocast
from smallobj.prediction.engine import evaluating, neutral_colour
from smallobj.prediction.feeding import Batch, Failed, Feeding, Opened, feed
from smallobj.tta import Patch, Tiling, View


class ClassTile(NamedTuple):
    """The classes of a rectangle of an image."""

    image: int  # position in the list of images
    left: int  # of the rectangle, pixels of the image
    top: int
    classes: NDArray[np.int64]  # [h, w], 0 to C - 1, and C for the background


def class_tiles(
    detector: Segmenter,
    paths: Sequence[ImageSource],
    *,
    tile_px: int | None,
    batch_size: int,
    precision: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[ClassTile]:
    """What a detector takes each pixel for; the tiles of an image cover it once.

    tile_px: side of a tile; None: images in one piece. Boxes play no part in it. on_progress(done,
    total) is called as images are opened. Raises InputError for an image that cannot be read.
    """
    device = detector.mean.device
    tiling = None if tile_px is None else Tiling(side_px=tile_px, overlap_px=0)
    feeding = Feeding(
        views=(View(tiling=tiling),),
        batches=BatchSizes(batch_size, gpu=device.type == "cuda"),
        stride=detector.stride,
        neutral=neutral_colour(detector),
        pinned=device.type == "cuda",
    )
    context = autocast(device, precision)
    patches: dict[int, list[Patch]] = {}
    with evaluating(detector):
        for event in feed(paths, feeding):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Opened):
                (patches[event.image],) = event.looks
                if on_progress is not None:
                    on_progress(event.image + 1, len(paths))
                continue
            with torch.inference_mode():
                images = event.images.to(device, non_blocking=True)
                with context:
                    raw = detector(images)
                height, width = event.images.shape[2:]
                maps = detector.class_map(raw, (height, width)).cpu().numpy()
            yield from _own(event, maps, patches)


def _own(
    batch: Batch, maps: NDArray[np.int64], patches: dict[int, list[Patch]]
) -> Iterator[ClassTile]:
    """Of each tile what no tile before it has told, without its padding."""
    for place, classes in zip(batch.places, maps, strict=True):
        patch = patches[place.image][place.patch]
        height, width = patch.size
        left, top, _, _ = patch.crop
        across, down, _, _ = patch.overlap
        own = classes[down:height, across:width]
        yield ClassTile(place.image, left + across, top + down, own)
