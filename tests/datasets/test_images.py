"""Images of every kind come out as Pillow shows them: RGB, upright, or with one clear line."""

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
