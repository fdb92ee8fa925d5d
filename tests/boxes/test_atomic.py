from pathlib import Path

import pytest

from smallobj.boxes import InputError, check_writable, whole_file, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "runs" / "deep" / "a.txt", "x")
    assert (tmp_path / "runs" / "deep" / "a.txt").read_text() == "x"


def test_a_file_in_the_place_of_a_folder_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "runs" / "a.json")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "runs" / "a.json", "")
    with pytest.raises(InputError, match="is a folder"):
        check_writable(tmp_path)


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a.json")
    assert list(tmp_path.iterdir()) == []
