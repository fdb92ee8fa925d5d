"""Folders, single files and lists of images."""

import io
import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from smallobj.boxes import InputError
from smallobj.datasets import read_image
from smallobj.datasets.shipped import DEEPPCB
from smallobj.formats import read_labels
from smallobj.prediction import escaped, find_images, find_part
from smallobj.prediction.inputs import _Found, _joined


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
    assert (files.root, files.ids) == (tmp_path / "a", ("1.png",))
    assert list(files.paths) == [tmp_path / "a" / "1.png"]


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
        ("1.png\n./1.png\n", "same id"),
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


def test_a_name_that_is_no_utf8_is_refused_with_its_reason(tmp_path: Path) -> None:
    for name in (b"/a\xff\n.png", b"/b.png"):
        with open(os.fsencode(tmp_path) + name, "wb"):
            pass
    files = find_images(tmp_path)
    assert files.ids == ("b.png",)
    (refused,) = files.refused
    assert "not UTF-8" in refused.reason
    assert escaped(refused.id) == "a\\xff\\n.png"


def test_names_that_lead_out_of_their_folder_are_refused(tmp_path: Path) -> None:
    """A backslash is a letter on this system and a folder on the next."""
    files = find_images(touch(tmp_path, "a\\b.png", "b..png", "c\\..\\d.png"))
    assert files.ids == ("a/b.png", "b..png")
    assert [skipped.id for skipped in files.refused] == ["c\\..\\d.png"]


def test_a_name_of_255_bytes_is_a_name(tmp_path: Path) -> None:
    name = "\u00e9" * 125 + "x.png"
    assert len(name.encode()) == 255
    assert find_images(touch(tmp_path, name)).ids == (name,)


def test_links_to_nowhere_and_pipes_are_not_lost_and_do_not_hang(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("none.png")
    os.mkfifo(tmp_path / "c.png")
    files = find_images(tmp_path)
    assert files.ids == ("a.png", "b.png", "c.png")
    for path, reason in zip(files.paths[1:], ("No such file", "pipe"), strict=True):
        with pytest.raises(InputError, match=reason):
            read_image(path)


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert find_images(tmp_path).ids == ("a/1.png",)


def test_patterns_take_images_and_count_from_their_fixed_folder(tmp_path: Path) -> None:
    touch(tmp_path, ".x/p/a1/10.jpg", ".x/p/a1/deep/2.PNG", ".x/p/b/3.jpg", ".x/p/a1/notes.txt")
    base = tmp_path / ".x" / "p"
    assert find_images(f"{base}/a*/**/*").ids == ("a1/10.jpg", "a1/deep/2.PNG")
    assert find_images(f"{base}/?/*.jpg").root == base
    with pytest.raises(InputError, match="no images match"):
        find_images(f"{base}/*/*.tif")


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "[ab].png", "a.png")
    assert find_images(tmp_path / "[ab].png").ids == ("[ab].png",)


def test_several_inputs_count_from_the_folder_they_share(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/1.png", "x/b/1.png", "x/c/2.png", "x/9.png")
    (tmp_path / "x" / "list.txt").write_text("9.png\n")
    x = tmp_path / "x"
    files = find_images(x / "b", x / "a", f"{x}/c/*.png", x / "list.txt")
    assert files.root == x
    assert files.ids == ("b/1.png", "a/1.png", "c/2.png", "9.png")
    assert all(path.is_file() for path in files.paths)
    with pytest.raises(InputError, match="same id"):
        find_images(x, x / "9.png")


def test_lists_keep_spaces_and_may_be_separated_by_nul(tmp_path: Path) -> None:
    names = ["a\nb.png", " c.png ", "d.png", "e\u2028f.png"]
    touch(tmp_path, *names)
    (tmp_path / "nul.txt").write_bytes("\0".join(names).encode() + b"\0")
    assert find_images(tmp_path / "nul.txt").ids == tuple(names)
    (tmp_path / "lines.txt").write_text("\n".join(names[1:]) + "\n")
    assert find_images(tmp_path / "lines.txt").ids == tuple(names[1:])
    (tmp_path / "spaces.txt").write_text("  d.png \n")
    assert find_images(tmp_path / "spaces.txt").ids == ("d.png",)


def test_standard_input_counts_from_here(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path, "x/1.png", "x/2.png")
    odd = os.fsencode(tmp_path) + b"/x/\xff.png"
    with open(odd, "wb"):
        pass
    monkeypatch.chdir(tmp_path)
    lines = b"x/2.png\n./x/1.png\nx/\xff.png\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    files = find_images("-")
    assert files.ids == ("x/2.png", "x/1.png")
    assert [escaped(skipped.id) for skipped in files.refused] == ["x/\\xff.png"]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def test_an_archive_gives_paths_inside_as_ids(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "a.zip",
        {"d/10.png": b"x", "d/2.png": b"y", "__MACOSX/._2.png": b"", "d/": b"", "notes.txt": b""},
    )
    files = find_images(path)
    assert files.ids == ("d/2.png", "d/10.png")
    assert [member.read_bytes() for member in files.paths] == [b"y", b"x"]
    touch(tmp_path, "photos/1.png")
    assert find_images(tmp_path / "photos", path).ids == ("1.png", "d/2.png", "d/10.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "photos"]


def test_names_in_an_archive_that_lead_out_of_it_are_refused(tmp_path: Path) -> None:
    bad = ["../1.png", "a/../../2.png", "/etc/3.png", "C:\\4.png", "..\\5.png"]
    files = find_images(zipped(tmp_path / "a.zip", dict.fromkeys([*bad, "ok..png"], b"")))
    assert files.ids == ("ok..png",)
    assert sorted(skipped.id for skipped in files.refused) == sorted(bad)


def test_an_archive_at_fault_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="zip archive cannot be read"):
        find_images(tmp_path / "a.zip")
    with pytest.raises(InputError, match="no images in this archive"):
        find_images(zipped(tmp_path / "b.zip", {"a.txt": b""}))


def test_only_names_are_held_and_each_once(tmp_path: Path) -> None:
    """Finding a hundred thousand images costs little more than their names; paths are made."""
    many = [f"image_{i:06d}.jpg" for i in range(2000)]
    files = _joined(tmp_path, [_Found(tmp_path, many)])
    assert all(image_id is name for image_id, name in zip(files.ids, many, strict=True))
    held = [value for value in vars(files.paths).values() if not isinstance(value, np.ndarray)]
    assert sum(isinstance(item, Path) for value in held for item in value) == 1
    assert files.paths[1999] == tmp_path / many[1999]
    assert files.paths[1999] is not files.paths[1999]


def test_a_part_of_a_data_set_is_found_under_the_ids_of_its_labels() -> None:
    files = find_part(DEEPPCB, "val")
    labels = read_labels(DEEPPCB, split="val")
    assert files.ids == labels.table.images.ids
    assert len(files.ids) == 60
    assert all(path.is_file() for path in files.paths)
    with pytest.raises(InputError, match="test"):
        find_part(DEEPPCB, "test")
