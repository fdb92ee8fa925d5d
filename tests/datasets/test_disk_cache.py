"""Decoded images on disk: the same samples, a limit that is kept, and no harm where it fails."""

import os
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.boxes import BoxTable, InputError
from smallobj.datasets import CropConfig, CropLoader, Crops, DiskCache, ImageCache, Squashed
from smallobj.datasets import cache as cache_module
from smallobj.datasets.disk_cache import FOLDER

Marked = tuple[BoxTable, list[Path]]
HEADER_BYTES = 16


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that a cache decoded, in this order."""
    plain, names = cache_module.read_image, []

    def read(path: Path, **options: Any) -> torch.Tensor:
        names.append(path.name)
        return plain(path, **options)

    monkeypatch.setattr(cache_module, "read_image", read)
    return names


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """A file of this process takes 100,000 bytes; the write of more fails halfway."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def opened(
    folder: Path, notes: list[str], *, mb: float = 100, memory_mb: float = 10, **options: Any
) -> ImageCache:
    return ImageCache(memory_mb, disk=DiskCache(folder, mb / 1000, tell=notes.append), **options)


def files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).iterdir()) if (folder / FOLDER).exists() else []


@pytest.mark.parametrize("config", [{"mosaic": 0.4, "paste": 0.5}, {"input": "squash"}])
def test_samples_are_bit_for_bit_those_without_the_disk(
    marked: Marked, tmp_path: Path, decoded: list[str], notes: list[str], config: dict[str, Any]
) -> None:
    table, paths = marked
    levers = CropConfig(crop=96, **config)

    def samples(cache: ImageCache) -> Crops | Squashed:
        if levers.input == "squash":
            return Squashed(table, paths, levers, seed=3, cache=cache)
        return Crops(table, paths, levers, seed=3, cache=cache, pad=(1, 2, 3))

    squash_px = levers.squash_px
    without = samples(ImageCache(50, squash_px=squash_px))
    filling = samples(opened(tmp_path, notes, squash_px=squash_px))
    expected = [without.crop(e, i) for e in range(2) for i in range(len(without))]
    decoded.clear()
    found = [filling.crop(e, i) for e in range(2) for i in range(len(without))]
    assert len(decoded) == len(set(decoded)) > 3
    decoded.clear()
    filled = samples(opened(tmp_path, notes, squash_px=squash_px))
    found += [filled.crop(e, i) for e in range(2) for i in range(len(without))]
    assert not decoded
    for ours, theirs in zip(found, 2 * expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not notes


def test_a_kept_image_is_mapped_read_only_and_takes_no_memory_of_the_cache(
    marked: Marked, tmp_path: Path, notes: list[str]
) -> None:
    path = marked[1][3]
    filling, cache = opened(tmp_path, notes), opened(tmp_path, notes)
    first, mapped = filling.read(path), cache.read(path)
    assert np.array_equal(mapped, first)
    assert filling.size_mb == 0
    assert (type(mapped), mapped.dtype, mapped.flags.writeable) == (np.ndarray, np.uint8, False)
    assert mapped.flags.c_contiguous
    assert cache.size_mb == 0
    (file,) = files(tmp_path)
    assert file.stat().st_size == HEADER_BYTES + mapped.nbytes


def test_a_changed_image_is_decoded_anew(tmp_path: Path, notes: list[str]) -> None:
    path, sizes = tmp_path / "a.bmp", set()
    for colour in (10, 20):
        Image.new("RGB", (40, 30), (colour, 0, 0)).save(path)
        os.utime(path, ns=(colour, colour))  # ten nanoseconds are enough
        sizes.add(path.stat().st_size)
        assert opened(tmp_path, notes).read(path)[0, 0, 0] == colour
    assert (len(files(tmp_path)), len(sizes)) == (2, 1)


def test_another_squash_or_limit_of_megapixels_is_another_image(
    marked: Marked, tmp_path: Path, notes: list[str]
) -> None:
    path = marked[1][3]
    for squash_px in (None, 50, 60):
        side = squash_px or 400
        assert opened(tmp_path, notes, squash_px=squash_px).read(path).shape == (side, side, 3)
    assert len(files(tmp_path)) == 3
    with pytest.raises(InputError, match=r"larger than 0\.1 megapixels"):
        opened(tmp_path, notes, max_megapixels=0.1).read(path)


@pytest.mark.parametrize("length", [0, 7, HEADER_BYTES, 5000, -1])
def test_a_file_of_the_wrong_length_is_decoded_anew_and_mended(
    marked: Marked, tmp_path: Path, decoded: list[str], notes: list[str], length: int
) -> None:
    path = marked[1][3]
    expected = opened(tmp_path, notes).read(path).copy()
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole + b"x" if length < 0 else whole[:length])
    decoded.clear()
    for _ in range(2):
        assert np.array_equal(opened(tmp_path, notes).read(path), expected)
    assert decoded == [path.name]
    assert file.read_bytes() == whole


def test_an_image_that_cannot_be_read_leaves_nothing(tmp_path: Path, notes: list[str]) -> None:
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no image")
    for path in (broken, tmp_path / "missing.png"):
        with pytest.raises(InputError):
            opened(tmp_path, notes).read(path)
    assert not files(tmp_path)


def test_the_limit_holds_over_several_runs_and_a_full_cache_changes_no_more(
    marked: Marked, tmp_path: Path, decoded: list[str], notes: list[str]
) -> None:
    paths = marked[1]
    for _ in range(2):  # the images take 0.18, 0.14, 0.01, 0.48 and 0.15 MB
        for path in paths[:2]:
            opened(tmp_path, notes, mb=0.35).read(path)
    assert (len(files(tmp_path)), notes) == (2, [])
    before = [file.stat() for file in files(tmp_path)]
    cache = opened(tmp_path, notes, mb=0.35)
    for _ in range(2):
        for path in (paths[3], paths[4], *paths[:2]):
            cache.read(path)
    assert [s.st_mtime_ns for s in before] == [f.stat().st_mtime_ns for f in files(tmp_path)]
    assert decoded == ["0.png", "1.png", "3.png", "4.png"]
    assert cache.size_mb == pytest.approx(0.48 + 0.1452)  # those that found no room on the disk
    assert len(notes) == 1
    assert "0.00035 GB are full; --cache-gb sets the limit" in notes[0]


def test_a_folder_that_cannot_be_written_is_told_once(
    marked: Marked, tmp_path: Path, notes: list[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = opened(tmp_path / "file", notes)
    for path in marked[1]:
        assert cache.read(path) is cache.read(path)
    assert len(notes) == 1
    assert "cannot be written" in notes[0]


@pytest.mark.usefixtures("small_files_only")
def test_a_write_that_fails_halfway_leaves_nothing_and_is_told_once(
    marked: Marked, tmp_path: Path, notes: list[str]
) -> None:
    cache = opened(tmp_path, notes)
    for path in marked[1]:
        assert np.array_equal(cache.read(path), ImageCache(10).read(path))
    assert not files(tmp_path)
    assert len(notes) == 1
    assert "File too large" in notes[0]


def test_a_disk_that_is_nearly_full_is_left_alone(
    marked: Marked, tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    cache = opened(tmp_path, notes)
    for path in marked[1]:  # of which the third takes 10,500 bytes
        cache.read(path)
    assert [f.stat().st_size for f in files(tmp_path)] == [HEADER_BYTES + 70 * 50 * 3]
    assert len(notes) == 1
    assert "less than 1 GB would be left free" in notes[0]


def test_threads_and_runs_that_fill_one_folder_together_read_the_same(
    marked: Marked, tmp_path: Path, notes: list[str]
) -> None:
    """Two caches that share nothing but the folder stand for two runs."""
    paths = marked[1]
    expected = [ImageCache(10).read(path) for path in paths]
    runs = [opened(tmp_path, notes) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            (i, pool.submit(run.read, paths[i]))
            for _ in range(20)
            for run in runs
            for i in range(5)
        ]
        assert all(np.array_equal(job.result(), expected[i]) for i, job in jobs)
    assert [file.suffix for file in files(tmp_path)] == [".pixels"] * 5
    assert not notes


def test_what_a_killed_run_left_half_written_is_removed_once_it_is_old(
    marked: Marked, tmp_path: Path, notes: list[str]
) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in (".old.tmp", ".young.tmp"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / ".old.tmp", (0, 0))
    opened(tmp_path, notes).read(marked[1][0])
    assert [f.name for f in files(tmp_path) if f.suffix == ".tmp"] == [".young.tmp"]


def test_open_files_do_not_grow_with_the_images(
    marked: Marked, tmp_path: Path, notes: list[str]
) -> None:
    held = Path("/proc/self/fd")
    if not held.exists():
        pytest.skip("files held open are told by Linux alone")
    cache = opened(tmp_path, notes)
    crops = Crops(*marked, CropConfig(crop=64), seed=0, cache=cache, pad=(0, 0, 0))
    with CropLoader(crops, 8, workers=2) as loader:
        before = len(list(held.iterdir()))
        for _ in range(20):
            next(loader)
        assert len(list(held.iterdir())) < before + 10
