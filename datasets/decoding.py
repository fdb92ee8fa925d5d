"""Bytes of an image file to RGB pixels; what is truncated or damaged is refused.

JPEG is decoded by libjpeg-turbo itself (simplejpeg), because torchvision, Pillow and OpenCV hide
its warnings: they return grey or shifted pixels for a file with garbage inside. The rest is
Pillow's: on a damaged PNG torchvision 0.29 ends the whole process. PNG carries a checksum a chunk,
WebP its length. TIFF and BMP carry neither: damage inside them cannot be told.
"""

import io
import re
import struct
import zlib

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # Pillow opens MPO files as JPEG

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": re.escape(_PNG_SIGNATURE),
    "WEBP": rb"RIFF....WEBP",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
}
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

# Webcams and old telephones leave a few bytes before a marker; garbage that shifts the blocks
# leaves dozens.
_HARMLESS_BYTES = 16
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_HARMLESS = ("JFIF revision", "Adobe color transform", "Invalid SOS parameters", "ICC marker")
# said of samplings that libjpeg-turbo's short interface does not know, before any pixel
_UNUSUAL = ("determine subsampling", "subsampling type")


def decode(content: bytes, kind: str, mode: str) -> Tensor:
    """The pixels of a whole file as stored, not turned: uint8 [3, H, W], RGB.

    kind, mode: what Pillow calls its format and pixels. Transparency is dropped; 16 bits keep
    their upper eight. Raises whatever the decoders raise where the file is truncated or damaged.
    """
    if kind in ("JPEG", "MPO"):
        return _jpeg(content, mode)
    if kind == "PNG":
        check_png(content)
    if kind == "WEBP":
        _check_webp(content)
    return _pillow(content)


def looks_like(start: bytes) -> str | None:
    """The format whose files begin like these 12 bytes or more, None for none of FORMATS."""
    for kind, pattern in _BEGINNINGS.items():
        if re.match(pattern, start, re.DOTALL):
            return kind
    return None


def check_png(content: bytes) -> None:
    """Raise ValueError where a PNG does not reach its end, or a chunk's checksum is wrong."""
    view, at = memoryview(content), len(_PNG_SIGNATURE)
    while True:
        if at + 12 > len(view):
            raise ValueError("the file ends before its last chunk")
        (length,) = struct.unpack(">I", view[at : at + 4])
        name, end = bytes(view[at + 4 : at + 8]), at + 8 + length
        if end + 4 > len(view):
            raise ValueError("the file ends inside a chunk")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise ValueError("wrong checksum")
        if name == b"IEND":
            return
        at = end + 4


def _check_webp(content: bytes) -> None:
    if len(content) < 8 + int.from_bytes(content[4:8], "little"):
        raise ValueError("the file is shorter than it says")


def _jpeg(content: bytes, mode: str) -> Tensor:
    space = "CMYK" if mode == "CMYK" else "RGB"
    try:
        pixels = _strict_jpeg(content, space)
    except ValueError as error:
        if any(words in str(error) for words in _UNUSUAL):
            return _pillow(content)
        raise
    if space == "CMYK":  # as Adobe stores it, and so everybody: inverted
        height, width = pixels.shape[:2]
        inks = Image.frombuffer("CMYK", (width, height), 255 - pixels, "raw", "CMYK", 0, 1)
        pixels = np.array(inks.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _strict_jpeg(content: bytes, space: str) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(content, space, strict=True)
    except ValueError as error:
        if not _is_harmless(str(error)):
            raise
    return simplejpeg.decode_jpeg(content, space, strict=False)


def _is_harmless(warning: str) -> bool:
    extraneous = _EXTRANEOUS.search(warning)
    if extraneous:
        return int(extraneous[1]) <= _HARMLESS_BYTES
    return any(words in warning for words in _HARMLESS)


def _pillow(content: bytes) -> Tensor:
    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        if picture.mode.startswith("I;16"):
            grey = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
            return torch.from_numpy(grey).expand(3, -1, -1)
        if picture.mode not in _PLAIN_MODES:
            raise ValueError(f"pixels of mode {picture.mode} have no agreed range")
        picture.info.pop("transparency", None)  # of a palette; Pillow warns where it is dropped
        rgb = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    return torch.from_numpy(rgb.transpose(2, 0, 1).copy())  # Pillow's own memory is read-only
