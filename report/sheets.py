"""Contact sheets: many enlarged crops on a page, each with what it shows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from smallobj.report.captions import load_font, one_line, shortened, text_size, write

_COLUMNS, _ROWS = 8, 6
_TILE_PX = 200
_GAP_PX = 8
_LETTERS = 12
_PAPER = (255, 255, 255)


class Tile(NamedTuple):
    """One crop of a sheet."""

    file: Path
    lines: tuple[str, ...]  # below it, cut off where they are too long


def contact_sheets(
    tiles: Sequence[Tile], title: str, *, font: Path | None = None
) -> Iterator[Image.Image]:
    """Pages of 48 crops each, in their order; one page is in memory at a time."""
    page = _COLUMNS * _ROWS
    pages = -(-len(tiles) // page)
    for number in range(pages):
        shown = tiles[number * page : (number + 1) * page]
        yield _sheet(shown, f"{title}, page {number + 1} of {pages}", font)


def _sheet(tiles: Sequence[Tile], title: str, font_file: Path | None) -> Image.Image:
    font = load_font(_LETTERS, font_file)
    line = text_size("X", font)[1]
    most = max(len(tile.lines) for tile in tiles)
    step = (_TILE_PX + _GAP_PX, _TILE_PX + most * line + _GAP_PX)
    rows = -(-len(tiles) // _COLUMNS)
    head = line + 2 * _GAP_PX
    sheet = Image.new("RGB", (_COLUMNS * step[0] + _GAP_PX, rows * step[1] + head), _PAPER)
    write(sheet, (_GAP_PX, _GAP_PX), shortened(title, font, sheet.width), font, ground=_PAPER)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, _COLUMNS)
        left, top = _GAP_PX + column * step[0], head + row * step[1]
        with Image.open(tile.file) as crop:
            crop.thumbnail((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS)
            sheet.paste(crop, (left, top))
        for below, text in enumerate(tile.lines):
            place = (left, top + _TILE_PX + below * line)
            fitting = shortened(one_line(text), font, _TILE_PX - 4)
            write(sheet, place, fitting, font, ground=_PAPER)
    return sheet
