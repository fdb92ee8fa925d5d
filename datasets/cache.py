"""Images in memory up to a limit, decoded or squashed too, shared by the threads of a loader."""

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import PIL
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from smallobj.datasets.disk_cache import DiskCache, Pixels
from smallobj.datasets.images import MAX_MEGAPIXELS, read_image

# What decodes and squashes: another version may round otherwise.
_VERSIONS = f"torch {torch.__version__}, vision {torchvision.__version__}, PIL {PIL.__version__}"


class ImageCache:
    """Upright RGB images by path, the least recently used dropped first; safe between threads.

    squash_px: resize every image to a square of so many pixels and keep that alone, so that a
    thousand photographs take as much memory as fifteen (at 300 px, of 6 megapixels).
    disk: a second level. What it holds is mapped, not copied into memory as well: its pages are in
    the system's own cache of files. What it has no room for is kept in memory as without it.
    """

    def __init__(
        self,
        limit_mb: float,
        *,
        max_megapixels: float = MAX_MEGAPIXELS,
        squash_px: int | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        self.squash_px = squash_px
        self._disk = disk
        self._how = f"squashed to {squash_px}, up to {max_megapixels} megapixels, {_VERSIONS}"
        self._limit = int(limit_mb * 1e6)
        self._max_megapixels = max_megapixels
        self._held: OrderedDict[Path, Pixels] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size_mb(self) -> float:
        """Megabytes held now, never above the limit."""
        return self._size / 1e6

    def read(self, path: Path) -> Pixels:
        """The image as read-only uint8 [H, W, 3]; raises InputError as `read_image` does.

        H and W are `squash_px` where images are squashed.
        """
        with self._lock:
            if path in self._held:
                self._held.move_to_end(path)
                return self._held[path]
        # Outside the lock: two threads may decode one image, but none waits for another's.
        if self._disk is not None:
            place = self._disk.place(path, self._how)
            if place is not None:
                return self._by_disk(self._disk, place, path)
        image = self._decoded(path)
        self._keep(path, image)
        return image

    def share_memory(self, processes: int) -> None:
        """Be one of so many copies in processes of their own, which keep within the limit together.

        What was read before they began is the same memory for all.
        """
        self._limit //= processes

    def _by_disk(self, disk: DiskCache, place: Path, path: Path) -> Pixels:
        image = disk.read(place)
        if image is None:
            image = self._decoded(path)
            if not disk.keep(place, image):
                self._keep(path, image)
        return image

    def _decoded(self, path: Path) -> Pixels:
        pixels = read_image(path, max_megapixels=self._max_megapixels)
        if self.squash_px is not None:
            pixels = squashed(pixels, self.squash_px)
        image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
        image.setflags(write=False)
        return image

    def _keep(self, path: Path, image: Pixels) -> None:
        with self._lock:
            if path in self._held or image.nbytes > self._limit:
                return
            self._held[path] = image
            self._size += image.nbytes
            while self._size > self._limit:
                _, dropped = self._held.popitem(last=False)
                self._size -= dropped.nbytes


def squashed(image: Tensor, squash_px: int) -> Tensor:
    """An image uint8 [3, H, W] resized to [3, squash_px, squash_px], as a squashed view does it."""
    size = (squash_px, squash_px)
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
