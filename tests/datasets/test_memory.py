"""Memory keeps its limits; statistics are those of the pixels; a broken image is named."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smallobj.boxes import BoxTable, InputError
from smallobj.datasets import CropConfig, CropLoader, Crops, ImageCache, colour_statistics
from smallobj.datasets.augment import colour_table, jitter_colour

Marked = tuple[BoxTable, list[Path]]


def test_the_cache_keeps_its_limit_and_drops_the_oldest(marked: Marked) -> None:
    _, paths = marked
    cache = ImageCache(0.5)  # 400 x 400 alone is 0.48 MB
    first = cache.read(paths[0])
    assert cache.read(paths[0]) is first
    assert not first.flags.writeable
    for path in paths:
        cache.read(path)
        assert cache.size_mb <= 0.5
    assert cache.read(paths[0]) is not first
    assert np.array_equal(cache.read(paths[0]), first)


def test_an_image_above_the_limit_is_read_and_not_kept(marked: Marked) -> None:
    cache = ImageCache(0.01)
    assert cache.read(marked[1][3]).shape == (400, 400, 3)
    assert cache.size_mb == 0


def test_statistics_are_those_of_the_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    arrays = [rng.integers(0, 256, (60, 60, 3), dtype=np.uint8) for _ in paths]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    mean, std = colour_statistics(paths, ImageCache(10))
    assert mean == pytest.approx(np.mean(arrays, axis=(0, 1, 2)), abs=1e-3)
    assert std == pytest.approx(np.std(arrays, axis=(0, 1, 2)), abs=1e-3)


def test_statistics_of_one_colour_keep_a_deviation(tmp_path: Path) -> None:
    Image.new("RGB", (300, 300), (7, 8, 9)).save(tmp_path / "a.png")
    assert colour_statistics([tmp_path / "a.png"], ImageCache(1)) == ((7, 8, 9), (1, 1, 1))


def test_colours_change_and_stay_in_order() -> None:
    rng = np.random.default_rng(0)
    table = colour_table(0.3, rng)
    assert table.shape == (3, 256)
    assert (np.diff(table.astype(int), axis=1) >= 0).all()
    grey = np.full((4, 5, 3), 90, np.uint8)
    assert (jitter_colour(grey, 0, rng) == 90).all()
    assert any((jitter_colour(grey, 0.3, rng) != 90).any() for _ in range(3))


@pytest.mark.parametrize("processes", [False, True])
def test_a_broken_image_is_named_by_the_loader(
    marked: Marked, tmp_path: Path, processes: bool
) -> None:
    table, _ = marked
    broken = tmp_path / "broken.png"
    broken.write_bytes(marked[1][0].read_bytes()[:300])
    crops = Crops(
        table.take_images([0]),
        [broken],
        CropConfig(crop=64),
        seed=0,
        cache=ImageCache(1),
        pad=(0, 0, 0),
    )
    loader = CropLoader(crops, 2, workers=1, processes=processes)
    with loader, pytest.raises(InputError, match=r"broken\.png") as raised:
        next(loader)
    assert raised.value.file == broken


def resident_mb() -> float:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="memory held now is told by Linux alone")
def test_memory_does_not_grow_from_the_second_epoch_to_the_tenth(marked: Marked) -> None:
    """It would grow by 40 MB were every crop kept, as those of an epoch take 5."""
    config = CropConfig(crop=256, mosaic=0.3, paste=0.5, balance=0.5, background=0.4)
    cache = ImageCache(0.6)  # smaller than the images, which are decoded time and again
    crops = Crops(*marked, config, seed=0, cache=cache, pad=(0, 0, 0))
    assert len(crops) * 3 * config.crop**2 > 4.9e6
    held = []
    with CropLoader(crops, len(crops) // 5, workers=2) as loader:
        for epochs in (2, 8):
            for _ in range(5 * epochs):
                next(loader)
            gc.collect()
            held.append(resident_mb())
    assert held[1] - held[0] < 12
