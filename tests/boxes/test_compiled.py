import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.caching import CompileResultCacheImpl

from smallobj.boxes.compiled import compiled, image_ranges, over_image_ranges

KERNEL = """
from smallobj.boxes.compiled import compiled

@compiled
def twice(number):
    return 2 * number

if __name__ == "__main__":
    assert twice(21) == 42
    print(sum(twice.stats.cache_hits.values()))
"""


@pytest.fixture
def kernel(tmp_path) -> Path:
    path = tmp_path / "kernel.py"
    path.write_text(KERNEL)
    return path


def start(kernel: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, kernel], stdout=subprocess.PIPE, text=True)


def hits(process: subprocess.Popen) -> int:
    output, _ = process.communicate()
    assert process.returncode == 0
    return int(output)


def test_code_is_read_from_the_cache_and_compiled_again_where_that_is_damaged(kernel):
    assert hits(start(kernel)) == 0
    assert hits(start(kernel)) == 1
    files = list((kernel.parent / "__pycache__").iterdir())
    assert {path.suffix for path in files} == {".nbi", ".nbc"}
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert hits(start(kernel)) == 0


CALLER = """
from {package}.middle import four_times

from smallobj.boxes.compiled import compiled

@compiled
def eight_times(number):
    return 2 * four_times(number)

if __name__ == "__main__":
    print(eight_times(1), sum(eight_times.stats.cache_hits.values()))
"""
MIDDLE = """
from {package}.helper import twice

from smallobj.boxes.compiled import compiled

@compiled
def four_times(number):
    return 2 * twice(number)
"""
HELPER = """
from smallobj.boxes.compiled import compiled

@compiled
def twice(number):
    return {factor} * number
"""


def test_a_kernel_is_compiled_again_when_a_helper_in_another_file_changes(tmp_path):
    package = tmp_path / "calls"
    package.mkdir()
    (package / "caller.py").write_text(CALLER.format(package="calls"))
    (package / "middle.py").write_text(MIDDLE.format(package="calls"))
    (package / "helper.py").write_text(HELPER.format(factor=2))

    def run() -> tuple[int, int]:
        command = [sys.executable, "-m", "calls.caller"]
        output = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        value, from_cache = output.stdout.split()
        return int(value), int(from_cache)

    assert run() == (8, 0)
    assert run() == (8, 1)
    (package / "helper.py").write_text(HELPER.format(factor=50))
    assert run() == (200, 0)
    assert run() == (200, 1)
    (package / "middle.py").write_text(MIDDLE.format(package="calls").replace("2 *", "3 *"))
    assert run() == (300, 0)


def test_processes_that_compile_at_once_do_not_break_each_other(kernel):
    together = [start(kernel) for _ in range(3)]
    for process in together:
        hits(process)
    assert hits(start(kernel)) == 1


def test_without_a_folder_for_the_cache_it_compiles_all_the_same(monkeypatch):
    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])

    @compiled
    def thrice(number):
        return 3 * number

    assert thrice(14) == 42


def test_a_cache_that_cannot_be_written_at_last_does_not_stop_the_work(kernel, monkeypatch):
    (kernel.parent / "__pycache__").mkdir()
    full = "import numba.core.caching as c\ndef full(*_): raise OSError('disk full')\n"
    kernel.write_text(full + "c.IndexDataCacheFile.save = full\n" + KERNEL)
    assert hits(start(kernel)) == 0


@given(counts=st.lists(st.integers(0, 50), max_size=30), parts=st.integers(1, 10))
def test_ranges_hold_every_image_once_and_about_as_many_rows(counts, parts):
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    ranges = image_ranges(offsets, parts)
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(len(counts)))
    assert len(ranges) <= parts
    fair = (sum(counts) + len(counts)) / parts + max(counts, default=0) + 1
    assert all(sum(counts[start:stop]) <= fair for start, stop in ranges)


@pytest.mark.parametrize("threads", [1, 3, None])
def test_results_come_in_the_order_of_the_ranges(threads):
    offsets = np.arange(0, 101, 10)
    results = over_image_ranges(lambda start, stop: (start, stop), offsets, threads=threads)
    assert results[0][0] == 0
    assert results[-1][1] == 10
    assert all(a[1] == b[0] for a, b in pairwise(results))
    assert over_image_ranges(lambda *_: 1, np.zeros(1, np.int64), threads=threads) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_inside_is_raised_outside(threads):
    def fail(start: int, stop: int) -> None:
        raise ValueError(f"image {start}")

    with pytest.raises(ValueError, match="image 0"):
        over_image_ranges(fail, np.arange(11), threads=threads)
