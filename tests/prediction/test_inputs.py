"""Folders, single files and lists of images."""

import os
from pathlib import Path

import pytest

from smallobj.boxes import InputError
from smallobj.datasets.shipped import DEEPPCB
from smallobj.formats import read_labels
from smallobj.prediction import find_images, find_part


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_is_searched_at_all_levels_in_natural_order(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "10.jpg", "2.JPG", "b/1.png", "notes.md"))
    assert files.ids == ("2.JPG", "10.jpg", "b/1.png")
    assert [path.relative_to(tmp_path).as_posix() for path in files.paths] == list(files.ids)


def test_a_single_file_is_its_own_name(tmp_path: Path) -> None:
    files = find_images(touch(tmp_path, "a/1.png") / "a" / "1.png")
    assert files == (tmp_path / "a", ("1.png",), (tmp_path / "a" / "1.png",))


def test_ids_are_composed_unicode(tmp_path: Path) -> None:
    assert find_images(touch(tmp_path, "e\u0301.png")).ids == ("\u00e9.png",)


def test_odd_names_are_names(tmp_path: Path) -> None:
    names = {"[/red].jpg", "a\nb.png", "c..png", " .png"}
    assert set(find_images(touch(tmp_path, *names)).ids) == names


def test_a_list_counts_from_its_own_folder(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "images/2.png")
    (tmp_path / "val.txt").write_text("\ufeff./images/2.png\r\n\r\nimages/1.png\r\n")
    files = find_images(tmp_path / "val.txt")
    assert files.ids == ("images/2.png", "images/1.png")


def test_a_list_of_images_elsewhere_counts_from_what_they_share(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/1.png", "x/b/2.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/val.txt").write_text(f"../x/a/1.png\n{tmp_path}/x/b/2.png\n")
    files = find_images(tmp_path / "lists" / "val.txt")
    assert files.ids == ("a/1.png", "b/2.png")
    assert files.root == tmp_path / "x"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no images in this list"),
        ("none.png\n", "no such image"),
        ("1.png\n./1.png\n", "stands twice"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_list_at_fault_says_why(tmp_path: Path, content: str | bytes, reason: str) -> None:
    touch(tmp_path, "1.png")
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(InputError, match=reason):
        find_images(tmp_path / "list.txt")


def test_no_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images in this folder"):
        find_images(touch(tmp_path, "notes.md"))
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "none")


def test_a_name_that_is_no_utf8_is_refused_in_one_line(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/a\xff\n.png"
    with open(name, "wb"):
        pass
    with pytest.raises(InputError, match="not UTF-8") as caught:
        find_images(tmp_path)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_a_part_of_a_data_set_is_found_under_the_ids_of_its_labels() -> None:
    files = find_part(DEEPPCB, "val")
    labels = read_labels(DEEPPCB, split="val")
    assert files.ids == labels.table.images.ids
    assert len(files.ids) == 60
    assert all(path.is_file() for path in files.paths)
    with pytest.raises(InputError, match="test"):
        find_part(DEEPPCB, "test")
