"""How runs are fused: the settings, checked once."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeVar

Value = TypeVar("Value")

METHODS = ("wbf", "nms", "soft_nms", "nmw")
CONFIDENCE_RULES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")
SOFT_DECAYS = ("linear", "gaussian")


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """How runs are fused, by default weighted boxes fusion (Solovyev et al., arXiv:1910.13302)."""

    method: str = "wbf"  # one of METHODS
    iou: float = 0.55  # a box joins the fused box it overlaps by more than this, 0..1
    skip: float = 0.001  # boxes whose raw score is lower take no part, 0..1
    weights: tuple[float, ...] | None = None  # one a run, none negative; None: all equal
    conf_type: str = "box_and_model_avg"  # of wbf, one of CONFIDENCE_RULES
    max_detections: int | None = 100  # best boxes kept an image; None: all
    allows_overflow: bool = False  # of wbf: `avg` counts every box of a cluster, even above 1
    class_agnostic: bool = False  # boxes of different classes join, or suppress each other
    shift_px: float = 0.0  # a box also joins one that lies no more than this off diagonally; 0: off
    min_votes: int = 1  # fused boxes that fewer models saw are left out; not of soft_nms
    soft: str = "gaussian"  # of soft_nms, how overlap lowers a score: one of SOFT_DECAYS
    sigma: float = 0.5  # of the gaussian, above 0
    nms_iou: tuple[float, ...] | None = None  # suppression inside each run before; 1: none
    models: tuple[int, ...] | None = None  # the model each run is a view of; None: each its own

    def __post_init__(self) -> None:
        _check_choice("method", self.method, METHODS)
        _check_choice("conf_type", self.conf_type, CONFIDENCE_RULES)
        _check_choice("soft", self.soft, SOFT_DECAYS)
        for name in ("iou", "skip"):
            _check_range(name, getattr(self, name), 0, 1)
        _check_range("shift_px", self.shift_px, 0, 1e6)
        if not 0 < self.sigma < inf:
            raise ValueError(f"sigma is finite and above 0, not {self.sigma}")
        if self.max_detections is not None and self.max_detections < 1:
            raise ValueError(f"max_detections is at least 1, not {self.max_detections}")
        if self.min_votes < 1:
            raise ValueError(f"min_votes is at least 1, not {self.min_votes}")
        if self.method == "soft_nms" and self.min_votes > 1:
            raise ValueError("soft_nms joins no boxes: it knows no min_votes")
        for value in self.nms_iou or ():
            _check_range("nms_iou", value, 0, 1)
        if self.weights is not None:
            _check_weights(self.weights)
        if self.models is not None and any(model < 0 for model in self.models):
            raise ValueError(f"models are numbered from 0, not {self.models}")

    def weights_of(self, runs: int) -> tuple[float, ...]:
        """One weight a run; ValueError where their number is not that of the runs."""
        return _one_a_run("weights", self.weights, runs, (1.0,) * runs)

    def nms_iou_of(self, runs: int) -> tuple[float, ...]:
        """One IoU a run, 1 where it is left alone; ValueError where their number differs."""
        return _one_a_run("values of nms_iou", self.nms_iou, runs, (1.0,) * runs)

    def models_of(self, runs: int) -> tuple[int, ...]:
        """The model of each run; ValueError where their number is not that of the runs."""
        return _one_a_run("models", self.models, runs, tuple(range(runs)))


def _one_a_run(
    name: str, values: tuple[Value, ...] | None, runs: int, default: tuple[Value, ...]
) -> tuple[Value, ...]:
    if values is None:
        return default
    if len(values) != runs:
        raise ValueError(f"{len(values)} {name} for {runs} runs")
    return values


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; known: {', '.join(known)}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is a number from {low:g} to {high:g}, not {value}")


def _check_weights(weights: tuple[float, ...]) -> None:
    if not all(weight >= 0 for weight in weights) or not isfinite(sum(weights)):
        raise ValueError(f"weights are finite and not negative, not {weights}")
    if not any(weights):
        raise ValueError("every weight is zero: no run is left to fuse")
