"""What a view search chose, as a TOML file: how `predict --recipe` looks at each image."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from smallobj.boxes import InputError, read_toml, write_text
from smallobj.tta import MERGES, View, view_named

KIND = "views"  # tells it from a recipe of fusion, which has no kind
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """The views that pay for one model, and how what they find becomes one answer."""

    model: str  # id of the model
    views: tuple[View, ...]  # with their tiles
    nms_iou: float
    merge: str
    metric: str | None = None  # what was searched for
    scores: Mapping[str, float] = field(default_factory=dict)  # what it reached, by name
    seconds_per_image: float | None = None  # of all views, where it was searched
    code_revision: str = ""


def write_view_recipe(path: Path, recipe: ViewRecipe) -> None:
    """Write the recipe's TOML file whole; what is not known stays out."""
    content: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "model": recipe.model,
        "views": [view.name for view in recipe.views],
        "nms_iou": recipe.nms_iou,
        "merge": recipe.merge,
        "code_revision": recipe.code_revision,
    }
    for name in ("metric", "seconds_per_image"):
        if getattr(recipe, name) is not None:
            content[name] = getattr(recipe, name)
    content["scores"] = {n: score for n, score in recipe.scores.items() if not math.isnan(score)}
    write_text(path, tomli_w.dumps(content))


def read_view_recipe(path: Path, *, model: str | None = None) -> ViewRecipe:
    """Read a recipe of views; raises InputError with file, field and value where it is at fault.

    model: the id of the model that is to look; a recipe of another one is refused.
    """
    content = read_toml(path)
    if content.get("kind") != KIND:
        if "kind" not in content and isinstance(content.get("model"), list):
            reason = "is a recipe of fusion, which smallobj fuse --recipe takes"
            raise InputError(reason, file=path)
        reason = f"is no recipe of smallobj views search: {KIND} is wanted"
        raise InputError(reason, file=path, field="kind", value=content.get("kind", "nothing"))
    _check(path, content)
    if model is not None and content["model"] != model:
        reason = f"is a recipe for another model than {model}"
        raise InputError(reason, file=path, field="model", value=content["model"])
    return ViewRecipe(
        model=content["model"],
        views=_views(path, content["views"]),
        nms_iou=float(content["nms_iou"]),
        merge=content["merge"],
        metric=content.get("metric"),
        scores={name: float(score) for name, score in content.get("scores", {}).items()},
        seconds_per_image=content.get("seconds_per_image"),
        code_revision=content.get("code_revision", ""),
    )


def _check(path: Path, content: Mapping[str, Any]) -> None:
    for name in content:
        if name not in _FIELDS:
            raise InputError(f"unknown; known: {', '.join(_FIELDS)}", file=path, field=name)
    for name in _REQUIRED:
        if name not in content:
            raise InputError("value is missing", file=path, field=name)
    for name, value in content.items():
        wish, is_right = _FIELDS[name]
        if not is_right(value):
            raise InputError(f"has to be {wish}", file=path, field=name, value=value)


def _views(path: Path, names: list[str]) -> tuple[View, ...]:
    try:
        views = tuple(view_named(name) for name in names)
    except InputError as error:
        raise InputError(error.reason, file=path, field="views", value=error.value) from error
    if len(set(views)) < len(views):
        raise InputError("a view stands twice", file=path, field="views", value=names)
    return views


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_scores(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "kind": ("a text", _is_text),
    "version": (f"{VERSION}", lambda value: type(value) is int and value == VERSION),
    "model": ("a text", _is_text),
    "views": ("a list of names of views, at least one", _is_texts),
    "nms_iou": ("a number above 0, at most 1", lambda v: _is_number(v) and 0 < v <= 1),
    "merge": (f"one of {', '.join(MERGES)}", lambda value: value in MERGES),
    "metric": ("a text", _is_text),
    "seconds_per_image": ("a number", _is_number),
    "code_revision": ("a text", lambda value: isinstance(value, str)),
    "scores": ("a table of numbers", _is_scores),
}
_REQUIRED = ("version", "model", "views", "nms_iou", "merge")
