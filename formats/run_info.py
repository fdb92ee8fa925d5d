"""What stands beside a run: `NAME.run.toml`, which model made it, with which views, on what."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from smallobj.boxes import Classes, InputError, read_toml, write_text


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Where the predictions of a run come from."""

    model: str  # id of the model, or of the ensemble
    classes: Classes  # names, and the ids written in the run's JSON
    views: tuple[str, ...] = ()  # how the images were looked at, as --views spells it
    fold: str | None = None  # the part of the data the model has not seen
    image_set: str | None = None  # what the images were, for people
    cap: int | None = None  # most boxes an image; None where there was no cap
    seconds: float | None = None  # time it took
    weight_mb: float | None = None  # of the stored weights of all its models, 1,000,000 bytes each
    latency_ms: float | None = None  # an image, all views and models included, where it was made
    candidates: bool = False  # boxes from before suppression and merging, each with its view
    nms_iou: float | None = None  # of the suppression in each view; of candidates: not done yet
    merge: str | None = None  # how the views were merged, or would have been: wbf, nms, nmw


def run_info_path(run: Path, *, folder: bool = False) -> Path:
    """`runs/NAME.json` to `runs/NAME.run.toml`; a folder's name stays whole, as it has no ending.

    folder: the run is one that is still to be written.
    """
    name = run.name if folder or run.is_dir() else run.stem
    return run.with_name(name + ".run.toml")


def write_run_info(path: Path, info: RunInfo) -> None:
    """Write the TOML file whole; what is None stays out."""
    content: dict[str, Any] = {"model": info.model, "views": list(info.views)}
    if info.candidates:
        content["candidates"] = True
    for name in _OPTIONAL:
        value = getattr(info, name)
        if value is not None:
            content[name] = value
    content["classes"] = {"names": list(info.classes.names), "ids": list(info.classes.source_ids)}
    write_text(path, tomli_w.dumps(content))


def read_run_info(path: Path) -> RunInfo:
    """Read the TOML file; raises InputError with file, field and value where it is at fault."""
    content = read_toml(path)
    for name in ("model", "classes"):
        if name not in content:
            raise InputError("value is missing", file=path, field=name)
    for name, (expected, is_right) in _FIELDS.items():
        if name in content and not is_right(content[name]):
            raise InputError(f"has to be {expected}", file=path, field=name, value=content[name])
    return RunInfo(
        model=content["model"],
        classes=_classes(path, content["classes"]),
        views=tuple(content.get("views", ())),
        fold=content.get("fold"),
        image_set=content.get("image_set"),
        cap=content.get("cap"),
        seconds=content.get("seconds"),
        weight_mb=content.get("weight_mb"),
        latency_ms=content.get("latency_ms"),
        candidates=content.get("candidates", False),
        nms_iou=content.get("nms_iou"),
        merge=content.get("merge"),
    )


def _classes(path: Path, content: dict[str, Any]) -> Classes:
    for name, kind in (("names", str), ("ids", int)):
        values = content.get(name)
        if not isinstance(values, list) or not all(type(v) is kind for v in values):
            reason = f"has to be a list of {'names' if kind is str else 'whole numbers'}"
            raise InputError(reason, file=path, field=f"classes.{name}", value=values)
    try:
        return Classes.of(content["names"], content["ids"])
    except ValueError as error:
        raise InputError(str(error), file=path, field="classes") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_cost(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_fraction(value: object) -> bool:
    return _is_cost(value) and value <= 1  # type: ignore[operator]  # it is a number


_OPTIONAL = (
    *("fold", "image_set", "cap", "seconds", "weight_mb", "latency_ms"),
    *("nms_iou", "merge"),
)
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "model": ("a text", _is_text),
    "views": ("a list of texts", _is_texts),
    "fold": ("a text", _is_text),
    "image_set": ("a text", _is_text),
    "cap": ("a whole number above 0", lambda v: type(v) is int and v > 0),
    "seconds": ("a number", lambda v: type(v) in (int, float)),
    "weight_mb": ("a number from 0 up", _is_cost),
    "latency_ms": ("a number from 0 up", _is_cost),
    "candidates": ("true or false", lambda v: isinstance(v, bool)),
    "nms_iou": ("a number from 0 to 1", _is_fraction),
    "merge": ("a text", _is_text),
    "classes": ("a table of names and ids", lambda v: isinstance(v, dict)),
}
