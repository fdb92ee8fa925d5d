import unicodedata
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from smallobj.boxes import InputError
from smallobj.formats import list_images, upright_size


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "mpo", "bmp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_image(
    ending: str, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    options = {} if ending == "bmp" else {"exif": exif}
    Image.new("RGB", (31, 20)).save(path, **options)
    with Image.open(path) as image:
        assert upright_size(path) == ImageOps.exif_transpose(image).size


def test_only_the_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (300, 200)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    assert upright_size(path) == (300, 200)


def test_a_size_no_memory_could_hold_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    Image.new("L", (3, 2)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    assert upright_size(path) == (60_000, 60_000)


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"a.jpg: is no image of a known kind \(JPEG"):
        upright_size(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"b.jpg: image is missing"):
        upright_size(tmp_path / "b.jpg")


def test_damaged_exif_counts_as_none(tmp_path: Path) -> None:
    Image.new("L", (31, 20)).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*garbage")
    assert upright_size(tmp_path / "a.jpg") == (31, 20)


def test_images_are_listed_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.JPG", "2.png", "b/1.tif", ".hidden/1.png", ".3.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(list_images(tmp_path)) == ["2.png", "10.JPG", "b/1.tif"]


def test_ids_are_composed_unicode_whatever_the_disk_holds(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.png")
    (tmp_path / decomposed).write_bytes(b"")
    assert list_images(tmp_path) == {"é.png": tmp_path / decomposed}
    (tmp_path / "é.png").write_bytes(b"")
    with pytest.raises(InputError, match="differ only in Unicode form"):
        list_images(tmp_path)


def test_a_link_back_to_a_folder_above_ends(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b").symlink_to(tmp_path)
    assert list(list_images(tmp_path)) == ["a.png"]
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "c")
