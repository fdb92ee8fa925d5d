"""A recipe as a TOML file: version 2; files of version 1, which had no version, are read too."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tomli_w

from smallobj.boxes import InputError, read_toml, write_text
from smallobj.ensemble.calibration import Calibration
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.learnt_confidence import LearntConfidence
from smallobj.ensemble.operating_point import Thresholds
from smallobj.ensemble.recipe import Recipe

Read = TypeVar("Read")

VERSION = 2
_NUMBER = ("a number", (int, float))
_WHOLE = ("a whole number", (int,))
_TEXT = ("a text", (str,))
_SWITCH = ("true or false", (bool,))
_SETTINGS: dict[str, tuple[str, tuple[type, ...]]] = {
    "method": _TEXT,
    "iou": _NUMBER,
    "skip": _NUMBER,
    "conf_type": _TEXT,
    "class_agnostic": _SWITCH,
    "shift_px": _NUMBER,
    "min_votes": _WHOLE,
    "soft": _TEXT,
    "sigma": _NUMBER,
    "allows_overflow": _SWITCH,
    "max_detections": _WHOLE,
}
_KEYS = {"version", "metric", "scores", "confidence", "operating_point", "model", *_SETTINGS}


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write the recipe's TOML file whole."""
    content: dict[str, Any] = {"version": VERSION}
    for name in _SETTINGS:
        value = getattr(recipe.config, name)
        if value is not None:
            content[name] = value
    if recipe.metric is not None:
        content["metric"] = recipe.metric
    content["scores"] = dict(recipe.scores)
    if recipe.confidence is not None:
        content["confidence"] = recipe.confidence.as_dict()
    if recipe.operating_point is not None:
        content["operating_point"] = recipe.operating_point.as_dict()
    content["model"] = [_model(recipe, place) for place in range(len(recipe.models))]
    write_text(path, tomli_w.dumps(content))


def _model(recipe: Recipe, place: int) -> dict[str, Any]:
    config = recipe.config
    weight = float(config.weights_of(len(recipe.models))[place])
    entry: dict[str, Any] = {"id": recipe.models[place], "weight": weight}
    if config.nms_iou is not None:
        entry["nms_iou"] = float(config.nms_iou[place])
    if config.models is not None:
        entry["view_of"] = recipe.models[config.models.index(config.models[place])]
    calibration = recipe.calibrations[place] if recipe.calibrations else None
    if calibration is not None:
        entry["calibration"] = calibration.as_dict()
    return entry


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raises InputError with file, field and value where it is at fault."""
    content = read_toml(path)
    if content.get("kind") == "views":
        reason = "is a recipe of views, which smallobj predict --recipe takes"
        raise InputError(reason, file=path)
    version = content.get("version", 1)
    if version not in {1, VERSION} or isinstance(version, bool):
        raise InputError(f"known: 1 and {VERSION}", file=path, field="version", value=version)
    if version == VERSION:
        for name in content.keys() - _KEYS:
            raise InputError(f"known: {', '.join(sorted(_KEYS))}", file=path, field=name)
    if version == 1 and content.get("method") != "wbf":
        value = content.get("method", "nothing")
        raise InputError("unknown method; known: wbf", file=path, field="method", value=value)
    models = _models(path, content.get("model"))
    try:
        config = FusionConfig(**_settings(path, content), **_settings_a_model(path, models))
        return Recipe(
            models=tuple(model.id for model in models),
            config=config,
            calibrations=_calibrations(path, models),
            confidence=_part(path, content, "confidence", LearntConfidence.from_dict),
            operating_point=_part(path, content, "operating_point", Thresholds.from_dict),
            metric=_metric(path, content.get("metric")),
            scores=_numbers(path, "scores", content.get("scores", {})),
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error), file=path) from error


def _settings(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    settings = {name: content[name] for name in _SETTINGS if name in content}
    for name, value in settings.items():
        expected, types = _SETTINGS[name]
        if type(value) not in types:
            raise InputError(f"has to be {expected}", file=path, field=name, value=value)
    settings.setdefault("max_detections", None)
    return settings


class _Entry(NamedTuple):
    """One `[[model]]`."""

    id: str
    weight: float
    rest: Mapping[Any, Any]


def _models(path: Path, entries: object) -> list[_Entry]:
    if not isinstance(entries, list) or not entries:
        raise InputError("names no models", file=path, field="model")
    models = []
    for number, entry in enumerate(entries):
        match entry:
            case {"id": str(model), "weight": int(weight) | float(weight), **rest} if (
                not isinstance(weight, bool)
            ):
                models.append(_Entry(model, float(weight), rest))
            case _:
                raise _no_model(path, number, entry)
    return models


def _no_model(path: Path, number: int, entry: object) -> InputError:
    reason = "a model has an id (text) and a weight (number)"
    return InputError(reason, file=path, field=f"model[{number}]", value=entry)


def _settings_a_model(path: Path, models: list[_Entry]) -> dict[str, Any]:
    """Weights, and where any model has them the IoU of its own suppression and whose view it is."""
    settings: dict[str, Any] = {"weights": tuple(model.weight for model in models)}
    if any("nms_iou" in model.rest for model in models):
        values = [model.rest.get("nms_iou", 1.0) for model in models]
        for number, value in enumerate(values):
            if type(value) not in {int, float}:
                where = f"model[{number}].nms_iou"
                raise InputError("has to be a number", file=path, field=where, value=value)
        settings["nms_iou"] = tuple(float(value) for value in values)
    if any("view_of" in model.rest for model in models):
        ids = [model.id for model in models]
        for number, model in enumerate(models):
            if model.rest.get("view_of", model.id) not in ids:
                raise InputError(
                    "names no model of the recipe",
                    file=path,
                    field=f"model[{number}].view_of",
                    value=model.rest["view_of"],
                )
        settings["models"] = tuple(ids.index(m.rest.get("view_of", m.id)) for m in models)
    return settings


def _calibrations(path: Path, models: list[_Entry]) -> tuple[Calibration | None, ...]:
    if not any("calibration" in model.rest for model in models):
        return ()
    found: list[Calibration | None] = []
    for number, model in enumerate(models):
        if "calibration" not in model.rest:
            found.append(None)
            continue
        try:
            found.append(Calibration.from_dict(model.rest["calibration"]))
        except InputError as error:
            where = f"model[{number}].{error.field or 'calibration'}"
            raise InputError(error.reason, file=path, field=where, value=error.value) from error
    return tuple(found)


def _part(
    path: Path, content: Mapping[str, Any], name: str, read: Callable[[dict[str, Any]], Read]
) -> Read | None:
    """A table of the recipe that may be missing, read by what knows it."""
    entry = content.get(name)
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise InputError("has to be a table", file=path, field=name, value=entry)
    try:
        return read(entry)
    except InputError as error:
        raise InputError(error.reason, file=path, field=error.field, value=error.value) from error


def _metric(path: Path, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InputError("has to be a text", file=path, field="metric", value=value)
    return value


def _numbers(path: Path, name: str, entries: object) -> dict[str, float]:
    if not isinstance(entries, dict):
        raise InputError("has to be a table of numbers", file=path, field=name, value=entries)
    for key, value in entries.items():
        if type(value) not in {int, float}:
            raise InputError("has to be a number", file=path, field=f"{name}.{key}", value=value)
    return {key: float(value) for key, value in entries.items()}
