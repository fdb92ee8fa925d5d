import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smallobj.boxes import BoxTable, InputError
from smallobj.formats import describe
from smallobj.report.statistics_plot import plot_statistics


def test_a_table_is_counted(table_of: Callable[..., BoxTable]) -> None:
    table = table_of(
        {"a.png": [(0, 0, 0, 16, 16), (0, 0, 0, 8, 2)], "b.png": [], "c.png": [(0, 0, 0, 32, 32)]}
    )
    statistics = describe(table)
    assert (statistics.images, statistics.boxes, statistics.crowds) == (3, 3, 0)
    assert statistics.empty_images == ("b.png",)
    assert statistics.by_side == {"<16": 1, "16-32": 1, "32-64": 1, "64-100": 0, ">100": 0}
    assert statistics.side["p50"] == 16
    assert statistics.ratio["p100"] == 4
    assert statistics.by_ratio[">3:1"] == 1
    assert statistics.image_sizes == {"64 x 48": 3}
    car, bus = statistics.classes
    assert (car.boxes, car.images, car.median_side) == (3, 2, 16)
    assert (bus.boxes, bus.images, bus.median_side) == (0, 0, None)


def test_crowds_are_counted_apart(table_of: Callable[..., BoxTable]) -> None:
    table = table_of({"a.png": [(0, 0, 0, 16, 16)]})
    statistics = describe(dataclasses.replace(table, ignore=np.array([True])))
    assert (statistics.boxes, statistics.crowds) == (0, 1)
    assert statistics.empty_images == ()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_is_drawn(ending: str, tmp_path: Path, table_of: Callable[..., BoxTable]) -> None:
    table = table_of({"a.png": [(0, 0, 0, 16, 16)]}, names=["$1 bank_note^2$", "bus"])
    out = tmp_path / f"a.{ending}"
    plot_statistics(table, out, title="photos of $x$")
    if ending == "png":
        with Image.open(out) as image:
            assert min(image.size) > 500
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_nothing_is_drawn_as_well(tmp_path: Path, table_of: Callable[..., BoxTable]) -> None:
    plot_statistics(table_of({}, names=[]), tmp_path / "a.png", title="empty")
    assert describe(table_of({})).side == {}
    with pytest.raises(InputError, match=r"a picture ends in .png"):
        plot_statistics(table_of({}), tmp_path / "a.jpg", title="empty")
