"""Boxes with class and score drawn on a picture: the one way in which this project draws them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from smallobj.boxes import Array
from smallobj.report.captions import load_font, one_line, place_text, shortened, text_size, write
from smallobj.report.judged import DETECTED, KINDS, MISSED, Judged
from smallobj.report.strokes import STYLES, Corners, outline

_PAPER = (255, 255, 255)
_SAMPLE_CHARACTERS = 2.0  # width of a stroke's sample in the legend, in letter heights


@dataclass(frozen=True, kw_only=True)
class Pen:
    """How thick lines and how large letters are, in pixels of the picture."""

    width: int
    letters: int
    font: Path | None = None  # a font file; DejaVu Sans where None

    @classmethod
    def for_size(cls, size: tuple[int, int], font: Path | None = None) -> "Pen":
        """A pen that stays readable where a large picture is shown at a screen's width."""
        longest = max(size)
        width, letters = max(2, round(longest / 900)), max(12, round(longest / 100))
        return cls(width=width, letters=letters, font=font)


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Boxes of one picture."""

    kind: tuple[str, ...]  # of KINDS
    xyxy: Array  # [K, 4], pixels of the picture
    text: tuple[str, ...]  # beside each box; empty: none

    def moved(self, offset: tuple[float, float], scale: float) -> "Marks":
        """The boxes in a picture cut out at `offset` (x, y) and enlarged `scale` times."""
        corner = np.array([*offset, *offset])
        return Marks(kind=self.kind, xyxy=(self.xyxy - corner) * scale, text=self.text)

    def part(self, start: int, stop: int) -> "Marks":
        """The boxes from `start` to `stop`."""
        kept = slice(start, stop)
        return Marks(kind=self.kind[kept], xyxy=self.xyxy[kept], text=self.text[kept])


def marks_of(shown: Judged, image: int) -> Marks:
    """The boxes of one image, each with its class, and its score where it was detected."""
    rows = shown.rows(image)
    return Marks(
        kind=tuple(KINDS[kind] for kind in shown.kind[rows]),
        xyxy=shown.xyxy[rows],
        text=tuple(box_text(shown, row) for row in range(rows.start, rows.stop)),
    )


def box_text(shown: Judged, row: int) -> str:
    """What stands beside a box: `scratch 0.87`; a missed one has no score."""
    name = one_line(shown.classes.names[shown.label[row]])
    score = shown.score[row]
    return name if np.isnan(score) else f"{name} {score:.2f}"


def draw_marks(image: Image.Image, marks: Marks, pen: Pen) -> None:
    """Draw boxes and their texts onto a picture, missed ones last so that nothing hides them."""
    order = sorted(range(len(marks.kind)), key=lambda i: marks.kind[i] == MISSED)
    frames: dict[int, Corners] = {}
    xyxy = _apart(marks, step=2.0 * pen.width + 1)
    for i in order:
        frames[i] = outline(image, xyxy[i], STYLES[marks.kind[i]], width=pen.width)
    texts = [i for i in order if marks.text[i]]
    if not texts:
        return
    font = load_font(pen.letters, pen.font)
    taken = np.concatenate([np.array([frames[i] for i in order], float), np.zeros((len(texts), 4))])
    for number, i in enumerate(texts):
        text = shortened(marks.text[i], font, image.width - 8)
        size = text_size(text, font)
        x, y = place_text(size, frames[i], image.size, taken[: len(order) + number])
        write(image, (x, y), text, font, ground=STYLES[marks.kind[i]].colour)
        taken[len(order) + number] = (x, y, x + size[0], y + size[1])


def _apart(marks: Marks, *, step: float) -> Array:
    """The boxes [K, 4], missed ones `step` wider where another box has their very outline.

    So both strokes are seen where a box was found but called by another class.
    """
    xyxy = marks.xyxy.astype(np.float64)
    missed = np.array([kind == MISSED for kind in marks.kind], np.bool_)
    if not missed.any() or missed.all():
        return xyxy
    apart = np.abs(xyxy[missed][:, None] - xyxy[~missed][None]).max(axis=2).min(axis=1)
    close = np.flatnonzero(missed)[apart < step]
    xyxy[close] += [-step, -step, step, step]
    return xyxy


def with_legend(image: Image.Image, kinds: Sequence[str], note: str, pen: Pen) -> Image.Image:
    """The picture with a strip below it that tells the strokes, and `note` beside them."""
    font = load_font(pen.letters, pen.font)
    line = text_size("X", font)[1] + 2 * pen.width + 4
    rows = list(_lines(kinds, note, pen, image.width))
    sheet = Image.new("RGB", (image.width, image.height + line * len(rows)), _PAPER)
    sheet.paste(image)
    for number, row in enumerate(rows):
        top = image.height + number * line
        for kind, text, x in row:
            if kind is not None:
                right = x + _SAMPLE_CHARACTERS * pen.letters
                sample = np.array([x + 3 * pen.width, top + line * 0.3, right, top + line * 0.7])
                outline(sheet, sample, STYLES[kind], width=pen.width)
            place = (x + (_sample_width(pen) if kind else 0), top + pen.width + 2)
            write(sheet, place, text, font, ground=_PAPER)
    return sheet


def _sample_width(pen: Pen) -> int:
    return round(_SAMPLE_CHARACTERS * pen.letters) + 4 * pen.width


def _lines(
    kinds: Sequence[str], note: str, pen: Pen, width: int
) -> Iterator[list[tuple[str | None, str, int]]]:
    """Entries (kind, text, x) of the legend, broken into lines that fit `width` pixels."""
    font = load_font(pen.letters, pen.font)
    entries: list[tuple[str | None, str]] = [
        (kind, f"{kind}: {STYLES[kind].stroke}") for kind in kinds if kind != DETECTED
    ]
    entries += [(None, one_line(note))] if note else []
    line: list[tuple[str | None, str, int]] = []
    x = 2
    for kind, text in entries:
        sample = _sample_width(pen) if kind else 0
        fitting = shortened(text, font, width - sample - 8)
        needed = sample + text_size(fitting, font)[0] + pen.letters
        if line and x + needed > width:
            yield line
            line, x = [], 2
        line.append((kind, fitting, x))
        x += needed
    if line:
        yield line
