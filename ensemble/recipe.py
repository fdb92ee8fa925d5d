"""What tuning chose, for models by their ids, not files, so that it fits their runs anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from smallobj.boxes import BoxTable, InputError
from smallobj.ensemble.calibration import Calibration
from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.fusion import clip_scores, fuse
from smallobj.ensemble.learnt_confidence import LearntConfidence, fuse_learnt
from smallobj.ensemble.operating_point import Thresholds
from smallobj.formats import Run

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Fusion settings for models by their ids."""

    models: tuple[str, ...]
    config: FusionConfig  # with one weight a model
    calibrations: tuple[Calibration | None, ...] = ()  # one a model; empty: none of them
    confidence: LearntConfidence | None = None  # of the models that take part, in their order
    operating_point: Thresholds | None = None  # where to cut the fused scores, if boxes are needed
    metric: str | None = None  # what was tuned for
    scores: Mapping[str, float] = field(default_factory=dict)  # what it reached, by name

    def __post_init__(self) -> None:
        if len(set(self.models)) != len(self.models):
            raise ValueError(f"a model stands twice: {', '.join(self.models)}")
        for one_a_model in ("weights_of", "nms_iou_of", "models_of"):
            getattr(self.config, one_a_model)(len(self.models))
        if len(self.calibrations) not in {0, len(self.models)}:
            raise ValueError(f"{len(self.calibrations)} calibrations for {len(self.models)} models")
        if self.confidence is not None and self.confidence.runs != len(self.used):
            runs = self.confidence.runs
            raise ValueError(f"confidence of {runs} models, where {len(self.used)} take part")

    @property
    def used(self) -> tuple[int, ...]:
        """The models that take part, by position: those of weight above 0."""
        weights = self.config.weights_of(len(self.models))
        return tuple(place for place, weight in enumerate(weights) if weight > 0)

    def choose(self, models: Sequence[str]) -> tuple[list[int], FusionConfig]:
        """Which of the `models` at hand to fuse, in the recipe's order, and how.

        Models of weight 0 are left out and need not be there. Raises InputError where another is
        missing, or one is there that the recipe does not name.
        """
        for model in models:
            if model not in self.models:
                known = ", ".join(self.models)
                raise InputError(f"model is not in the recipe, which names {known}", item=model)
        for place in self.used:
            if self.models[place] not in models:
                raise InputError(
                    "no run of this model of the recipe is given", item=self.models[place]
                )
        index = [list(models).index(self.models[place]) for place in self.used]
        return index, config_of(self.config, self.used, len(self.models))

    def prepare(self, tables: Sequence[BoxTable]) -> list[BoxTable]:
        """The tables with their scores calibrated: those that `choose` chose, in its order.

        Boxes stay where they are, so a chunk of images can be prepared by itself. Raises ValueError
        for another number of tables than models that take part.
        """
        if len(tables) != len(self.used):
            raise ValueError(f"{len(tables)} tables for {len(self.used)} models that take part")
        if not self.calibrations:
            return list(tables)
        chosen = [self.calibrations[place] for place in self.used]
        return [
            table if calibration is None else calibration.apply(table)
            for table, calibration in zip(tables, chosen, strict=True)
        ]

    def fuse(self, tables: Sequence[BoxTable]) -> BoxTable:
        """Fuse the tables that `choose` chose, in its order, as it was tuned; scores up to 1.

        Raises ValueError for another number of tables than models that take part.
        """
        prepared = self.prepare(tables)
        config = config_of(self.config, self.used, len(self.models))
        if self.confidence is not None:
            return fuse_learnt(prepared, config, self.confidence)[0]
        return clip_scores(fuse(prepared, config))[0]


def config_of(config: FusionConfig, used: Sequence[int], runs: int) -> FusionConfig:
    """The settings for a part of the runs, where the others have no say."""
    changes: dict[str, Any] = {"weights": _take(config.weights_of(runs), used)}
    if config.nms_iou is not None:
        changes["nms_iou"] = _take(config.nms_iou, used)
    if config.models is not None:
        changes["models"] = _take(config.models, used)
    return replace(config, **changes)


def _take(values: Sequence[Value], used: Sequence[int]) -> tuple[Value, ...]:
    return tuple(values[place] for place in used)


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
