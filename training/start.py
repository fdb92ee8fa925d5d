"""The detector a run begins with: random weights, pretrained ones, or those of an earlier run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from smallobj.boxes import InputError
from smallobj.detectors import Detector, build_detector
from smallobj.detectors.backbone import FeaturePyramid, Pyramid
from smallobj.training.config import TrainConfig
from smallobj.training.phases import Phases
from smallobj.weights import read_manifest
from smallobj.weights.checkpoint import copy_fitting, load_weights

Tell = Callable[[str], None]
Colour = tuple[float, float, float]


def with_init_settings(config: TrainConfig) -> TrainConfig:
    """Settings that name the detector of `config.init` in full, where there is one.

    What the user set goes before. Raises InputError where that detector is another.
    """
    if config.init is None or config.origin:
        return config
    manifest = read_manifest(config.init)
    for name, found in (("arch", manifest.arch), ("backbone", manifest.backbone)):
        if getattr(config, name) not in (None, found):
            raise InputError(
                f"--init begins from a {found}", field=name, value=getattr(config, name)
            )
    if config.size is not None:
        raise InputError("--init brings the size of its own", field="size", value=config.size)
    inherited = {**manifest.config, "mean": list(manifest.mean), "std": list(manifest.std)}
    return replace(config, backbone=manifest.backbone, detector={**inherited, **config.detector})


def bare_model(config: TrainConfig) -> Detector:
    """The detector in its make alone: for one class, and images of no colour in particular.

    Raises InputError where there is none of these settings.
    """
    backbone = {} if config.backbone is None else {"backbone": config.backbone}
    settings = {"mean": (128.0,) * 3, "std": (64.0,) * 3} | backbone | dict(config.detector)
    return build_detector(config.arch, num_classes=1, size=config.size, **settings)


def check_crop(config: TrainConfig, model: Detector) -> None:
    """Raise InputError where the detector cannot look at crops of that side, in any stage."""
    if config.crops.crop % model.stride:
        raise InputError(
            f"must be a multiple of {model.stride} for this detector",
            field="crop",
            value=config.crops.crop,
        )
    Phases(config, stride=model.stride)


def first_model(
    config: TrainConfig,
    *,
    num_classes: int,
    mean: Colour,
    std: Colour,
    restored: bool,
    tell: Tell,
) -> tuple[Detector, str]:
    """The detector with its first weights, and in a few words what they are.

    mean and std of the training images; settings of the detector may hold others. restored: a
    snapshot brings the weights, so none are looked for. Stages that are to be frozen are. Raises
    InputError where weights cannot be had or do not fit.
    """
    backbone = {} if config.backbone is None else {"backbone": config.backbone}
    settings = {"mean": mean, "std": std} | backbone | dict(config.detector)
    model = build_detector(config.arch, num_classes=num_classes, size=config.size, **settings)
    origin = config.origin if restored else _load_first(model, config, tell)
    if config.freeze:
        _freeze(model, config.freeze)
    return model, origin


def _load_first(model: Detector, config: TrainConfig, tell: Tell) -> str:
    if config.init is not None:
        return _take_over(model, config.init, tell)
    if config.pretrained:
        return _load_pretrained(model)
    return "random weights"


def _take_over(model: Detector, run: Path, tell: Tell) -> str:
    state, manifest = load_weights(run)
    left = copy_fitting(model, state)
    total = len(model.state_dict())
    if len(left) == total:
        raise InputError("no tensor fits this detector", file=run, field="init")
    if left:
        tell(
            f"begins from {manifest.id}: {total - len(left)} of {total} tensors fit; random are "
            f"{', '.join(left[:4])}{', ...' if len(left) > 4 else ''}"
        )
    else:
        tell(f"begins from all {total} tensors of {manifest.id}")
    return f"{manifest.id} ({manifest.origin})"


def _load_pretrained(model: Detector) -> str:
    pyramids = [module for module in model.modules() if isinstance(module, Pyramid)]
    if not pyramids:
        raise InputError(
            "this detector's backbone has no pretrained weights; name one of timm by --backbone",
            field="pretrained",
            value=model.config.backbone,
        )
    return "pretrained " + ", ".join(pyramid.load_pretrained() for pyramid in pyramids)


def _freeze(model: Detector, stages: int) -> None:
    pyramids = [module for module in model.modules() if isinstance(module, FeaturePyramid)]
    if not pyramids:
        raise InputError("this detector has no backbone to freeze", field="freeze", value=stages)
    for pyramid in pyramids:
        pyramid.freeze(stages)
