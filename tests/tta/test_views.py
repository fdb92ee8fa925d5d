"""Views and patches: marked pixels, coverage, and boxes at tile edges."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import InputError
from smallobj.tta import SYMMETRIES, Light, Patch, Tiling, View, auto_tiling, distinct_looks, looks
from smallobj.tta.tiling import spans

SIZES = [(1, 1), (1, 7), (2, 2), (2, 3), (5, 5), (6, 4), (31, 17), (64, 48), (101, 40)]


def marked(width: int, height: int, x: int, y: int) -> torch.Tensor:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, y, x] = 255
    return image


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SYMMETRIES)
def test_a_symmetry_moves_a_marked_pixel_with_its_box(name: str, size: tuple[int, int]) -> None:
    width, height = size
    (patch,) = View(symmetry=SYMMETRIES[name]).patches(width, height)
    for x, y in product({0, width // 3, width - 1}, {0, height // 2, height - 1}):
        seen = patch.forward(marked(width, height, x, y))
        assert seen.shape == (3, *patch.size)
        row, column = (int(i[0]) for i in torch.nonzero(seen[0], as_tuple=True))
        back = patch.boxes_back(np.array([[column, row, column + 1.0, row + 1.0]]))
        assert back.tolist() == [[x, y, x + 1, y + 1]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SYMMETRIES)
def test_every_tile_in_every_light_moves_a_marked_pixel_with_its_box(
    name: str, size: tuple[int, int]
) -> None:
    width, height = size
    tilings = (None, Tiling(side_px=5, overlap_px=2), Tiling(side_px=16, overlap_px=7))
    lights = (Light(brightness=0.8), Light(contrast=1.3), Light(brightness=1.2, contrast=0.5))
    for tiling, light in product(tilings, lights):
        view = View(symmetry=SYMMETRIES[name], tiling=tiling, light=light)
        for x, y in {(0, 0), (width // 3, height // 2), (width - 1, height - 1)}:
            found = 0
            for patch in view.patches(width, height):
                left, top, right, bottom = patch.crop
                if not (left <= x < right and top <= y < bottom):
                    continue
                seen = patch.forward(marked(width, height, x, y))[0]
                assert seen.shape == patch.size
                row, column = divmod(int(seen.flatten().argmax()), seen.shape[1])
                back = patch.boxes_back(np.array([[column, row, column + 1.0, row + 1.0]]))
                assert back.tolist() == [[x, y, x + 1, y + 1]]
                found += 1
            assert found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 3.0])
def test_a_pixel_comes_back_from_any_scale_to_half_a_pixel_of_the_patch(
    scale: float, name: str, size: tuple[int, int]
) -> None:
    """The brightest cell of the patch, moved back, lies within half its size of the pixel."""
    width, height = size
    view = View(symmetry=SYMMETRIES[name], scale=scale)
    (patch,) = view.patches(width, height)
    across, down = patch.scale
    for x, y in {(0, 0), (width // 3, height // 2), (width - 1, height - 1)}:
        seen = patch.forward(marked(width, height, x, y))[0]
        row, column = divmod(int(seen.flatten().argmax()), seen.shape[1])
        back = patch.boxes_back(np.array([[column, row, column + 1.0, row + 1.0]]))[0]
        off_x, off_y = (back[:2] + back[2:]) / 2 - (x + 0.5, y + 0.5)
        assert abs(off_x) <= max(0.5, 0.5 / across) + 1e-9
        assert abs(off_y) <= max(0.5, 0.5 / down) + 1e-9


@pytest.mark.parametrize("size", [*SIZES, (640, 3), (2, 333)])
@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize("side", [1, 7, 32, 150])
def test_a_mark_comes_back_from_a_squashed_image_by_two_scales(
    side: int, name: str, size: tuple[int, int]
) -> None:
    """The brightest cell of the patch, moved back, lies on the mark, to half a cell on each axis.

    The mark is one and a half cells large, as a single pixel of a large image would be lost.
    """
    width, height = size
    light = Light(brightness=0.9)
    (patch,) = View(symmetry=SYMMETRIES[name], squash_px=side, light=light).patches(width, height)
    assert patch.size == (side, side)
    assert patch.scale == (side / width, side / height)
    assert not any(patch.inner_edges)
    cell = np.array([width / side, height / side])
    mark = np.minimum(np.ceil(1.5 * cell).astype(int), size)
    for share in ((0, 0), (1, 1), (0.3, 0.6), (1, 0)):
        x, y = (int(s * free) for s, free in zip(share, size - mark, strict=True))
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        image[:, y : y + mark[1], x : x + mark[0]] = 255
        seen = patch.forward(image)[0]
        row, column = divmod(int(seen.flatten().argmax()), side)
        back = patch.boxes_back(np.array([[column, row, column + 1.0, row + 1.0]]))[0]
        assert back[2:] - back[:2] == pytest.approx(cell)
        centre = (back[:2] + back[2:]) / 2
        assert (centre >= (x, y) - cell / 2 - 1e-9).all()
        assert (centre <= (x, y) + mark + cell / 2 + 1e-9).all()


def test_squashed_back_from_a_whole_patch_is_the_whole_image() -> None:
    for symmetry in SYMMETRIES.values():
        (patch,) = View(symmetry=symmetry, squash_px=300).patches(2800, 2100)
        assert patch.boxes_back(np.array([[0.0, 0, 300, 300]])).tolist() == [[0, 0, 2800, 2100]]
    (patch,) = View(symmetry=SYMMETRIES["hflip"], squash_px=300).patches(600, 1500)
    assert patch.boxes_back(np.array([[0.0, 0, 30, 60]])).tolist() == [[540, 0, 600, 300]]


@pytest.mark.parametrize(
    "settings", [{"whole_px": 64}, {"tiling": Tiling()}, {"scale": 0.5}], ids=str
)
def test_a_squashed_view_is_nothing_else(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="squashed"):
        View(squash_px=300, **settings)


def test_light_moves_pixels_from_middle_grey_then_makes_them_brighter() -> None:
    values = torch.tensor([0, 64, 127, 128, 200, 255], dtype=torch.uint8).reshape(1, 1, 6)
    image = values.expand(3, 1, 6)
    by_hand = {
        Light(brightness=0.8): [0, 51, 102, 102, 160, 204],
        Light(brightness=2.0): [0, 128, 254, 255, 255, 255],
        Light(contrast=2.0): [0, 0, 126, 128, 255, 255],
        Light(contrast=0.5, brightness=0.5): [32, 48, 64, 64, 82, 96],
    }
    for light, expected in by_hand.items():
        seen = light.forward(image)
        assert seen.dtype == torch.uint8
        assert seen[0, 0].tolist() == pytest.approx(expected, abs=1)
    assert Light().forward(image) is image


def test_light_looks_alike_in_every_tile() -> None:
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    light = Light(brightness=1.2, contrast=0.8)
    (whole,) = View(light=light).patches(120, 90)
    changed = whole.forward(image)
    for patch in View(light=light, tiling=Tiling(side_px=40, overlap_px=10)).patches(120, 90):
        left, top, right, bottom = patch.crop
        assert torch.equal(patch.forward(image), changed[:, top:bottom, left:right])


def test_turns_go_the_way_numpy_turns() -> None:
    image = torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6).expand(3, 4, 6)
    for quarters, name in enumerate(["identity", "rot90", "rot180", "rot270"]):
        turned = np.rot90(image[0].numpy(), quarters)
        assert (SYMMETRIES[name].forward(image)[0].numpy() == turned).all()


@pytest.mark.parametrize(("first", "second"), product(SYMMETRIES, SYMMETRIES))
def test_two_symmetries_are_one(first: str, second: str) -> None:
    image = torch.arange(6, dtype=torch.uint8).reshape(1, 2, 3)
    a, b = SYMMETRIES[first], SYMMETRIES[second]
    assert torch.equal(a.then(b).forward(image), b.forward(a.forward(image)))


@pytest.mark.parametrize("scale", [0.3, 0.75, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("size", [(40, 40), (61, 37), (38, 90)])
@pytest.mark.parametrize("name", ["identity", "hflip", "rot90", "antitranspose"])
def test_a_scaled_square_comes_back_to_half_a_pixel(
    name: str, size: tuple[int, int], scale: float
) -> None:
    """The centre of brightness of a square, found in the patch, is the square's own centre."""
    width, height = size
    truth = np.array([width // 2 - 6, 9, width // 2 + 4, 19], float)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, 9:19, width // 2 - 6 : width // 2 + 4] = 250
    (patch,) = View(symmetry=SYMMETRIES[name], scale=scale).patches(width, height)
    seen = patch.forward(image)[0].double()
    assert tuple(seen.shape) == patch.size
    rows, columns = torch.arange(patch.size[0]) + 0.5, torch.arange(patch.size[1]) + 0.5
    y = float((seen.sum(1) * rows).sum() / seen.sum())
    x = float((seen.sum(0) * columns).sum() / seen.sum())
    back = patch.boxes_back(np.array([[x, y, x, y]]))[0]
    assert back[:2] == pytest.approx((truth[:2] + truth[2:]) / 2, abs=0.25)
    total = float(seen.sum()) / 250 / np.prod(patch.scale)
    assert total == pytest.approx(100, rel=0.03)


@given(
    st.integers(1, 3000),
    st.integers(1, 700),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_spans_cover_an_axis_with_the_wanted_overlap(
    length: int, side: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, side - 1).filter(lambda o: side - o > side // 20))
    pieces = spans(length, Tiling(side_px=side, overlap_px=overlap))
    assert pieces[0].start == 0
    assert pieces[-1].stop == length
    assert pieces[0].overlap_before == pieces[-1].overlap_after == 0
    if len(pieces) > 1:
        assert all(piece.stop - piece.start == side for piece in pieces)
    for left, right in pairwise(pieces):
        assert left.start < right.start
        assert left.stop - right.start == left.overlap_after == right.overlap_before >= overlap


@given(
    st.floats(0, 980),
    st.floats(1, 300),
    st.integers(100, 400),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_some_tile_keeps_every_object(
    start: float, length: float, side: int, data: st.DataObject
) -> None:
    """However an object lies, one tile does not leave it to a neighbour; a small one whole."""
    tiling = Tiling(side_px=side, overlap_px=data.draw(st.integers(0, side // 2)))
    stop = min(start + length, 1000.0)
    truth = np.array([[start, 10.0, stop, 30.0]])
    kept = []
    for patch in View(tiling=tiling).patches(1000, 40):
        left, top, right, bottom = patch.crop
        part = np.clip(truth, (left, top, left, top), (right, bottom, right, bottom))
        if part[0, 2] > part[0, 0] and not patch.seen_whole_next_door(part)[0]:
            kept.append(part)
    assert kept
    if stop - start < tiling.overlap_px - 5:
        assert all((part == truth).all() for part in kept)


def test_a_tile_knows_its_inner_edges() -> None:
    patches = View(tiling=Tiling(side_px=100, overlap_px=20)).patches(180, 60)
    assert [patch.crop for patch in patches] == [(0, 0, 100, 60), (80, 0, 180, 60)]
    assert patches[0].inner_edges == (False, False, True, False)
    assert patches[1].inner_edges == (True, False, False, False)


def test_an_image_little_larger_than_a_tile_is_seen_whole() -> None:
    tiled = View(tiling=Tiling(side_px=100, overlap_px=20))
    assert len(tiled.patches(125, 90)) == 1
    assert len(tiled.patches(126, 90)) == 2


def test_whole_shrinks_to_its_side_and_never_grows() -> None:
    view = View(whole_px=640)
    (patch,) = view.patches(2800, 2100)
    assert (patch.width, patch.height) == (640, 480)
    (patch,) = view.patches(300, 200)
    assert (patch.width, patch.height) == (300, 200)


def test_views_that_come_to_the_same_patches_count_once() -> None:
    views = (View(tiling=Tiling()), View(whole_px=640))
    assert len(looks(views, 2000, 2000)) == 2
    assert len(looks(views, 500, 400)) == 1
    assert list(distinct_looks(views, 2000, 2000).values()) == [0, 1]
    small = distinct_looks((View(scale=2), *views, View()), 500, 400)
    assert list(small.values()) == [0, 1]
    assert len(looks((View(), View(light=Light(contrast=0.5))), 500, 400)) == 2
    assert len(looks((View(), View(squash_px=300)), 300, 300)) == 1


def test_scale_uses_the_rounded_size() -> None:
    (patch,) = View(scale=0.5).patches(5, 1)
    assert (patch.width, patch.height) == (2, 1)
    assert patch.boxes_back(np.array([[0.0, 0, 2, 1]])).tolist() == [[0, 0, 5, 1]]


def test_auto_tiles_hold_the_largest_object_in_the_overlap() -> None:
    assert auto_tiling(train_crop_px=192, largest_object_px=70.5, stride=32) == Tiling(
        side_px=640, overlap_px=96
    )
    assert auto_tiling(train_crop_px=192, largest_object_px=400, stride=32) == Tiling(
        side_px=832, overlap_px=416
    )
    assert auto_tiling(train_crop_px=512, largest_object_px=9000, stride=32) == Tiling(
        side_px=2048, overlap_px=1024
    )
    assert auto_tiling(train_crop_px=192, largest_object_px=400, stride=32, side_px=300) == Tiling(
        side_px=300, overlap_px=150
    )


@pytest.mark.parametrize(("side", "overlap"), [(0, 0), (64, 64), (64, 100), (64, -1)])
def test_a_tile_smaller_than_its_overlap_is_refused(side: int, overlap: int) -> None:
    with pytest.raises(InputError):
        Tiling(side_px=side, overlap_px=overlap)


def test_patches_are_values() -> None:
    patch = Patch(crop=(0, 0, 4, 4), width=4, height=4)
    with pytest.raises(AttributeError):
        patch.width = 5  # type: ignore[misc]
    assert patch == Patch(crop=(0, 0, 4, 4), width=4, height=4)
