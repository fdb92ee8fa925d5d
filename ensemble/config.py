"""How runs are fused: the settings, checked once."""

from dataclasses import dataclass
from math import isfinite

CONFIDENCE_RULES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Settings of weighted boxes fusion (Solovyev et al., arXiv:1910.13302)."""

    iou: float = 0.55  # a box joins the fused box it overlaps by more than this, 0..1
    skip: float = 0.001  # boxes whose raw score is lower take no part, 0..1
    weights: tuple[float, ...] | None = None  # one a run, none negative; None: all equal
    conf_type: str = "box_and_model_avg"  # one of CONFIDENCE_RULES
    max_detections: int | None = 100  # best boxes kept an image; None: all
    allows_overflow: bool = False  # `avg` counts every box of a cluster, even above 1

    def __post_init__(self) -> None:
        for name in ("iou", "skip"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a number from 0 to 1, not {value}")
        if self.conf_type not in CONFIDENCE_RULES:
            known = ", ".join(CONFIDENCE_RULES)
            raise ValueError(f"unknown conf_type {self.conf_type!r}; known: {known}")
        if self.max_detections is not None and self.max_detections < 1:
            raise ValueError(f"max_detections is at least 1, not {self.max_detections}")
        if self.weights is not None:
            _check_weights(self.weights)

    def weights_of(self, runs: int) -> tuple[float, ...]:
        """One weight a run; ValueError where their number is not that of the runs."""
        if self.weights is None:
            return (1.0,) * runs
        if len(self.weights) != runs:
            raise ValueError(f"{len(self.weights)} weights for {runs} runs")
        return self.weights


def _check_weights(weights: tuple[float, ...]) -> None:
    if not all(weight >= 0 for weight in weights) or not isfinite(sum(weights)):
        raise ValueError(f"weights are finite and not negative, not {weights}")
    if not any(weights):
        raise ValueError("every weight is zero: no run is left to fuse")
