"""Crops show their boxes where they say, and depend on seed, epoch and index alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, InputError
from smallobj.datasets import Crop, CropConfig, CropLoader, Crops, ImageCache
from smallobj.datasets.loader import make_batch
from smallobj.datasets.windows import Window, background_window, boxes_in_window, window_around

Marked = tuple[BoxTable, list[Path]]
PLAIN = CropConfig(crop=96, balance=0).plain()


def crops_of(marked: Marked, config: CropConfig, seed: int = 0) -> Crops:
    table, paths = marked
    return Crops(table, paths, config, seed=seed, cache=ImageCache(50), pad=(100, 100, 100))


def same(a: Crop, b: Crop) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("symmetry", ["all", "mirror", "none"])
def test_a_box_lies_on_its_own_pixels(marked: Marked, symmetry: str) -> None:
    crops = crops_of(marked, replace(PLAIN, symmetry=symmetry))
    for index in range(len(crops)):
        image, xyxy, label = crops.crop(0, index)
        assert image.shape == (3, 96, 96)
        for (x1, y1, x2, y2), wanted in zip(xyxy.int().tolist(), label.tolist(), strict=True):
            inside = image[:, y1:y2, x1:x2]
            assert (inside[0 if wanted else 2] == 250).all()
            assert (inside[2 if wanted else 0] == 10).all()
        area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in xyxy.tolist())
        # What is coloured and not taught is less than 0.4 of a cut box.
        assert area <= int((image[1] == 10).sum()) <= area + 4 * 0.4 * 24 * 24


def test_a_scaled_crop_scales_its_boxes(marked: Marked) -> None:
    crops = crops_of(marked, replace(PLAIN, scale_jitter=1))
    sides = set()
    for index in range(len(crops)):
        image, xyxy, label = crops.crop(0, index)
        for (x1, y1, x2, y2), wanted in zip(xyxy.tolist(), label.tolist(), strict=True):
            middle = image[:, int((y1 + y2) / 2), int((x1 + x2) / 2)]
            assert middle[0 if wanted else 2] > 200
            sides.add(round(x2 - x1, 2))
    assert len(sides) > 12


def test_every_aimed_box_is_shown_whole_and_the_share_of_background_holds(marked: Marked) -> None:
    table, _ = marked
    crops = crops_of(marked, replace(PLAIN, background=0.25, symmetry="none", crops_per_image=3))
    order = crops.order(3)
    aimed = order[order[:, 1] >= 0]
    assert np.bincount(aimed[:, 0]).max() <= 3
    assert len(np.unique(aimed[:, 1])) == len(aimed)
    assert (table.image_index[aimed[:, 1]] == aimed[:, 0]).all()
    assert (order[:, 1] < 0).mean() == pytest.approx(0.25, abs=0.03)
    for index in np.flatnonzero(order[:, 1] >= 0):
        assert len(crops.crop(3, index).label) >= 1


def test_epochs_differ_and_have_one_length(marked: Marked) -> None:
    crops = crops_of(marked, PLAIN)
    assert len({len(crops.order(e)) for e in range(4)}) == 1
    assert not np.array_equal(crops.order(0), crops.order(1))


def test_a_crop_depends_on_seed_epoch_and_index_alone(marked: Marked) -> None:
    config = CropConfig(crop=64)
    forward, backward = crops_of(marked, config), crops_of(marked, config)
    places = [(e, i) for e in range(3) for i in range(len(forward))]
    first = {place: forward.crop(*place) for place in places}
    assert all(same(first[place], backward.crop(*place)) for place in reversed(places))
    other = crops_of(marked, config, seed=1)
    assert not all(same(first[place], other.crop(*place)) for place in places)


@pytest.mark.parametrize(("workers", "processes"), [(1, False), (3, False), (2, True)])
def test_batches_do_not_depend_on_workers_or_on_where_they_began(
    marked: Marked, workers: int, processes: bool
) -> None:
    crops = crops_of(marked, CropConfig(crop=64))
    with CropLoader(crops, 5, workers=0) as plain:
        wanted = [next(plain) for _ in range(12)]
    other = crops_of(marked, CropConfig(crop=64))
    with CropLoader(other, 5, workers=workers, processes=processes, first_step=4) as some:
        found = [next(some) for _ in range(8)]
    for a, b in zip(wanted[4:], found, strict=True):
        assert torch.equal(a.images, b.images)
        assert all(torch.equal(x, y) for x, y in zip(a.xyxy, b.xyxy, strict=True))
        assert all(torch.equal(x, y) for x, y in zip(a.label, b.label, strict=True))


@pytest.mark.parametrize(("workers", "processes"), [(0, False), (1, False), (3, False), (2, True)])
def test_a_batch_is_cut_by_the_config_that_holds_when_it_is_taken(
    marked: Marked, workers: int, processes: bool
) -> None:
    """What was cut ahead before it was known is cut again; which boxes are aimed at stays."""
    usual, later = CropConfig(crop=64), CropConfig(crop=64, colour=0, scale_jitter=0)
    crops, known = crops_of(marked, usual), False

    def config_at(step: int) -> CropConfig:
        return later if known and step >= 3 else usual

    with CropLoader(crops, 5, workers=workers, processes=processes, config_at=config_at) as loader:
        found = [next(loader) for _ in range(2)]
        known = True
        found += [next(loader) for _ in range(3)]
    for step, batch in enumerate(found):
        wanted = make_batch(crops, 5, step, later if step >= 3 else usual)
        assert torch.equal(batch.images, wanted.images)
    assert not torch.equal(found[3].images, make_batch(crops, 5, 3).images)


def test_images_without_a_box_are_background_and_none_at_all_is_no_crop(marked: Marked) -> None:
    table, paths = marked
    crops = crops_of(marked, replace(PLAIN, background=0.5))
    order = crops.order(0)
    assert (order[order[:, 0] == 4, 1] == -1).all()
    assert 4 in order[:, 0]
    empty = BoxTable.empty(table.images, table.classes, scored=False)
    assert len(crops_of((empty, paths), PLAIN)) == 0


def test_ignored_boxes_are_neither_aimed_at_nor_taught(marked: Marked) -> None:
    table, paths = marked
    red = BoxTable(
        images=table.images,
        classes=table.classes,
        offsets=table.offsets,
        xyxy=table.xyxy,
        label=table.label,
        ignore=table.label == 0,
    )
    crops = crops_of((red, paths), PLAIN)
    assert all((crops.crop(0, i).label == 1).all() for i in range(len(crops)))


def test_a_small_image_is_padded_with_the_given_colour(marked: Marked) -> None:
    table, paths = marked
    only = table.take_images([2])
    crops = Crops(only, [paths[2]], PLAIN, seed=0, cache=ImageCache(50), pad=(1, 2, 3))
    image = crops.crop(0, 0).image
    padded = (image == torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]).all(dim=0)
    assert int(padded.sum()) == 96 * 96 - 70 * 50


sides = st.integers(20, 200)


@settings(max_examples=200, deadline=None)
@given(st.tuples(sides, sides), sides, st.integers(0, 2**32), st.data())
def test_a_window_shows_the_box_whole_and_stays_inside(
    size: tuple[int, int], side: int, seed: int, data: st.DataObject
) -> None:
    x1, y1 = (data.draw(st.integers(0, extent - 10)) for extent in size)
    x2 = data.draw(st.integers(x1 + 1, min(size[0], x1 + side)))
    y2 = data.draw(st.integers(y1 + 1, min(size[1], y1 + side)))
    box = np.array([x1, y1, x2, y2], np.float64)
    window = window_around(box, size, (side, side), np.random.default_rng(seed))
    assert window.left <= x1
    assert x2 <= window.left + side
    assert window.top <= y1
    assert y2 <= window.top + side
    for start, extent in zip(window[:2], size, strict=True):
        assert min(0, extent - side) <= start <= max(0, extent - side)


def test_background_avoids_boxes_where_it_can() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[0.0, 0, 300, 1000], [0, 0, 1000, 300]])
    for _ in range(50):
        window = background_window(boxes, (1000, 1000), (100, 100), rng)
        assert not (window.left < 300 and window.top < 300 and window.left + 100 > 0)
    full = np.array([[0.0, 0, 1000, 1000]])
    assert background_window(full, (1000, 1000), (100, 100), rng)[2:] == (100, 100)


def test_a_cut_box_is_taught_where_enough_of_it_shows() -> None:
    boxes = np.array([[-10.0, 0, 10, 10], [-15, 0, 5, 10], [90, 90, 120, 95], [200, 0, 210, 10]])
    inside, kept = boxes_in_window(boxes, Window(0, 0, 100, 100), (100, 100), 0.4)
    assert kept.tolist() == [True, False, False, False]
    assert inside.tolist() == [[0, 0, 10, 10]]
    inside, _ = boxes_in_window(boxes[:1], Window(0, 0, 50, 50), (100, 100), 0.4)
    assert inside.tolist() == [[0, 0, 20, 20]]


def test_a_box_larger_than_the_crop_is_shown_in_part() -> None:
    rng = np.random.default_rng(0)
    window = window_around(np.array([100.0, 100, 500, 500]), (1000, 1000), (100, 100), rng)
    assert 100 <= window.left <= 400
    assert 100 <= window.top <= 400


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop", 8),
        ("background", 1.0),
        ("symmetry", "some"),
        ("colour", -1),
        ("mosaic", 1.1),
        ("paste", -0.1),
        ("balance", 2),
        ("scale", 0),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"field {field}"):
        CropConfig(**{field: value})  # type: ignore[arg-type]
