"""Photographs as upright RGB tensors; the header is checked before anything is allocated."""

import io
import stat
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.datasets.decoding import FORMATS, decode, looks_like
from smallobj.datasets.zipped import ZipMember

MAX_MEGAPIXELS = 400.0
ImageSource = str | Path | ZipMember

# Pillow warns at 89 megapixels and refuses at 179 while it reads a header: the limit here is ours.
Image.MAX_IMAGE_PIXELS = None
# Of odd metadata, which viewers ignore too; damaged pixels are an error, not a warning.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ORIENTATION_TAG = 0x0112
_BYTES_A_PIXEL = 16  # more than any format needs uncompressed, four channels of 16 bits twice
_EXTRA_BYTES = 64 << 20  # metadata, thumbnails, the film behind a telephone's picture


class _Header(NamedTuple):
    format: str
    mode: str
    size: tuple[int, int]  # width, height as stored
    orientation: int  # EXIF, 1 to 8


def image_size(source: ImageSource, *, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header alone.

    Raises InputError where the file cannot be read, is of no known kind, or is too large.
    """
    source = _placed(source)
    header = _header(source, max_megapixels)
    width, height = header.size
    return (height, width) if header.orientation >= 5 else (width, height)


def read_image(source: ImageSource, *, max_megapixels: float = MAX_MEGAPIXELS) -> Tensor:
    """The upright image: uint8 [3, H, W], RGB, contiguous; EXIF rotation applied.

    Transparency is dropped; 16 bits keep their upper eight. Raises InputError as `image_size`
    does, and where the pixels are truncated or damaged (see datasets/decoding.py).
    """
    source = _placed(source)
    header = _header(source, max_megapixels)
    try:
        pixels = decode(source.read_bytes(), header.format, header.mode)
    except Exception as error:  # decoders raise all sorts of things on damaged bytes
        raise InputError(
            f"image is truncated or damaged ({_first_line(error)})", file=source
        ) from error
    height, width = pixels.shape[1:]
    if (width, height) != header.size:
        raise InputError("image has another size than its header says", file=source)
    return _upright(pixels, header.orientation).contiguous()


def _placed(source: ImageSource) -> Path | ZipMember:
    return Path(source) if isinstance(source, str) else source


def _header(source: Path | ZipMember, max_megapixels: float) -> _Header:
    try:
        size = _file_size(source) if isinstance(source, Path) else source.size
        _check_bytes(source, size, max_megapixels * 1e6)
        header = _read_header(source)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(_unknown(source, size), file=source) from error
    except Exception as error:
        raise InputError(f"image cannot be read ({_first_line(error)})", file=source) from error
    width, height = header.size
    if width * height > max_megapixels * 1e6:
        raise InputError(
            f"image is larger than {max_megapixels:g} megapixels",
            file=source,
            value=f"{width} x {height}",
        )
    _check_bytes(source, size, width * height)
    return header


def _unknown(source: Path | ZipMember, size: int) -> str:
    if not size:
        return "image is empty"
    with source.open("rb") if isinstance(source, Path) else source.head() as stream:
        kind = looks_like(stream.read(16))
    if kind is not None:
        return f"image is truncated or damaged (header of a {kind} file)"
    return f"is no image of a known kind ({', '.join(FORMATS)})"


def _file_size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise InputError("is no file but a directory, pipe or device", file=path)
    return status.st_size


def _check_bytes(source: Path | ZipMember, size: int, pixels: float) -> None:
    """Refuse a file that is far too long for its pixels before it is read into memory."""
    if size > pixels * _BYTES_A_PIXEL + _EXTRA_BYTES:
        raise InputError(
            f"file is too long for an image of {pixels / 1e6:.3g} megapixels",
            file=source,
            value=f"{size} bytes",
        )


def _read_header(source: Path | ZipMember) -> _Header:
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return _parse(stream)
    try:
        return _parse(source.head())
    except UnidentifiedImageError:
        raise
    except Exception:  # a TIFF file may keep its header at its end
        return _parse(io.BytesIO(source.read_bytes()))


def _parse(stream: BinaryIO) -> _Header:
    with Image.open(stream, formats=FORMATS) as picture:
        return _Header(str(picture.format), picture.mode, picture.size, _orientation(picture))


def _orientation(picture: Image.Image) -> int:
    if picture.format == "TIFF":
        return 1  # Pillow turns these itself, its size is upright already
    try:
        # PNG's own getexif would decode the pixels to look behind them.
        value = Image.Image.getexif(picture).get(_ORIENTATION_TAG, 1)
    except Exception:  # viewers ignore damaged EXIF data as well
        return 1
    return value if value in range(1, 9) else 1


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
