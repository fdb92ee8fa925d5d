"""One class's and size's share of a calibration, and how a recipe tells it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from smallobj.boxes import InputError
from smallobj.ensemble.calibration_curves import Curve, Knots, LogitLine
from smallobj.ensemble.calibration_fields import Fields
from smallobj.evaluation import SIZE_BINS

SIZES = tuple(area.name for area in SIZE_BINS)
Key: TypeAlias = tuple[str | None, str | None]  # class and size of a part; None: every one
EVERY: Key = (None, None)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The curve of the boxes of one class and size."""

    class_name: str | None  # None: every class
    size: str | None  # the name of a bin of SIZE_BINS, by sqrt(area); None: every size
    boxes: int  # it was fitted on
    hits: int  # of them
    degenerate: bool  # hits only, misses only, or one score only: its boxes tell no slope
    curve: Curve

    def __post_init__(self) -> None:
        if self.size is not None and self.size not in SIZES:
            raise ValueError(f"unknown size {self.size!r}; known: {', '.join(SIZES)}")


def from_narrow(name: str | None, size: str | None) -> Iterator[Key]:
    """The parts that a box of this class and size may be in, the narrowest first."""
    yield from ((name, size), (name, None), (None, size), EVERY)


def part_as_dict(part: Part) -> dict[str, Any]:
    """Plain values for TOML."""
    content: dict[str, Any] = {"boxes": part.boxes, "hits": part.hits}
    if part.class_name is not None:
        content["class"] = part.class_name
    if part.size is not None:
        content["size"] = part.size
    if part.degenerate:
        content["degenerate"] = True
    if isinstance(part.curve, LogitLine):
        return content | {"slope": part.curve.slope, "offset": part.curve.offset}
    knots = {"score": part.curve.score, "probability": part.curve.probability}
    return content | {name: list(values) for name, values in knots.items()}


def part_from_dict(content: Mapping[str, Any], where: str) -> Part:
    """Read what `part_as_dict` wrote; raises InputError that names the field at fault."""
    read = Fields(content, where)
    name, size = read.text("class", None), read.text("size", None)
    try:
        curve: Curve = (
            Knots(score=read.numbers("score"), probability=read.numbers("probability"))
            if "score" in content
            else LogitLine(slope=read.number("slope"), offset=read.number("offset"))
        )
        return Part(
            class_name=name,
            size=size,
            boxes=read.count("boxes"),
            hits=read.count("hits"),
            degenerate=read.flag("degenerate", False),
            curve=curve,
        )
    except ValueError as error:
        raise InputError(str(error), field=where) from error
