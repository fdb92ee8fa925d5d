"""Squashed samples: the whole image, boxes by two scales, what a squashed view sees."""

from pathlib import Path

import numpy as np
import pytest
import torch

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.datasets import (
    Crop,
    CropConfig,
    CropLoader,
    ImageCache,
    Squashed,
    colour_statistics,
    read_image,
    samples_of,
)
from smallobj.datasets.squash import squashed_boxes
from smallobj.tta import View

Marked = tuple[BoxTable, list[Path]]
PLAIN = CropConfig(input="squash", crop=96, colour=0, symmetry="none")


def squashed_of(marked: Marked, config: CropConfig = PLAIN, **options: float) -> Squashed:
    cache = ImageCache(options.get("cache_mb", 50.0), squash_px=config.crop)
    return Squashed(*marked, config, seed=int(options.get("seed", 0)), cache=cache)


def same(a: Crop, b: Crop) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_an_epoch_shows_every_image_once_those_without_a_box_too(marked: Marked) -> None:
    samples = squashed_of(marked)
    assert len(samples) == len(marked[1]) == 5
    orders = [samples.order(epoch).tolist() for epoch in range(4)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(map(tuple, orders))) > 1
    empty = samples.crop(0, orders[0].index(4))
    assert empty.xyxy.shape == (0, 4)
    assert empty.label.shape == (0,)


def test_a_sample_is_what_a_squashed_view_sees(marked: Marked) -> None:
    table, paths = marked
    samples = squashed_of(marked)
    for index, number in enumerate(samples.order(2).tolist()):
        sample = samples.crop(2, index)
        width, height = int(table.images.width[number]), int(table.images.height[number])
        (patch,) = View(squash_px=96).patches(width, height)
        assert torch.equal(sample.image, patch.forward(read_image(paths[number])))
        rows = table.rows(number)
        assert patch.boxes_back(sample.xyxy.double().numpy()) == pytest.approx(
            table.xyxy[rows], abs=1e-3
        )
        assert sample.label.tolist() == table.label[rows].tolist()


@pytest.mark.parametrize("symmetry", ["all", "mirror"])
def test_a_box_lies_on_its_own_pixels(marked: Marked, symmetry: str) -> None:
    config = CropConfig(input="squash", crop=256, colour=0, symmetry=symmetry)
    samples = squashed_of(marked, config)
    laid = set()
    for epoch in range(12):
        for index in range(len(samples)):
            image, xyxy, label = samples.crop(epoch, index)
            assert image.shape == (3, 256, 256)
            for (x1, y1, x2, y2), wanted in zip(xyxy.tolist(), label.tolist(), strict=True):
                middle = image[:, int((y1 + y2) / 2), int((x1 + x2) / 2)]
                assert middle[0 if wanted else 2] > 200
                assert middle[2 if wanted else 0] < 60
            laid.add(tuple(xyxy.flatten().tolist()))
    assert len(laid) > (12 if symmetry == "all" else 6)


def test_a_sample_depends_on_seed_epoch_and_index_alone(marked: Marked) -> None:
    config = CropConfig(input="squash", crop=64)
    forward, backward = squashed_of(marked, config), squashed_of(marked, config, cache_mb=0)
    places = [(e, i) for e in range(3) for i in range(5)]
    first = {place: forward.crop(*place) for place in places}
    assert all(same(first[place], backward.crop(*place)) for place in reversed(places))
    other = squashed_of(marked, config, seed=1)
    assert not all(same(first[place], other.crop(*place)) for place in places)


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_workers_or_on_where_they_began(
    marked: Marked, workers: int
) -> None:
    config = CropConfig(input="squash", crop=64)
    with CropLoader(squashed_of(marked, config), 3, workers=0) as plain:
        wanted = [next(plain) for _ in range(9)]
    some = CropLoader(squashed_of(marked, config), 3, workers=workers, first_step=4)
    with some:
        found = [next(some) for _ in range(5)]
    for a, b in zip(wanted[4:], found, strict=True):
        assert torch.equal(a.images, b.images)
        assert all(torch.equal(x, y) for x, y in zip(a.xyxy, b.xyxy, strict=True))


def test_the_cache_holds_the_squashed_image_alone(marked: Marked) -> None:
    _, paths = marked
    cache = ImageCache(1, squash_px=50)
    for path in paths:
        assert cache.read(path).shape == (50, 50, 3)
    assert cache.size_mb == pytest.approx(5 * 50 * 50 * 3 / 1e6)
    assert cache.read(paths[0]) is cache.read(paths[0])


def test_statistics_are_of_what_the_detector_sees(marked: Marked) -> None:
    cache = ImageCache(1, squash_px=50)
    seen = np.stack([cache.read(path) for path in marked[1]]).reshape(-1, 3)
    mean, std = colour_statistics(marked[1], cache)
    assert mean == pytest.approx(seen.mean(axis=0), abs=1e-3)
    assert std == pytest.approx(seen.std(axis=0), abs=1e-3)


def test_however_small_a_box_becomes_it_stays_while_it_has_an_area() -> None:
    boxes = np.array(
        [
            [0.0, 0, 2800, 2100],
            [1000, 1000, 1001, 1001],  # a tenth of a pixel
            [2799.5, 0, 2900, 10],  # reaches beyond the border
            [5, 5, 5 + 1e-9, 50],  # none in float32
        ]
    )
    squashed, kept = squashed_boxes(boxes, (2800, 2100), 300)
    assert kept.tolist() == [True, True, True, False]
    assert squashed[0].tolist() == [0, 0, 300, 300]
    assert squashed[1, 2:] - squashed[1, :2] == pytest.approx([300 / 2800, 1 / 7])
    assert squashed[2, 2] == 300


def test_ignored_boxes_are_not_taught_and_none_at_all_is_no_sample(marked: Marked) -> None:
    table, paths = marked
    columns = {"images": table.images, "classes": table.classes, "offsets": table.offsets}
    columns |= {"xyxy": table.xyxy, "label": table.label}
    red = BoxTable(**columns, ignore=table.label == 0)
    samples = squashed_of((red, paths))
    assert all((samples.crop(0, i).label == 1).all() for i in range(len(samples)))
    assert len(squashed_of((BoxTable(**columns, ignore=table.label >= 0), paths))) == 0


def test_input_chooses_between_crops_and_squashed_images(marked: Marked) -> None:
    table, paths = marked
    for config, kind in ((PLAIN, "Squashed"), (CropConfig(crop=96), "Crops")):
        cache = ImageCache(50, squash_px=config.squash_px)
        samples = samples_of(table, paths, config, seed=0, cache=cache, pad=(0, 0, 0))
        assert type(samples).__name__ == kind


def test_without_augmentation_the_colours_stay(marked: Marked) -> None:
    config = CropConfig(input="squash", crop=96, symmetry="none")
    samples, unchanged = squashed_of(marked, config), squashed_of(marked)
    for index in range(len(samples)):
        assert same(samples.crop(0, index, config.plain()), unchanged.crop(0, index))


def test_a_cache_or_a_table_that_does_not_fit_is_refused(marked: Marked) -> None:
    table, paths = marked
    with pytest.raises(ValueError, match="squashes to None, not to 96 px"):
        Squashed(table, paths, PLAIN, seed=0, cache=ImageCache(1))
    unsized = BoxTable.empty(Images.of(["a"]), Classes.of(["x"]), scored=False)
    with pytest.raises(ValueError, match="size of an image is unknown"):
        squashed_of((unsized, [Path("a")]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("background", 0.3),
        ("crops_per_image", 2),
        ("balance", 0.5),
        ("scale_jitter", 0.0),
        ("mosaic", 0.5),
        ("paste", 0.5),
        ("scale", 0.5),
        ("min_visible", 0.5),
    ],
)
def test_what_is_for_crops_alone_is_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"field {field}: is for crops"):
        CropConfig(input="squash", **{field: value})  # type: ignore[arg-type]
