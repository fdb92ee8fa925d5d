"""What is put together or pasted lies on its own pixels, and nothing to be found lacks its box."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from smallobj.boxes import Array, BoxTable, Classes, Images
from smallobj.datasets import Crop, CropConfig, Crops, ImageCache
from smallobj.datasets.augment import SYMMETRIES
from smallobj.datasets.mosaic import put_together, quadrants
from smallobj.datasets.order import epoch_order, same_group
from smallobj.datasets.paste import blend, free_place, laid, opacity, pasted, piece_of
from smallobj.datasets.windows import Cut

Marked = tuple[BoxTable, list[Path]]
PLAIN = CropConfig(crop=128, balance=0).plain()
COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))
GREY = (100, 100, 100)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Marked:
    """Twelve grey images of coloured squares that lie apart; the colour is the class."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(3)
    index, boxes, labels, paths = [], [], [], []
    for i in range(12):
        pixels = np.full((150, 210, 3), GREY, np.uint8)
        for x in range(5, 180, 50):
            y, side, label = rng.integers(5, 115), rng.integers(9, 31), rng.integers(3)
            pixels[y : y + side, x : x + side] = COLOURS[label]
            index.append(i)
            boxes.append((x, y, x + side, y + side))
            labels.append(label)
        paths.append(folder / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    table = BoxTable.build(
        images=Images.of([path.name for path in paths], [(210, 150)] * 12),
        classes=Classes.of(["red", "green", "blue"]),
        image_index=np.array(index),
        xyxy=np.array(boxes, np.float64),
        label=np.array(labels),
    )
    return table, paths


def crops_of(marked: Marked, config: CropConfig, seed: int = 0) -> Crops:
    table, paths = marked
    return Crops(table, paths, config, seed=seed, cache=ImageCache(50), pad=GREY)


def taught(crop: Crop) -> Tensor:
    """Which pixels lie in a box, each of which must be of its class's colour throughout."""
    inside = torch.zeros(crop.image.shape[1:], dtype=torch.bool)
    for (x1, y1, x2, y2), label in zip(crop.xyxy.int().tolist(), crop.label.tolist(), strict=True):
        colour = torch.tensor(COLOURS[label], dtype=torch.uint8)
        assert (crop.image[:, y1:y2, x1:x2] == colour[:, None, None]).all()
        assert not inside[y1:y2, x1:x2].any()
        inside[y1:y2, x1:x2] = True
    return inside


@pytest.mark.parametrize("symmetry", ["all", "none"])
@pytest.mark.parametrize(
    ("mosaic", "paste"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)]
)
def test_every_square_lies_in_its_box_and_only_slivers_have_none(
    squares: Marked, symmetry: str, mosaic: float, paste: float
) -> None:
    """A sliver is at most 0.4 of a cut square; all visible pixels are taught with min_visible 0."""
    config = replace(PLAIN, symmetry=symmetry, mosaic=mosaic, paste=paste)
    whole = crops_of(squares, replace(config, min_visible=0))
    some = crops_of(squares, config)
    slivers = 0
    for index in range(len(some)):
        crop = whole.crop(1, index)
        assert torch.equal((crop.image != 100).any(dim=0), taught(crop))
        crop = some.crop(1, index)
        left = (crop.image != 100).any(dim=0) & ~taught(crop)
        slivers += int(left.any())
        assert int(left.sum()) <= 8 * 0.4 * 31**2
    assert slivers > 0


def test_a_mosaic_shows_more_images_and_aims_at_four_places(squares: Marked) -> None:
    found = {
        mosaic: crops_of(squares, replace(PLAIN, mosaic=mosaic, background=0)) for mosaic in (0, 1)
    }
    boxes = {m: [len(c.crop(0, i).label) for i in range(len(c))] for m, c in found.items()}
    assert min(boxes[1]) >= 1
    assert np.mean(boxes[1]) > np.mean(boxes[0])


def test_quadrants_cover_the_square_once_and_meet_in_its_middle_half() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = np.zeros((96, 96), int)
        for left, top, width, height in quadrants(96, rng):
            count[top : top + height, left : left + width] += 1
            assert 24 <= width <= 72
            assert 24 <= height <= 72
        assert (count == 1).all()


def test_boxes_move_with_their_quadrants() -> None:
    places = quadrants(64, np.random.default_rng(1))
    cuts = [
        Cut(
            np.full((place.height, place.width, 3), i, np.uint8),
            np.array([[1.0, 2, 5, 7]]),
            np.array([i], np.int32),
        )
        for i, place in enumerate(places)
    ]
    whole = put_together(places, cuts, 64)
    for (x1, y1, x2, y2), label in zip(whole.xyxy.astype(int), whole.label, strict=True):
        assert (whole.pixels[y1:y2, x1:x2] == label).all()
        assert (x1 - 1, y1 - 2) == places[label][:2]


def test_partners_are_images_that_are_in_memory_together(
    squares: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smallobj.datasets.order.IMAGES_AT_A_TIME", 3)
    order = epoch_order(squares[0], 0.2, 4, np.random.default_rng(0))
    assert (np.diff(order[:, 2]) >= 0).all()
    for index in range(len(order)):
        group = same_group(order, index)
        assert (group == order[index]).all(axis=1).any()
        assert len(np.unique(group[:, 0])) <= 3
        assert set(group[:, 2]) == {order[index, 2]}


def painted(boxes: list[list[float]], side: int = 80) -> tuple[np.ndarray, Array, np.ndarray]:
    """A grey image whose boxes are red."""
    image = np.full((side, side, 3), GREY, np.uint8)
    for x1, y1, x2, y2 in np.array(boxes).astype(int):
        image[y1:y2, x1:x2] = COLOURS[0]
    return image, np.array(boxes, np.float64), np.zeros(len(boxes), np.int32)


@pytest.mark.parametrize(
    ("boxes", "fits"),
    [
        ([[10, 10, 30, 20]], True),
        ([[0, 10, 30, 20]], True),  # at the border, without a margin there
        ([[10, 10, 42, 20]], True),
        ([[10, 10, 43, 20]], False),  # longer than half of the crop
        ([[10, 10, 30, 20], [33, 10, 40, 20]], False),  # a neighbour in the margin
        ([[10, 10, 30, 20], [34, 10, 40, 20]], True),
    ],
)
def test_only_small_objects_without_neighbours_are_pasted(
    boxes: list[list[float]], fits: bool
) -> None:
    piece = piece_of(*painted(boxes), 0, scale=1, crop_px=64)
    assert (piece is not None) == fits


@pytest.mark.parametrize("symmetry", SYMMETRIES["all"])
def test_a_laid_piece_keeps_its_box_on_its_pixels(symmetry: object) -> None:
    piece = piece_of(*painted([[2, 10, 30, 20]]), 0, scale=1, crop_px=64)
    assert piece is not None
    turned = laid(piece, symmetry)  # type: ignore[arg-type]
    x1, y1, x2, y2 = turned.xyxy[0].astype(int)
    red = (turned.pixels == COLOURS[0]).all(axis=2)
    assert red[y1:y2, x1:x2].all()
    assert red.sum() == (x2 - x1) * (y2 - y1) == 280


def test_a_scaled_piece_scales_its_box() -> None:
    piece = piece_of(*painted([[20, 10, 40, 20]]), 0, scale=0.5, crop_px=64)
    assert piece is not None
    sides = piece.xyxy[0, 2:] - piece.xyxy[0, :2]
    assert sides == pytest.approx([10, 5], abs=0.2)
    assert piece.pixels.shape == (9, 14, 3)


def test_a_piece_is_whole_in_its_box_and_fades_around_it() -> None:
    share = opacity(12, 4.2, 7.9)
    assert share.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert opacity(5, 0, 5).tolist() == [1] * 5
    under = np.zeros((12, 12, 3), np.uint8)
    piece = Cut(
        np.full((12, 12, 3), 200, np.uint8), np.array([[4.0, 4, 8, 8]]), np.zeros(1, np.int32)
    )
    blend(under, piece)
    assert (under[4:8, 4:8] == 200).all()
    assert under[4, :5, 0].tolist() == [40, 80, 120, 160, 200]


def test_pasted_objects_cover_no_box() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[0.0, 0, 60, 30], [40, 35, 64, 64]])
    piece = piece_of(*painted([[20, 10, 30, 20]]), 0, scale=1, crop_px=64)
    assert piece is not None
    under = Cut(np.zeros((64, 64, 3), np.uint8), boxes, np.zeros(2, np.int32))
    counts = set()
    for _ in range(30):
        result = pasted(under, [piece] * 3, rng)
        for x1, y1, x2, y2 in boxes.astype(int):
            assert (result.pixels[y1:y2, x1:x2] == 0).all()
        new = result.xyxy[2:]
        for i, (x1, y1, x2, y2) in enumerate(new):
            rest = np.delete(new, i, axis=0)
            assert (
                (rest[:, 0] >= x2) | (rest[:, 2] <= x1) | (rest[:, 1] >= y2) | (rest[:, 3] <= y1)
            ).all()
        counts.add(len(new))
    assert (under.pixels == 0).all()
    assert max(counts) >= 1
    assert free_place(np.array([[0.0, 0, 64, 64]]), (5, 5), 64, rng) is None
    assert free_place(boxes[:0], (65, 5), 64, rng) is None


def test_pasted_objects_are_of_other_images(squares: Marked) -> None:
    """Of one image there is nothing to paste."""
    table, paths = squares
    one = (table.take_images([0]), paths[:1])
    plain, paste = (crops_of(one, replace(PLAIN, paste=share)) for share in (0.0, 1.0))
    assert {len(plain.crop(0, i).label) for i in range(len(plain))} <= set(range(5))
    assert all(len(paste.crop(0, i).label) <= 4 for i in range(len(paste)))
    many = crops_of(squares, replace(PLAIN, paste=1.0, background=0.5))
    empty = [i for i in range(len(many)) if many.order(0)[i, 1] < 0]
    assert np.mean([len(many.crop(0, i).label) > 0 for i in empty]) > 0.5


LEVERS = CropConfig(crop=96, mosaic=0.5, paste=0.5, balance=0.5)


@pytest.mark.parametrize(
    "config",
    [LEVERS, LEVERS.plain(), replace(LEVERS, crop=48, scale=0.5)],
    ids=["levers", "plain", "half"],
)
def test_a_crop_depends_on_seed_epoch_index_and_config_alone(
    squares: Marked, config: CropConfig
) -> None:
    """Whatever config the crops were made with, and in whatever order they are cut."""
    forward, backward = crops_of(squares, LEVERS), crops_of(squares, LEVERS)
    places = [(e, i) for e in range(2) for i in range(len(forward))]
    first = {place: forward.crop(*place, config) for place in places}
    for place in reversed(places):
        again = backward.crop(*place, config)
        assert all(torch.equal(x, y) for x, y in zip(first[place], again, strict=True))
    other = crops_of(squares, LEVERS, seed=1)
    assert any(not torch.equal(first[p].image, other.crop(*p, config).image) for p in places)


def test_a_lower_scale_shows_the_same_field_in_fewer_pixels(squares: Marked) -> None:
    crops = crops_of(squares, replace(PLAIN, symmetry="none"))
    half = replace(PLAIN, symmetry="none", crop=64, scale=0.5)
    for index in range(len(crops)):
        native, low = crops.crop(0, index), crops.crop(0, index, half)
        assert low.image.shape == (3, 64, 64)
        assert torch.equal(low.label, native.label)
        assert torch.allclose(2 * low.xyxy, native.xyxy, atol=1e-4)


def test_a_plain_crop_is_the_photograph_itself(squares: Marked) -> None:
    """No augmentation is left but symmetry: every pixel is one of the four painted colours."""
    crops = crops_of(squares, LEVERS)
    painted_colours = torch.tensor([GREY, *COLOURS])
    for index in range(len(crops)):
        image = crops.crop(0, index, LEVERS.plain()).image
        colours = torch.unique(image.flatten(1).T, dim=0)
        assert (colours[:, None] == painted_colours).all(dim=2).any(dim=1).all()
