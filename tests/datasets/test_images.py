"""Images of every kind come out as Pillow shows them: RGB, upright, or with one clear line."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from smallobj.boxes import InputError
from smallobj.datasets.images import image_size, read_image

WIDTH, HEIGHT = 53, 37


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def expected_of(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def expected(path: Path) -> torch.Tensor:
    with Image.open(path) as opened:
        rgb = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    return torch.from_numpy(rgb).permute(2, 0, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_of_every_mode_is_rgb(tmp_path: Path, picture: Image.Image, mode: str) -> None:
    path = tmp_path / "a.png"
    picture.convert(mode).save(path)
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert torch.equal(image, expected(path))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_of_every_mode_is_rgb(tmp_path: Path, picture: Image.Image, mode: str) -> None:
    path = tmp_path / "a.jpg"
    picture.convert(mode).save(path)
    assert torch.equal(read_image(path), expected(path))


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 30, "subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"progressive": True},
        {"restart_marker_blocks": 3},
        {"keep_rgb": True},
    ],
)
def test_jpeg_of_every_coding_has_pillows_pixels(
    tmp_path: Path, picture: Image.Image, options: dict[str, object]
) -> None:
    picture.save(tmp_path / "a.jpg", **options)
    assert torch.equal(read_image(tmp_path / "a.jpg"), expected(tmp_path / "a.jpg"))


@pytest.mark.parametrize("transform", [0, 2])
def test_inverted_inks_of_adobe_are_turned_back(
    tmp_path: Path, picture: Image.Image, transform: int
) -> None:
    """Transform 2 stores the inks as YCCK; Pillow writes CMYK, 0, so the mark is set by hand."""
    path = tmp_path / "a.jpg"
    picture.convert("CMYK").save(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"Adobe") + 11
    assert content[at] == 0
    content[at] = transform
    path.write_bytes(content)
    assert torch.equal(read_image(path), expected(path))
    if not transform:
        assert (read_image(path).float() - expected_of(picture)).abs().mean() < 40


def test_a_white_page_in_inks_is_white(tmp_path: Path) -> None:
    for name, paper in (("white.jpg", 0), ("white.tif", 0)):
        Image.new("CMYK", (40, 30), (paper,) * 4).save(tmp_path / name)
        assert (read_image(tmp_path / name) == 255).all()


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP", "MPO"])
def test_other_kinds_are_read(tmp_path: Path, picture: Image.Image, kind: str) -> None:
    path = tmp_path / "a.JPG"
    more = {"save_all": True, "append_images": [picture]} if kind == "MPO" else {}
    picture.save(path, kind, **more)
    assert image_size(path) == (WIDTH, HEIGHT)
    assert torch.equal(read_image(path), expected(path))


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, kind: str) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a.{kind}")
    image = read_image(tmp_path / f"a.{kind}")
    assert torch.equal(image[1], torch.from_numpy((deep >> 8).astype(np.uint8)))


@pytest.mark.parametrize("alpha", [False, True])
def test_sixteen_bits_a_colour_keep_the_upper_eight(tmp_path: Path, alpha: bool) -> None:
    rng = np.random.default_rng(3)
    deep = rng.integers(0, 65536, (HEIGHT, WIDTH, 3 + alpha)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_sixteen_bits(deep))
    image = read_image(tmp_path / "a.png")
    assert torch.equal(
        image, torch.from_numpy((deep[..., :3] >> 8).astype(np.uint8)).permute(2, 0, 1)
    )


def png_of_sixteen_bits(deep: np.ndarray) -> bytes:
    """Pillow writes none with colours. deep [H, W, 3 or 4]."""
    height, width, channels = deep.shape
    rows = deep.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    chunks = (b"IHDR" + head, b"IDAT" + zlib.compress(raw), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


@pytest.mark.parametrize(
    ("orientation", "x", "y"),
    [(1, 9, 2), (2, 3, 2), (3, 3, 5), (4, 9, 5), (5, 2, 9), (6, 5, 9), (7, 5, 3), (8, 2, 3)],
)
@pytest.mark.parametrize("kind", ["png", "webp", "jpg", "tif"])
def test_a_marked_pixel_is_where_a_viewer_shows_it(
    tmp_path: Path, kind: str, orientation: int, x: int, y: int
) -> None:
    """Stored at column 9, row 2 of 13 x 8; by the EXIF standard's words: 6 is turned clockwise."""
    pixels = np.zeros((8, 13, 3), np.uint8)
    pixels[2, 9] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(pixels).save(tmp_path / f"a.{kind}", exif=exif, **options.get(kind, {}))
    image = read_image(tmp_path / f"a.{kind}")
    brightest = int(image.sum(0).argmax())
    assert (brightest % image.shape[2], brightest // image.shape[2]) == (x, y)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(
    tmp_path: Path, picture: Image.Image, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    picture.save(path, exif=exif)
    image = read_image(path)
    assert image_size(path) == (image.shape[2], image.shape[1])
    assert image.shape[1] == (WIDTH if orientation >= 5 else HEIGHT)
    assert torch.equal(image, expected(path))


@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_image_names_the_file(
    tmp_path: Path, picture: Image.Image, kind: str, share: float
) -> None:
    path = tmp_path / f"a.{kind}"
    picture.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"a\.\w+: image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_missing_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    for name, reason in [
        ("none.png", "No such file"),
        ("empty.png", "image is empty"),
        ("text.png", "known kind"),
        (".", "directory"),
    ]:
        with pytest.raises(InputError, match=reason):
            image_size(tmp_path / name)


def test_size_limit_is_checked_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (20_000, 20_001)).save(path)
    with pytest.raises(InputError, match="larger than 400 megapixels, got 20000 x 20001"):
        read_image(path)
    assert image_size(path, max_megapixels=401) == (20_000, 20_001)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="mode F"):
        read_image(tmp_path / "a.tif")
