"""Detectors by name: registered once, built with a size and overrides."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from smallobj.boxes import InputError
from smallobj.detectors.base import Detector, DetectorConfig
from smallobj.detectors.norms import with_group_norm

ENTRY_POINTS = "smallobj.detectors"  # group under which other packages offer theirs, by name
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
    """Every name that can be asked for, other packages' too, in order of the alphabet."""
    return sorted({*_DETECTORS, *_entries()})


def detector_class(name: str) -> type[Detector]:
    """The class of a name; an unknown one raises InputError with the known ones.

    A name that another package offers is loaded now; InputError where that fails.
    """
    if name not in _DETECTORS and name in (entries := _entries()):
        _load(entries[name])
    if name not in _DETECTORS:
        raise InputError(f"unknown detector; known: {', '.join(list_detectors())}", value=name)
    return _DETECTORS[name]


def construct(kind: type[Detector], config: DetectorConfig) -> Detector:
    """A detector of a class and its config, with random weights, in training mode."""
    detector = kind(config)  # type: ignore[call-arg]  # each subclass knows its own stride
    if config.norm == "group":
        with_group_norm(detector)
    return detector


def build_detector(
    name: str,
    *,
    num_classes: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size: str | None = None,
    **overrides: Any,
) -> Detector:
    """A detector with random weights (torch's global generator), in training mode.

    mean and std of the training images by channel, RGB, in units of 0..255. `size` is one of the
    detector's own, tiny (for tests), small, medium, large or whatever it calls them; None: the
    first after tiny. overrides are fields of the detector's config, say backbone="resnet34".
    Raises InputError naming what is unknown or cannot be. Never downloads.
    """
    kind = detector_class(name)
    size = size or kind.Config.usual_size()
    config = kind.Config.of_size(size, num_classes=num_classes, mean=mean, std=std, **overrides)
    return construct(kind, config)


def _entries() -> dict[str, EntryPoint]:
    """What installed packages offer under the entry point group; our own names are ours."""
    return {e.name: e for e in entry_points(group=ENTRY_POINTS) if e.name not in _DETECTORS}


def _load(entry: EntryPoint) -> None:
    package = entry.dist.name if entry.dist else entry.value
    try:
        entry.load()
    except Exception as error:  # it is another's code
        raise InputError(
            f"package {package} offers this detector, but it cannot be loaded: "
            f"{type(error).__name__}: {error}".splitlines()[0],
            value=entry.name,
        ) from error
    if entry.name not in _DETECTORS:
        raise InputError(
            f"package {package} offers this detector, but {entry.value} registers no such name",
            value=entry.name,
        )
