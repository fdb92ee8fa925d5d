"""One way to fuse, that tuning may choose: settings, and how the runs are calibrated before."""

from dataclasses import dataclass, replace

from smallobj.ensemble.calibration import check_method
from smallobj.ensemble.calibration_curves import METHODS as CALIBRATIONS
from smallobj.ensemble.config import FusionConfig

CALIBRATION_CHOICES = ("auto", "none", *CALIBRATIONS)


@dataclass(frozen=True, kw_only=True)
class CalibrationKind:
    """A way to calibrate runs: the curve, and the parts of the boxes that have one of their own."""

    method: str  # one of the calibration's METHODS
    by: tuple[str, ...] = ()  # of its PARTS

    def __post_init__(self) -> None:
        check_method(self.method, self.by)

    def __str__(self) -> str:
        return " by ".join([self.method, " and ".join(self.by)] if self.by else [self.method])


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings of a fusion, of scores as they are (None) or calibrated."""

    config: FusionConfig
    calibration: CalibrationKind | None = None
    learnt: bool = False  # the scores of the fused boxes are learnt (LearntConfidence)

    def __str__(self) -> str:
        """What differs from the default, for a table a person reads."""
        config = self.config
        told = [] if config.method == "wbf" else [config.method]
        told.append(f"iou {config.iou:g}, skip {config.skip:g}")
        if config.method == "wbf":
            told.append(config.conf_type)
        if config.method == "soft_nms":
            told.append(f"sigma {config.sigma:g}" if config.soft == "gaussian" else config.soft)
        if config.weights is not None:
            told.append("weights " + ",".join(f"{weight:g}" for weight in config.weights))
        if config.min_votes > 1:
            told.append(f"votes {config.min_votes}")
        if config.shift_px > 0:
            told.append(f"shift {config.shift_px:g} px")
        if config.nms_iou is not None:
            told.append("nms " + ",".join(f"{value:g}" for value in config.nms_iou))
        if self.calibration is not None:
            told.append(str(self.calibration))
        if self.learnt:
            told.append("learnt confidence")
        return ", ".join(told)


def calibration_kinds(choice: str, classes: int) -> list[CalibrationKind]:
    """The kinds of calibration to try: of one method, of every one ("auto"), or none at all.

    By class only where there are several. Raises ValueError for an unknown choice.
    """
    if choice not in CALIBRATION_CHOICES:
        raise ValueError(f"known: {', '.join(CALIBRATION_CHOICES)}")
    if choice == "none":
        return []
    methods = CALIBRATIONS if choice == "auto" else (choice,)
    parts = [(), ("size",)] if classes == 1 else [(), ("size",), ("class",)]
    return [CalibrationKind(method=method, by=by) for method in methods for by in parts]


def alone(run: int, runs: int, max_detections: int | None) -> FusionConfig:
    """Settings that leave one run as it is, but for the cap: no box overlaps by more than 1."""
    weights = tuple(float(other == run) for other in range(runs))
    return FusionConfig(iou=1.0, skip=0.0, weights=weights, max_detections=max_detections)


def is_alone(config: FusionConfig) -> bool:
    """Whether the settings take one run, whatever they do with it."""
    return config.weights is not None and sum(weight > 0 for weight in config.weights) == 1


def with_weights(candidate: Candidate, weights: tuple[float, ...]) -> Candidate:
    """The same settings with other weights; a run that is left alone is taken as it is."""
    config = replace(candidate.config, weights=weights)
    if is_alone(config):
        run = next(run for run, weight in enumerate(weights) if weight > 0)
        as_it_is = alone(run, len(weights), config.max_detections)
        config = replace(as_it_is, nms_iou=config.nms_iou, models=config.models)
    return replace(candidate, config=config, learnt=candidate.learnt and not is_alone(config))


def fusing(candidate: Candidate, runs: int) -> Candidate:
    """The settings from which weights are selected: a run alone is fused as by default."""
    if not is_alone(candidate.config):
        return candidate
    own = candidate.config
    config = FusionConfig(
        weights=(1.0,) * runs,
        max_detections=own.max_detections,
        nms_iou=own.nms_iou,
        models=own.models,
    )
    return replace(candidate, config=config)
