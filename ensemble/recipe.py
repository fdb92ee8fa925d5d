"""What tuning chose, as a TOML file that fusing takes; it names models, not files."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from smallobj.boxes import InputError, write_text
from smallobj.ensemble.config import FusionConfig
from smallobj.formats import Run

_METHOD = "wbf"
_NUMBER = ("a number", (int, float))
_SETTINGS: dict[str, tuple[str, tuple[type, ...]]] = {
    "iou": _NUMBER,
    "skip": _NUMBER,
    "conf_type": ("a text", (str,)),
    "max_detections": ("a whole number", (int,)),
    "allows_overflow": ("true or false", (bool,)),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Fusion settings for models by their ids."""

    models: tuple[str, ...]
    config: FusionConfig  # with one weight a model
    metric: str | None = None  # what was tuned for
    scores: Mapping[str, float] = field(default_factory=dict)  # what it reached, by name

    def __post_init__(self) -> None:
        if len(set(self.models)) != len(self.models):
            raise ValueError(f"a model stands twice: {', '.join(self.models)}")
        self.config.weights_of(len(self.models))

    def choose(self, models: Sequence[str]) -> tuple[list[int], FusionConfig]:
        """Which of the `models` at hand to fuse, in the recipe's order, and how.

        Models of weight 0 are left out and need not be there. Raises InputError where another is
        missing, or one is there that the recipe does not name.
        """
        for model in models:
            if model not in self.models:
                known = ", ".join(self.models)
                raise InputError(f"model is not in the recipe, which names {known}", item=model)
        weights = self.config.weights_of(len(self.models))
        used = {m: w for m, w in zip(self.models, weights, strict=True) if w > 0}
        for model in used:
            if model not in models:
                raise InputError("no run of this model of the recipe is given", item=model)
        config = replace(self.config, weights=tuple(used.values()))
        return [list(models).index(model) for model in used], config


def model_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """What a recipe calls the model of each run: its id, else the run's name.

    Runs that share an id (one model, other views) go by their names. Raises InputError where two
    names are the same too.
    """
    ids = [run.name if run.info is None else run.info.model for run in runs]
    names = [
        run.name if ids.count(model) > 1 else model for run, model in zip(runs, ids, strict=True)
    ]
    for run, name in zip(runs, names, strict=True):
        if names.count(name) > 1:
            raise InputError("two runs have the same name, and no id apart", file=run.path)
    return tuple(names)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write the recipe's TOML file whole."""
    weights = recipe.config.weights_of(len(recipe.models))
    content: dict[str, Any] = {"method": _METHOD}
    for name in _SETTINGS:
        value = getattr(recipe.config, name)
        if value is not None:
            content[name] = value
    if recipe.metric is not None:
        content["metric"] = recipe.metric
    content["scores"] = dict(recipe.scores)
    content["model"] = [
        {"id": model, "weight": float(weight)}
        for model, weight in zip(recipe.models, weights, strict=True)
    ]
    write_text(path, tomli_w.dumps(content))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raises InputError with file, field and value where it is at fault."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise InputError("is not TOML: not UTF-8 text", file=path) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not TOML: {error}", file=path) from error
    if content.get("method") != _METHOD:
        raise InputError(
            f"unknown method; known: {_METHOD}",
            file=path,
            field="method",
            value=content.get("method", "nothing"),
        )
    models = _models(path, content.get("model"))
    settings = {name: content[name] for name in _SETTINGS if name in content}
    for name, value in settings.items():
        expected, types = _SETTINGS[name]
        if type(value) not in types:
            raise InputError(f"has to be {expected}", file=path, field=name, value=value)
    settings.setdefault("max_detections", None)
    try:
        config = FusionConfig(weights=tuple(weight for _, weight in models), **settings)
        return Recipe(
            models=tuple(model for model, _ in models),
            config=config,
            metric=content.get("metric"),
            scores=content.get("scores", {}),
        )
    except ValueError as error:
        raise InputError(str(error), file=path) from error


def _models(path: Path, entries: object) -> list[tuple[str, float]]:
    if not isinstance(entries, list) or not entries:
        raise InputError("names no models", file=path, field="model")
    models = []
    for number, entry in enumerate(entries):
        match entry:
            case {"id": str(model), "weight": int(weight) | float(weight)}:
                models.append((model, float(weight)))
            case _:
                raise InputError(
                    "a model has an id (text) and a weight (number)",
                    file=path,
                    field=f"model[{number}]",
                    value=entry,
                )
    return models
