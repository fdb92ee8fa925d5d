"""Photographs from disk as upright RGB tensors; the header is checked before the pixels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from smallobj.boxes import InputError

MAX_MEGAPIXELS = 400.0
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # Pillow opens MPO files as JPEG

# Pillow warns at 89 megapixels and refuses at 179 while it reads a header: the limit here is ours.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION_TAG = 0x0112
_UNREADABLE = (OSError, ValueError, SyntaxError, RuntimeError)  # what decoders raise on bad bytes
# torchvision decodes these as Pillow does, at twice the speed; CMYK and floats it does not.
_FAST = {
    ("JPEG", "L"),
    ("JPEG", "RGB"),
    ("MPO", "L"),
    ("MPO", "RGB"),
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
}
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


class _Header(NamedTuple):
    format: str
    mode: str
    size: tuple[int, int]  # width, height as stored
    orientation: int  # EXIF, 1 to 8


def image_size(path: str | Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header alone.

    Raises InputError where the file cannot be read, is of no known kind, or is too large.
    """
    header = _read_header(Path(path), max_megapixels)
    width, height = header.size
    return (height, width) if header.orientation >= 5 else (width, height)


def read_image(path: str | Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> Tensor:
    """The upright image: uint8 [3, H, W], RGB, contiguous; EXIF rotation applied.

    Transparency is dropped; 16 bits keep their upper eight. Raises InputError as `image_size`
    does, and where the pixels are truncated or damaged.
    """
    path = Path(path)
    header = _read_header(path, max_megapixels)
    fast = (header.format, header.mode) in _FAST
    try:
        pixels = _decode_torchvision(path) if fast else _decode_pillow(path)
    except _UNREADABLE as error:
        raise InputError(
            f"image is truncated or damaged ({_first_line(error)})", file=path
        ) from error
    return _upright(pixels, header.orientation).contiguous()


def _read_header(path: Path, max_megapixels: float) -> _Header:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            header = _Header(str(picture.format), picture.mode, picture.size, _orientation(picture))
    except UnidentifiedImageError as error:
        raise InputError(
            f"is no image of a known kind ({', '.join(FORMATS)})", file=path
        ) from error
    except _UNREADABLE as error:
        raise InputError(f"image cannot be read ({_first_line(error)})", file=path) from error
    width, height = header.size
    if width * height > max_megapixels * 1e6:
        raise InputError(
            f"image is larger than {max_megapixels:g} megapixels",
            file=path,
            value=f"{width} x {height}",
        )
    return header


def _orientation(picture: Image.Image) -> int:
    if picture.format == "TIFF":
        return 1  # Pillow turns these itself, its size is upright already
    # PNG's own getexif would decode the pixels to look behind them.
    value = Image.Image.getexif(picture).get(_ORIENTATION_TAG, 1)
    return value if value in range(1, 9) else 1


def _decode_torchvision(path: Path) -> Tensor:
    content = torch.from_numpy(np.fromfile(path, np.uint8))
    pixels = decode_image(content, mode=ImageReadMode.RGB)
    if pixels.dtype == torch.uint16:
        pixels = (pixels.to(torch.int32) >> 8).to(torch.uint8)
    return pixels


def _decode_pillow(path: Path) -> Tensor:
    with Image.open(path, formats=FORMATS) as picture:
        if picture.mode.startswith("I;16"):
            grey = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
            return torch.from_numpy(grey).expand(3, -1, -1)
        if picture.mode not in _PLAIN_MODES:
            raise ValueError(f"pixels of mode {picture.mode} have no agreed range")
        rgb = np.array(picture.convert("RGB"))
    return torch.from_numpy(rgb).permute(2, 0, 1)


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """Undo EXIF orientation 1 to 8 of [3, H, W]; 5 to 8 swap height and width."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels.flip(2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels.flip(1)
    return pixels


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].split(", ")[-1][:100] if lines else type(error).__name__
