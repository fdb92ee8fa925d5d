"""From image files to batches of patches: decoded ahead, cut, batched across views and images."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.boxes.compiled import cpu_count
from smallobj.datasets import ImageSource, compute_alone, image_size, read_image
from smallobj.prediction.batching import BatchSizes
from smallobj.tta import Patch, View, looks

_MOST_DECODERS = 8
_AHEAD_PIXELS = 200e6  # decoded and not yet cut; one image more than this is always let through
_OPEN_PIXELS = 100e6  # of images whose patches wait for a batch to fill


class Place(NamedTuple):
    """Where a patch belongs: position of its image, of its view there, of the patch in the view."""

    image: int
    view: int
    patch: int


class Opened(NamedTuple):
    """An image that was read; its patches follow in batches."""

    image: int
    width: int  # pixels, upright
    height: int
    looks: list[list[Patch]]  # of each view


class Failed(NamedTuple):
    """An image that could not be read; nothing of it follows."""

    image: int
    error: InputError


class Batch(NamedTuple):
    """Patches of one padded size."""

    images: Tensor  # uint8 [B, 3, H, W]
    places: list[Place]  # one a patch


@dataclass(frozen=True, kw_only=True)
class Feeding:
    """How images become batches."""

    views: tuple[View, ...]
    batches: BatchSizes  # how many patches
    stride: int = 32  # padded sizes are multiples of this, in pixels
    neutral: tuple[int, int, int] = (114, 114, 114)  # RGB of the padding
    pinned: bool = False  # batches in page-locked memory, for a GPU
    max_megapixels: float = 400.0


class _Waiting(NamedTuple):
    place: Place
    patch: Patch
    pixels: Tensor  # the whole image


def feed(paths: Iterable[ImageSource], feeding: Feeding) -> Iterator[Opened | Failed | Batch]:
    """What the images at `paths` come to, in one order for one list of images and settings."""
    return cut(_decoded(paths, feeding.max_megapixels), feeding)


def cut(
    images: Iterable[tuple[int, Tensor | InputError]], feeding: Feeding
) -> Iterator[Opened | Failed | Batch]:
    """As `feed`, of images [3, H, W] uint8 in memory, or why one is not, with their numbers."""
    buckets: dict[tuple[int, int], list[_Waiting]] = {}
    left: dict[int, int] = {}  # patches of an open image that are not in a batch yet
    pixels: dict[int, int] = {}

    def batch(size: tuple[int, int]) -> Batch:
        waiting = buckets.pop(size)
        for place, _, _ in waiting:
            left[place.image] -= 1
            if not left[place.image]:
                del left[place.image], pixels[place.image]
        return _batch(waiting, size, feeding)

    for index, image in images:
        if isinstance(image, InputError):
            yield Failed(index, image)
            continue
        height, width = image.shape[1:]
        views = looks(feeding.views, width, height)
        yield Opened(index, width, height, views)
        left[index], pixels[index] = sum(map(len, views)), width * height
        for waiting in _patches(index, image, views):
            size = _padded(waiting.patch, feeding.stride)
            buckets.setdefault(size, []).append(waiting)
            if len(buckets[size]) >= feeding.batches.of(size):
                yield batch(size)
        while len(left) > 2 * feeding.batches.largest or sum(pixels.values()) > _OPEN_PIXELS:
            yield batch(_oldest(buckets))
    while buckets:
        yield batch(_oldest(buckets))


def _patches(index: int, image: Tensor, views: list[list[Patch]]) -> Iterator[_Waiting]:
    for v, patches in enumerate(views):
        for p, patch in enumerate(patches):
            yield _Waiting(Place(index, v, p), patch, image)


def _padded(patch: Patch, stride: int) -> tuple[int, int]:
    height, width = (-(-side // stride) * stride for side in patch.size)
    return height, width


def _oldest(buckets: dict[tuple[int, int], list[_Waiting]]) -> tuple[int, int]:
    return min(buckets, key=lambda size: buckets[size][0].place)


def _batch(waiting: list[_Waiting], size: tuple[int, int], feeding: Feeding) -> Batch:
    images = torch.empty((len(waiting), 3, *size), dtype=torch.uint8, pin_memory=feeding.pinned)
    neutral = torch.tensor(feeding.neutral, dtype=torch.uint8).view(3, 1, 1)
    for canvas, (_, patch, pixels) in zip(images, waiting, strict=True):
        height, width = patch.size
        canvas[:, :height, :width] = patch.forward(pixels)
        canvas[:, height:] = neutral
        canvas[:, :height, width:] = neutral
    return Batch(images, [place for place, _, _ in waiting])


def _decoded(
    paths: Iterable[ImageSource], max_megapixels: float
) -> Iterator[tuple[int, Tensor | InputError]]:
    """The images in order, some decoded ahead in threads; what cannot be read as its error."""
    decoders = max(1, min(_MOST_DECODERS, cpu_count() // 2))
    ahead: deque[tuple[int, int, Future[Tensor | InputError]]] = deque()
    with ThreadPoolExecutor(decoders, initializer=compute_alone) as pool:
        for index, path in enumerate(paths):
            pixels = _pixels(path, max_megapixels)
            while ahead and (
                len(ahead) > decoders or pixels + sum(a[1] for a in ahead) > _AHEAD_PIXELS
            ):
                first, _, image = ahead.popleft()
                yield first, image.result()
            ahead.append((index, pixels, pool.submit(_read, path, max_megapixels)))
        while ahead:
            first, _, image = ahead.popleft()
            yield first, image.result()


def _pixels(path: ImageSource, max_megapixels: float) -> int:
    try:
        width, height = image_size(path, max_megapixels=max_megapixels)
    except InputError:
        return 0  # reading it says why, at its turn
    return width * height


def _read(path: ImageSource, max_megapixels: float) -> Tensor | InputError:
    try:
        return read_image(path, max_megapixels=max_megapixels)
    except InputError as error:
        return error
