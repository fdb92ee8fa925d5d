"""Images cut, garbled, renamed and faked: each is predicted or listed, none lost, none hangs."""

import io
import json
import random
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smallobj.boxes import Classes
from smallobj.prediction import PredictConfig, find_images, predict_run
from smallobj.weights.manifest import Manifest

MANIFEST = Manifest(
    id="finder",
    arch="finder",
    backbone="none",
    config={},
    classes=Classes.of(["red", "green"]),
    train_crop_px=64,
    largest_object_px=14,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
PROGRESSIVE = {"quality": 90, "progressive": True}
# name: Pillow's format, mode, what it is saved with
KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "jpeg": ("JPEG", "RGB", {"quality": 90}),
    "progressive": ("JPEG", "RGB", PROGRESSIVE),
    "restarts": ("JPEG", "RGB", {"restart_marker_rows": 1}),
    "grey": ("JPEG", "L", {}),
    "cmyk": ("JPEG", "CMYK", {}),
    "mpo": ("MPO", "RGB", {"save_all": True}),
    "png": ("PNG", "RGB", {}),
    "rgba": ("PNG", "RGBA", {}),
    "palette": ("PNG", "P", {}),
    "deep": ("PNG", "I;16", {}),
    "webp": ("WEBP", "RGB", {"quality": 90}),
    "lossless": ("WEBP", "RGBA", {"lossless": True}),
    "tiff": ("TIFF", "RGB", {}),
    "lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "bmp": ("BMP", "RGB", {}),
}
ENDINGS = (".jpg", ".png", ".webp", ".tif", ".bmp", ".MPO")


def encoded(kind: str, rng: random.Random) -> bytes:
    """A picture of squares on noise, in one of all eight orientations."""
    form, mode, options = KINDS[kind]
    size = (rng.randrange(30, 150), rng.randrange(30, 150))
    noise = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 60, (*size[::-1], 3))
    noise[5:17, 6:18] = (255, 0, 0)
    picture = Image.fromarray(noise.astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(noise[..., 0].astype(np.uint16) << 8)
    elif mode != "RGB":
        picture = picture.convert(mode)
    if form != "BMP":
        exif = Image.Exif()
        exif[0x0112] = rng.randrange(1, 9)
        options = options | {"exif": exif}
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: max(1, int(len(content) * rng.uniform(0.01, 0.99)))]


def garbled(content: bytes, rng: random.Random) -> bytes:
    length = min(rng.choice([1, 20, 500, 2000]), len(content) // 2)
    at = rng.randrange(len(content) - length)
    return content[:at] + rng.randbytes(length) + content[at + length :]


def shuffled_head(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 12)):
        changed[rng.randrange(min(300, len(changed)))] = rng.randrange(256)
    return bytes(changed)


def lengthened(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + rng.randbytes(rng.randrange(1, 3000)) + content[at:]


def untouched(content: bytes, _: random.Random) -> bytes:
    return content


def empty(_: bytes, __: random.Random) -> bytes:
    return b""


def enormous(_: bytes, rng: random.Random) -> bytes:
    return rng.choice(BOMBS)(65_535)


def jpeg_of(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(content)


def png_of(side: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [head, body, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def bmp_of(side: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


def tiff_of(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (7, 9)).save(stream, "TIFF")
    content = stream.getvalue()
    for tag, old in ((256, 7), (257, 9)):
        for form, size in ((3, "<HHIHH"), (4, "<HHII")):
            values = (tag, form, 1, old, 0) if form == 3 else (tag, form, 1, old)
            there = struct.pack(size, *values)
            content = content.replace(there, struct.pack("<HHII", tag, 4, 1, side))
    return content


BOMBS: tuple[Callable[[int], bytes], ...] = (jpeg_of, png_of, bmp_of, tiff_of)
MUTATIONS = (truncated, truncated, garbled, garbled, shuffled_head, lengthened, untouched)
# Cut short these say so themselves; of an MPO only the first picture counts.
TOLD_WHEN_CUT = KINDS.keys() - {"mpo"}


def one(rng: random.Random) -> tuple[str, str, bytes]:
    """A kind, what was done to it, and the bytes."""
    kind = rng.choice(list(KINDS))
    mutate = rng.choice((*MUTATIONS, *MUTATIONS, empty, enormous))
    return kind, mutate.__name__, mutate(encoded(kind, rng), rng)


def run_over(count: int, seed: int, finder: object, folder: Path) -> None:
    """Predict `count` mutated images; each has to stand in the run or among the skipped."""
    rng = random.Random(seed)
    done: dict[str, str] = {}
    folder.mkdir()
    for i in range(count):
        kind, mutation, content = one(rng)
        ending = rng.choice(ENDINGS)  # most are wrong, which must not matter
        name = f"{i}{ending}"
        (folder / name).write_bytes(content)
        done[name] = mutation
        if mutation == "untouched" or (mutation == "truncated" and kind in TOLD_WHEN_CUT):
            done[name] = f"{mutation} {kind}"
    out = folder.parent / "a.json"
    files = find_images(folder)
    before = time.monotonic()
    summary = predict_run(finder, MANIFEST, files, out, PredictConfig())  # type: ignore[arg-type]
    assert time.monotonic() - before < 30 + count / 5
    skipped = {image.id: image.reason for image in summary.skipped}
    seen = json.loads(out.read_text())
    assert sorted([*skipped, *seen]) == sorted(done)
    assert all("\n" not in reason and reason for reason in skipped.values())
    for name, mutation in done.items():
        if mutation.startswith("untouched "):
            assert name in seen, (name, mutation, skipped[name])
        elif mutation.startswith("truncated ") or mutation in ("empty", "enormous"):
            assert name in skipped, (name, mutation)
    enormous_ones = [skipped[name] for name, mutation in done.items() if mutation == "enormous"]
    assert all("larger than 400 megapixels" in reason for reason in enormous_ones)


def test_fifty_mutated_images_are_predicted_or_listed(finder, tmp_path) -> None:
    run_over(50, 0, finder, tmp_path / "in")


@pytest.mark.slow
def test_two_thousand_mutated_images_are_predicted_or_listed(finder, tmp_path) -> None:
    run_over(2000, 1, finder, tmp_path / "in")


@pytest.mark.parametrize("kind", sorted(TOLD_WHEN_CUT - {"bmp"}))
def test_the_loss_of_the_last_bytes_is_noticed(kind: str, finder, tmp_path) -> None:
    content = encoded(kind, random.Random(0))
    (tmp_path / "in").mkdir()
    for lost in (2, 4, 40):
        (tmp_path / "in" / f"{lost}.jpg").write_bytes(content[:-lost])
    files = find_images(tmp_path / "in")
    summary = predict_run(finder, MANIFEST, files, tmp_path / "a.json", PredictConfig())
    assert len(summary.skipped) == 3
