"""What a working point is for, what it reaches, and how a recipe tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from smallobj.boxes import InputError
from smallobj.ensemble.calibration_fields import Fields

GOALS = ("f1", "precision", "recall")


class Goal(NamedTuple):
    """What a threshold is chosen for: the highest F1, or a precision or recall to be reached."""

    name: str  # one of GOALS
    value: float | None = None  # above 0, at most 1; None for f1

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


class Rates(NamedTuple):
    """Boxes kept and found, and the rates that follow from them."""

    kept: int  # predicted boxes at or above the threshold; those in ignored regions do not count
    hits: int  # of them
    positives: int  # true boxes to be found

    @property
    def precision(self) -> float:
        """Share of the kept boxes that are right; 1 where none is kept."""
        return self.hits / self.kept if self.kept else 1.0

    @property
    def recall(self) -> float:
        """Share of the true boxes that were found; 1 where there is none."""
        return self.hits / self.positives if self.positives else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where nothing was to be found, nor was."""
        both = self.kept + self.positives
        return 2 * self.hits / both if both else 1.0

    def plus(self, other: "Rates") -> "Rates":
        """Both together."""
        return Rates(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, kw_only=True)
class ClassThreshold:
    """The working point of one class."""

    class_name: str
    threshold: float | None  # boxes of this score or more are kept; None: none is
    reached: bool  # False: the goal is out of reach, and this the nearest to it, or no box a hit
    rates: Rates  # on the images it was chosen on


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The working point of every class of a table, in its order."""

    goal: Goal
    iou: float  # at which a box counted as right
    classes: tuple[ClassThreshold, ...]

    @property
    def overall(self) -> Rates:
        """The rates of all classes together, every box counted alike."""
        return total_rates([chosen.rates for chosen in self.classes])

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """The classes for which no threshold reaches the goal."""
        return tuple(chosen.class_name for chosen in self.classes if not chosen.reached)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for TOML, from which `from_dict` makes equal thresholds."""
        return {
            "goal": str(self.goal),
            "iou": self.iou,
            "class": [_class_as_dict(chosen) for chosen in self.classes],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Thresholds":
        """Read what `as_dict` wrote; raises InputError that names the field at fault."""
        read = Fields(content, "operating_point")
        return cls(
            goal=parse_goal(read.text("goal")),
            iou=read.number("iou"),
            classes=tuple(
                _class_from_dict(Fields(entry, f"operating_point.class[{n}]"))
                for n, entry in enumerate(read.tables("class"))
            ),
        )


def parse_goal(text: str) -> Goal:
    """A goal from "f1", "precision=0.95" or "recall=0.9"; raises InputError for anything else."""
    name, equals, number = text.partition("=")
    try:
        return _check_goal(Goal(name.strip(), float(number) if equals else None))
    except ValueError as error:
        raise InputError(
            "a working point is f1, precision=P or recall=R, with P and R above 0 and at most 1",
            field="operating_point",
            value=text,
        ) from error


def goal_of(goal: str | tuple[str, float | None]) -> Goal:
    """A goal from its text (InputError where it is none) or its parts (ValueError)."""
    return parse_goal(goal) if isinstance(goal, str) else _check_goal(Goal(*goal))


def _check_goal(goal: Goal) -> Goal:
    valued = goal.name in {"precision", "recall"} and goal.value is not None and 0 < goal.value <= 1
    if not valued and goal != Goal("f1"):
        raise ValueError(f"no working point: {goal}")
    return goal


def total_rates(rates: Sequence[Rates]) -> Rates:
    """The rates of several classes together, every box counted alike."""
    total = Rates(0, 0, 0)
    for more in rates:
        total = total.plus(more)
    return total


def _class_as_dict(chosen: ClassThreshold) -> dict[str, Any]:
    content: dict[str, Any] = {"name": chosen.class_name, "reached": chosen.reached}
    if chosen.threshold is not None:
        content["threshold"] = chosen.threshold
    rates = chosen.rates
    told = {name: round(getattr(rates, name), 6) for name in ("precision", "recall", "f1")}
    return content | rates._asdict() | told  # the rates are told for the reader's eye


def _class_from_dict(read: Fields) -> ClassThreshold:
    rates = Rates(read.count("kept"), read.count("hits"), read.count("positives"))
    if rates.hits > min(rates.kept, rates.positives):
        raise InputError("more hits than boxes", field=f"{read.where}.hits", value=rates.hits)
    return ClassThreshold(
        class_name=read.text("name"),
        threshold=read.number("threshold", None),
        reached=read.flag("reached"),
        rates=rates,
    )
