"""Detectors by name: registered once, built with a size and overrides."""

from collections.abc import Callable
from typing import Any, TypeVar

from smallobj.boxes import InputError
from smallobj.detectors.base import Detector

_DETECTORS: dict[str, type[Detector]] = {}

AnyDetector = TypeVar("AnyDetector", bound=type[Detector])


def register(name: str) -> Callable[[AnyDetector], AnyDetector]:
    """Class decorator that makes a detector known by name; ValueError where it is taken."""

    def add(detector: AnyDetector) -> AnyDetector:
        if name in _DETECTORS:
            raise ValueError(f"detector {name!r} is registered twice")
        detector.name = name
        _DETECTORS[name] = detector
        return detector

    return add


def list_detectors() -> list[str]:
    """Every registered name, in order of the alphabet."""
    return sorted(_DETECTORS)


def detector_class(name: str) -> type[Detector]:
    """The class of a registered name; an unknown one raises InputError with the known ones."""
    if name not in _DETECTORS:
        raise InputError(f"unknown detector; known: {', '.join(list_detectors())}", value=name)
    return _DETECTORS[name]


def build_detector(
    name: str,
    *,
    num_classes: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size: str = "small",
    **overrides: Any,
) -> Detector:
    """A detector with random weights (torch's global generator), in training mode.

    mean and std of the training images by channel, RGB, in units of 0..255. `size` is tiny (for
    tests), small, medium or large; overrides are fields of the detector's config, say
    backbone="resnet34". Raises InputError naming what is unknown or cannot be. Never downloads.
    """
    kind = detector_class(name)
    config = kind.Config.of_size(size, num_classes=num_classes, mean=mean, std=std, **overrides)
    return kind(config)  # type: ignore[call-arg]  # each subclass knows its own stride
