"""What each view of a pool costs: timed on a few images, carried over to all by their pixels."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from smallobj.boxes import Array
from smallobj.datasets import ImageSource, read_image
from smallobj.detectors import Detector
from smallobj.prediction.candidates import KeptViews
from smallobj.prediction.engine import PredictConfig, stream_images
from smallobj.tta import Patch, View

_MOST_IMAGES = 4
_MOST_IMAGES_GPU = 32  # which is faster, and whose batches are to be full
_MOST_PIXELS = 16e6  # of the images together; one is always taken
_PASSES = 2  # the quicker one counts: other work on the machine only slows


def time_views(
    detector: Detector,
    sources: Sequence[ImageSource],
    views: Sequence[View],
    config: PredictConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Seconds that the engine takes for a pixel which it hands to the network, of each view; [V].

    A view by itself looks at up to 4 images (32 on a GPU) spread over `sources`, which were read
    before: cut, through the network, decoded, suppressed. The first image goes through it once
    beforehand. Each view is timed twice, all others between, and the quicker time counts.
    on_progress(done, total) counts views. The detector's weights are laid out channels last.
    """
    detector.to(memory_format=torch.channels_last)  # as for predicting
    most = _MOST_IMAGES_GPU if detector.mean.device.type == "cuda" else _MOST_IMAGES
    images = list(_within(_spread(sources, most), config.max_megapixels))
    seconds = np.full(len(views), np.inf)
    for number in range(_PASSES):
        for place, view in enumerate(views):
            alone = replace(config, views=(view,), keep="boxes")
            if number == 0:
                _look(detector, images[:1], alone)
            begun = time.perf_counter()
            _look(detector, images, alone)
            seconds[place] = min(seconds[place], time.perf_counter() - begun)
            if on_progress is not None:
                on_progress(number * len(views) + place + 1, _PASSES * len(views))
    sizes = [(image.shape[2], image.shape[1]) for image in images]
    pixels = [
        sum(handed_pixels(view.patches(*size), detector.stride) for size in sizes) for view in views
    ]
    return seconds / np.array(pixels, np.float64)


def handed_pixels(patches: Sequence[Patch], stride: int) -> int:
    """Pixels that the network sees of these patches, padded to its stride."""
    sides = [[-(-side // stride) * stride for side in patch.size] for patch in patches]
    return sum(height * width for height, width in sides)


class ViewCosts:
    """Seconds an image of any set of views: where two views come to the same, one is looked at."""

    def __init__(self, kept: KeptViews, seconds_a_pixel: Array, stride: int) -> None:
        self._looks = kept.looks
        pixels = [[handed_pixels(some, stride) for some in looks.patches] for looks in kept.looks]
        self._seconds = np.array(pixels, np.float64).reshape(-1, len(kept.views)) * seconds_a_pixel

    def __call__(self, views: Sequence[int]) -> float:
        """Mean over the images, of views by their positions."""
        total = sum(
            looks.images * float(seconds[looks.once(views)].sum())
            for looks, seconds in zip(self._looks, self._seconds, strict=True)
        )
        return total / max(1, sum(looks.images for looks in self._looks))


def _look(detector: Detector, images: Sequence[Tensor], config: PredictConfig) -> None:
    for _ in stream_images(detector, images, config):
        pass


def _spread(sources: Sequence[ImageSource], most: int) -> Iterator[ImageSource]:
    count = min(most, len(sources))
    for number in range(count):
        yield sources[(2 * number + 1) * len(sources) // (2 * count)]


def _within(sources: Iterator[ImageSource], max_megapixels: float) -> Iterator[Tensor]:
    pixels = 0
    for source in sources:
        image = read_image(source, max_megapixels=max_megapixels)
        pixels += image.shape[1] * image.shape[2]
        yield image
        if pixels > _MOST_PIXELS:
            return
