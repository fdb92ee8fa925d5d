"""What is damaged is refused; what is merely odd is read."""

import io
import resource
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.boxes import InputError
from smallobj.datasets import ZipArchive, image_size, read_image
from smallobj.datasets.decoding import check_png


def encoded(kind: str, size: tuple[int, int] = (320, 240), **options: object) -> bytes:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    stream = io.BytesIO()
    small.resize(size).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return encoded("JPEG", quality=90)


def test_two_thousand_bytes_of_garbage_inside_a_jpeg_are_noticed(jpeg, tmp_path) -> None:
    """Pillow reads most of these without a word."""
    rng = np.random.default_rng(0)
    for i in range(50):
        at = int(rng.integers(700, len(jpeg) - 2000))
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(jpeg[:at] + rng.bytes(2000) + jpeg[at + 2000 :])
        with pytest.raises(InputError, match=r"jpg: image"):
            read_image(path)


def test_a_few_bytes_before_a_marker_are_not_held_against_a_camera(jpeg, tmp_path) -> None:
    for extra in (b"\0\0", b"\0" * 16, b"\xff" * 40):
        (tmp_path / "a.jpg").write_bytes(jpeg[:-2] + extra + jpeg[-2:])
        (tmp_path / "b.jpg").write_bytes(jpeg)
        assert torch.equal(read_image(tmp_path / "a.jpg"), read_image(tmp_path / "b.jpg"))
    (tmp_path / "a.jpg").write_bytes(jpeg[:-2] + bytes(60) + jpeg[-2:])
    with pytest.raises(InputError, match="extraneous bytes"):
        read_image(tmp_path / "a.jpg")


def test_what_follows_the_end_of_an_image_is_not_looked_at(jpeg, tmp_path) -> None:
    """Telephones append films, editors their notes."""
    for content in (jpeg, encoded("PNG")):
        (tmp_path / "a").write_bytes(content + bytes(range(256)) * 40)
        assert read_image(tmp_path / "a").shape == (3, 240, 320)


def test_any_changed_byte_of_the_pixels_of_a_png_is_noticed() -> None:
    content = encoded("PNG", (40, 30))
    check_png(content)
    begin, end = content.index(b"IDAT") - 4, len(content)
    for at in range(begin, end):
        changed = bytearray(content)
        changed[at] ^= 0x10
        with pytest.raises(ValueError, match=r"checksum|ends"):
            check_png(bytes(changed))
    for length in range(8, end):
        with pytest.raises(ValueError, match="ends"):
            check_png(content[:length])


def png_around(raw: bytes, *, spoil: bool = False) -> bytes:
    """A PNG of 100 x 100 with right checksums, whatever its rows are."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0)
    body = bytearray(zlib.compress(raw))
    body[len(body) // 2] ^= 0xFF if spoil else 0
    chunks = (head, b"IDAT" + body, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def test_a_png_whose_checksums_lie_is_refused_and_ends_no_process(tmp_path) -> None:
    rows = b"".join(b"\0" + np.random.default_rng(i).bytes(300) for i in range(100))
    path = tmp_path / "a.png"
    path.write_bytes(png_around(rows))
    assert read_image(path).shape == (3, 100, 100)
    unknown_filter = b"\x09" + rows[1:]
    for content in (
        png_around(rows[:5000]),
        png_around(rows, spoil=True),
        png_around(unknown_filter),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="truncated or damaged"):
            read_image(path)


def test_transparent_colours_of_a_palette_are_dropped(tmp_path) -> None:
    picture = Image.new("P", (40, 30), 1)
    picture.putpalette([17, 34, 51, 68, 85, 102])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "a.png")[:, 5, 5].tolist() == [68, 85, 102]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_a_damaged_header_is_told_from_a_file_that_is_no_image(kind, tmp_path) -> None:
    (tmp_path / "a").write_bytes(encoded(kind)[:20])
    with pytest.raises(InputError, match=f"header of a {kind} file|cannot be read"):
        read_image(tmp_path / "a")


def jpeg_bomb(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :]


def png_bomb() -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", 65_535, 65_535, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def bmp_bomb() -> bytes:
    content = encoded("BMP")
    return content[:18] + struct.pack("<ii", 65_535, 65_535) + content[26:]


def tiff_bomb() -> bytes:
    content = encoded("TIFF", (7, 9))
    for tag, old in ((256, 7), (257, 9)):
        there = struct.pack("<HHII", tag, 4, 1, old)
        assert there in content
        content = content.replace(there, struct.pack("<HHII", tag, 4, 1, 65_535))
    return content


def webp_bomb() -> bytes:
    """Of a film, as a still one of more than 16,383 px is damaged and says so."""
    stream = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    content = stream.getvalue()
    at = content.index(b"VP8X") + 12  # of 24 bits each, less 1
    return content[:at] + 2 * struct.pack("<I", 65_534)[:3] + content[at + 6 :]


def test_an_enormous_image_is_refused_at_once_and_without_memory(jpeg, tmp_path) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    png = png_bomb() + encoded("PNG")[33:]
    for i, content in enumerate((jpeg_bomb(jpeg), png, bmp_bomb(), tiff_bomb(), webp_bomb())):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(content)
        with zipfile.ZipFile(tmp_path / f"{i}.zip", "w") as archive:
            archive.write(path, "a.jpg")
        inside = ZipArchive(tmp_path / f"{i}.zip").member("a.jpg")
        for source in (path, inside):
            tracemalloc.start()
            before = time.perf_counter()
            with pytest.raises(InputError, match="larger than 400 megapixels, got 65535 x 65535"):
                read_image(source)
            assert time.perf_counter() - before < 0.1
            assert tracemalloc.get_traced_memory()[1] < 4e6
            tracemalloc.stop()
    # What decoders take for themselves is not traced.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 20_000  # kilobytes


def test_a_zip_bomb_is_refused_at_once_and_without_memory(jpeg, tmp_path) -> None:
    """A hundred megabytes of zeros behind a small picture, in a hundred kilobytes of archive."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", jpeg)
        with archive.open("b.jpg", "w", force_zip64=True) as stream:
            stream.write(jpeg)
            for _ in range(100):
                stream.write(bytes(1 << 20))
    archive = ZipArchive(path)
    assert read_image(archive.member("a.jpg")).shape == (3, 240, 320)
    tracemalloc.start()
    before = time.perf_counter()
    with pytest.raises(InputError, match=r"too long for an image of 0\.0768 megapixels"):
        read_image(archive.member("b.jpg"))
    assert time.perf_counter() - before < 0.1
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_a_damaged_or_locked_member_of_an_archive_says_so(jpeg, tmp_path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.bmp", encoded("BMP"))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1  # a pixel: BMP itself could not tell
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip/a\.bmp: .*CRC"):
        read_image(ZipArchive(path).member("a.bmp"))
    content[6] |= 1  # the bit of encryption, in both headers
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="password"):
        image_size(ZipArchive(path).member("a.bmp"))


def test_a_tiff_with_its_header_at_the_end_is_read_from_an_archive(tmp_path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (800, 900, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "TIFF", compression="tiff_lzw")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", stream.getvalue())
    assert len(stream.getvalue()) > 1 << 20
    member = ZipArchive(tmp_path / "a.zip").member("a.tif")
    assert image_size(member) == (900, 800)
    assert torch.equal(read_image(member), torch.from_numpy(pixels).permute(2, 0, 1))
    assert Path(str(member)).name == "a.tif"
