import os
import time
from concurrent.futures import ThreadPoolExecutor
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


def test_threads_that_write_together_leave_the_umask_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.umask

    def slow(mask: int) -> int:
        before = plain(mask)
        time.sleep(0.002)  # for another thread to come between
        return before

    mask = plain(0o027)
    monkeypatch.setattr(os, "umask", slow)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: write_text(tmp_path / str(i), "x"), range(24)))
        assert plain(0o027) == 0o027
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        plain(mask)
