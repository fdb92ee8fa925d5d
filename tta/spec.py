"""The words of `--views`: comma multiplies, `|` lists alternatives, the identity is included."""

import math
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from smallobj.boxes import InputError
from smallobj.tta.light import Light
from smallobj.tta.symmetry import IDENTITY, SYMMETRIES, Symmetry
from smallobj.tta.tiling import Tiling
from smallobj.tta.view import View

SETS = {
    "flips": "hflip|vflip|rot180",
    "rotations": "rot90|rot180|rot270",
    "d4": "|".join(SYMMETRIES),
}
_CUTS = ("tile", "whole", "squash")
_SETTINGS = ("scale", "brightness", "contrast", *_CUTS)
_ONLY = "only:"
_LARGEST_SCALE = 16.0
_LARGEST_SQUASH_PX = 8192
Setting = TypeVar("Setting")
_MOST_LIGHT = 4.0
KNOWN = (
    *SYMMETRIES,
    *SETS,
    "scale=S",
    "brightness=F",
    "contrast=F",
    "tile=N",
    "tile=N:OVERLAP",
    "whole",
    "whole=N",
    "squash=N",
)


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """Which part of an image a view hands over at once: at most one of these."""

    tiling: Tiling | None = None
    whole_px: int | None = None
    squash_px: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What one alternative does to the view that looks plainly; None: leaves it."""

    symmetry: Symmetry = IDENTITY
    scale: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    cut: _Cut | None = None


def parse_views(
    spec: str, *, tiling: Tiling | None = None, squash_px: int | None = None
) -> tuple[View, ...]:
    """The views that a text names, each once, the plain one first.

    Factors stand between commas and are multiplied; the alternatives of a factor stand between `|`,
    and looking plainly is always one of them unless the factor begins with `only:`. A number after
    `|` goes on with the setting before it: `hflip,scale=0.75|1` is {identity, hflip} x {0.75, 1}.
    `tiling` cuts, or `squash_px` squashes, every view that does not say otherwise. Raises
    InputError for what is unknown or cannot be.
    """
    views: dict[View, None] = {}
    usual = _Cut(tiling=tiling, squash_px=squash_px)
    for changes in product(*(_factor(text.strip(), tiling) for text in spec.split(","))):
        views[_view(changes, usual)] = None
    return tuple(views)


def view_named(name: str) -> View:
    """The view that calls itself `name`, whatever tiles are around.

    Raises InputError where there is none, or the name is that of several views or is spelled
    otherwise than the view spells it.
    """
    views = parse_views(",".join(f"{_ONLY}{part}" for part in name.split(",")))
    if len(views) > 1:
        raise InputError("names several views, not one", field="views", value=name)
    if views[0].name != name:
        raise InputError(f"the view is called {views[0].name}", field="views", value=name)
    return views[0]


def _view(changes: tuple[_Change, ...], usual: _Cut) -> View:
    symmetry = IDENTITY
    for change in changes:
        symmetry = symmetry.then(change.symmetry)
    scale = _single("scale", [c.scale for c in changes if c.scale is not None])
    brightness = _single("brightness", [c.brightness for c in changes if c.brightness is not None])
    contrast = _single("contrast", [c.contrast for c in changes if c.contrast is not None])
    cut = _single("tile, whole or squash", [c.cut for c in changes if c.cut is not None]) or usual
    if cut.squash_px is not None and scale is not None and scale != 1:
        reason = "a squashed image has no scale: name squash=N of another size"
        raise InputError(reason, field="views", value=f"scale={scale:g}")
    return View(
        symmetry=symmetry,
        scale=1.0 if scale is None else scale,
        tiling=cut.tiling,
        whole_px=cut.whole_px,
        squash_px=cut.squash_px,
        light=Light(
            brightness=1.0 if brightness is None else brightness,
            contrast=1.0 if contrast is None else contrast,
        ),
    )


def _single(name: str, given: list[Setting]) -> Setting | None:
    if len(given) > 1:
        raise InputError(f"{name} stands in two factors; list alternatives with |", field="views")
    return given[0] if given else None


def _factor(text: str, tiling: Tiling | None) -> list[_Change]:
    only = text.startswith(_ONLY)
    words = [word.strip() for word in text.removeprefix(_ONLY).split("|")]
    changes = [] if only else [_Change()]
    setting = ""
    for word in words:
        for single in SETS.get(word, word).split("|"):
            name, equals, value = single.partition("=")
            if not equals and setting and _is_number(name):
                name, value = setting, name
            changes.append(_change(name, value, tiling))
            setting = name if name in _SETTINGS else ""
    return changes


def _change(name: str, value: str, tiling: Tiling | None) -> _Change:
    if name in SYMMETRIES and not value:
        return _Change(symmetry=SYMMETRIES[name])
    if name == "scale" and value:
        return _Change(scale=_scale(value))
    if name == "brightness" and value:
        return _Change(brightness=_light(name, value))
    if name == "contrast" and value:
        return _Change(contrast=_light(name, value))
    if name == "whole" or (name in _CUTS and value):
        return _Change(cut=_cut(name, value, tiling))
    word = f"{name}={value}" if value else name
    raise InputError(f"unknown view; known: {', '.join(KNOWN)}", field="views", value=word)


def _cut(name: str, value: str, tiling: Tiling | None) -> _Cut:
    if name == "tile":
        return _Cut(tiling=_tile(value, tiling))
    if name == "whole":
        return _Cut(whole_px=_whole(value, tiling))
    return _Cut(squash_px=_squash(value))


def _scale(value: str) -> float:
    scale = float(value) if _is_number(value) else math.nan
    if not 1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE:
        raise InputError("a scale is a number from 1/16 to 16", field="views", value=value)
    return scale


def _light(name: str, value: str) -> float:
    factor = float(value) if _is_number(value) else math.nan
    if not 1 / _MOST_LIGHT <= factor <= _MOST_LIGHT:
        raise InputError(f"{name} is a number from 1/4 to 4", field="views", value=value)
    return factor


def _tile(value: str, tiling: Tiling | None) -> Tiling:
    side, colon, overlap = value.partition(":")
    side_px = _pixels("tile", side)
    if colon:
        return Tiling(side_px=side_px, overlap_px=_pixels("tile", overlap))
    return Tiling(side_px=side_px, overlap_px=side_px // 5 if tiling is None else tiling.overlap_px)


def _whole(value: str, tiling: Tiling | None) -> int:
    if value:
        pixels = _pixels("whole", value)
        if pixels < 1:
            raise InputError("whole needs at least 1 pixel", field="views", value=value)
        return pixels
    if tiling is None:
        raise InputError("whole needs tiles to be beside: give whole=N or a tile", field="views")
    return tiling.side_px


def _squash(value: str) -> int:
    pixels = _pixels("squash", value)
    if not 1 <= pixels <= _LARGEST_SQUASH_PX:
        reason = f"squash takes 1 to {_LARGEST_SQUASH_PX} pixels"
        raise InputError(reason, field="views", value=value)
    return pixels


def _pixels(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 7):
        raise InputError(f"{name} takes a whole number of pixels", field="views", value=value)
    return int(value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
