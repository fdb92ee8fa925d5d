"""Outlines, texts and crops, pixel by pixel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smallobj.boxes import InputError
from smallobj.report.captions import load_font, place_text, shortened, text_size
from smallobj.report.crops import SIDE_PX, crop_window, enlarged_crop
from smallobj.report.drawing import Marks, Pen, draw_marks, with_legend
from smallobj.report.strokes import STYLES, outline

BOX = np.array([40.0, 30.0, 80.0, 70.0])
GREY = (100, 100, 100)


def grey(width: int = 160, height: int = 120) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def drawn(image: Image.Image) -> np.ndarray:
    """Which pixels differ from the grey they were, [H, W]."""
    return (np.asarray(image) != GREY).any(axis=2)


def dashes(line: np.ndarray) -> list[int]:
    """Lengths of the pieces drawn along a line of pixels."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def top_line(kind: str, *, box: np.ndarray = BOX) -> list[int]:
    image = grey()
    outline(image, box, STYLES[kind], width=2)
    return dashes(drawn(image)[int(box[1]) - 2, int(box[0]) - 2 : int(box[2]) + 2])


@pytest.mark.parametrize("side", [4, 10, 40])
def test_strokes_differ_without_their_colours(side: int) -> None:
    box = np.array([40.0, 30.0, 40 + side, 30 + side])
    right, wrong, missed = (top_line(kind, box=box) for kind in ("right", "wrong", "missed"))
    assert right == [side + 4]
    assert 1 < len(wrong) < len(missed)
    assert max(missed) < max(wrong)


@pytest.mark.parametrize("kind", STYLES)
def test_the_object_itself_is_not_drawn_over(kind: str) -> None:
    image = grey()
    corners = outline(image, BOX, STYLES[kind], width=3)
    changed = drawn(image)
    assert not changed[30:70, 40:80].any()
    assert changed.any()
    left, top, right, bottom = corners
    changed[top:bottom, left:right] = False
    assert not changed.any()


@given(
    st.lists(st.floats(-50, 250), min_size=4, max_size=4),
    st.sampled_from(sorted(STYLES)),
    st.integers(1, 9),
)
def test_every_box_shows_whatever_its_place(values: list[float], kind: str, width: int) -> None:
    x, y = sorted(values[:2]), sorted(values[2:])
    image = grey()
    outline(image, np.array([x[0], y[0], x[1], y[1]]), STYLES[kind], width=width)
    assert drawn(image).any()


def test_a_box_at_the_edge_of_the_image_has_four_sides() -> None:
    image = grey()
    outline(image, np.array([0.0, 0.0, 160.0, 120.0]), STYLES["right"], width=2)
    changed = drawn(image)
    assert changed[0].all()
    assert changed[-1].all()
    assert changed[:, 0].all()
    assert changed[:, -1].all()


def test_lines_and_letters_grow_with_the_photograph() -> None:
    small, large = Pen.for_size((640, 480)), Pen.for_size((5600, 4200))
    assert (small.width, small.letters) == (2, 12)
    assert (large.width, large.letters) == (6, 56)


def test_a_mix_up_of_classes_shows_both_strokes() -> None:
    image = grey()
    marks = Marks(kind=("wrong", "missed"), xyxy=np.stack([BOX, BOX]), text=("", ""))
    draw_marks(image, marks, Pen(width=2, letters=12))
    pixels = np.asarray(image).reshape(-1, 3).tolist()
    wrong, missed = (pixels.count(list(STYLES[kind].colour)) for kind in ("wrong", "missed"))
    alone = grey()
    draw_marks(alone, marks.part(0, 1), Pen(width=2, letters=12))
    assert wrong == np.asarray(alone).reshape(-1, 3).tolist().count(list(STYLES["wrong"].colour))
    assert missed > 100


def test_texts_hide_no_box_where_there_is_room() -> None:
    image = grey(400, 300)
    boxes = np.array([[100.0, 100, 130, 130], [100.0, 60, 130, 90], [140.0, 100, 170, 130]])
    marks = Marks(kind=("right",) * 3, xyxy=boxes, text=("bolt 0.90",) * 3)
    draw_marks(image, marks, Pen(width=2, letters=12))
    for left, top, right, bottom in boxes.astype(int):
        assert not drawn(image)[top:bottom, left:right].any()


def test_a_text_stays_inside_the_picture() -> None:
    taken = np.empty((0, 4))
    for frame in ((0, 0, 10, 10), (150, 110, 160, 120), (-90, 0, -80, 10)):
        x, y = place_text((50, 14), frame, (160, 120), taken)
        assert 0 <= x <= 110
        assert 0 <= y <= 106


def test_long_texts_are_cut_to_fit() -> None:
    font = load_font(12)
    text = shortened("a very long class name " * 20, font, 100)
    assert text.endswith("…")
    assert text_size(text, font)[0] <= 104
    assert shortened("nut", font, 100) == "nut"


def test_a_file_that_is_no_font_is_named(tmp_path: Path) -> None:
    (tmp_path / "font.ttf").write_text("no")
    with pytest.raises(InputError, match=r"font\.ttf: is no font"):
        load_font(12, tmp_path / "font.ttf")


def test_the_legend_leaves_the_picture_as_it_is() -> None:
    image = grey(300, 200)
    kinds = ("right", "wrong", "missed")
    sheet = with_legend(image, kinds, "a\nb" * 90, Pen.for_size(image.size))
    assert sheet.width == 300
    assert sheet.height > 200
    assert not drawn(sheet.crop((0, 0, 300, 200))).any()
    colours = np.asarray(sheet).reshape(-1, 3).tolist()
    assert all(list(STYLES[kind].colour) in colours for kind in kinds)


@given(
    st.lists(st.floats(-20, 300), min_size=4, max_size=4), st.integers(1, 400), st.integers(1, 400)
)
def test_a_crop_lies_in_the_picture_and_around_its_box(
    values: list[float], width: int, height: int
) -> None:
    x, y = sorted(values[:2]), sorted(values[2:])
    box = np.array([x[0], y[0], x[1], y[1]])
    left, top, right, bottom = crop_window(box, (width, height))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    inside = np.clip(box, 0, [width, height, width, height])
    if (inside == box).all():
        assert left <= x[0]
        assert x[1] <= right
        assert top <= y[0]
        assert y[1] <= bottom


def test_a_crop_shows_its_object_large_in_the_middle() -> None:
    image = grey(2800, 2100)
    image.paste((250, 0, 0), (1000, 700, 1012, 712))
    marks = Marks(
        kind=("missed", "right"),
        xyxy=np.array([[1000.0, 700, 1012, 712], [2000.0, 10, 2010, 20]]),
        text=("bolt", "bolt 0.90"),
    )
    crop = enlarged_crop(image, marks, 0)
    assert max(crop.size) == SIDE_PX
    pixels = np.asarray(crop).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert abs((rows[0] + rows[-1]) / 2 - SIDE_PX / 2) < 8
    assert abs((columns[0] + columns[-1]) / 2 - SIDE_PX / 2) < 8
    assert len(rows) == pytest.approx(12 * SIDE_PX / 48, abs=8)
    assert (np.asarray(crop) == STYLES["missed"].colour).all(axis=2).any()
    assert not (np.asarray(crop) == STYLES["right"].colour).all(axis=2).any()


def test_the_pen_takes_a_font_of_the_user() -> None:
    file = Path(load_font(12).path)
    assert replace(Pen.for_size((640, 480)), font=file).font == file
    assert load_font(12, file).getname() == load_font(12).getname()
