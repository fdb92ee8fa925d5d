"""The settings of a training run: one file, `config.toml`, holds them all."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import tomli_w

from smallobj.boxes import InputError, write_text
from smallobj.datasets import CropConfig
from smallobj.detectors.levels import parse_levels
from smallobj.evaluation import METRICS
from smallobj.training.stages import parse_stages
from smallobj.weights import DTYPES, read_manifest

DEFAULT_STEPS = 4000
# Learning rates and weight decays of the optimizers where none is given.
RATES = {"adamw": 4e-3, "adam": 1e-3, "sgd": 0.02}
DECAYS = {"adamw": 0.05, "adam": 0.0, "sgd": 1e-4}
PRECISIONS = ("auto", "fp32", "bf16")
FREE_ON_RESUME = (
    "record",
    "workers",
    "cache_mb",
    "cache_dir",
    "cache_gb",
    "snapshot_s",
    "log_every",
)
_PATHS = ("data", "images", "names", "val", "init", "cache_dir")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is trained, on what, for how long. Raises InputError, naming the field.

    Paths are made absolute, so that a run can be resumed from any folder.
    """

    data: Path  # labels in any known format
    arch: str  # registered name of a detector
    preset: str | None = None  # the one in training/presets.py that filled in what was not given
    size: str | None = None  # of the detector: tiny, small, medium, large; None: its usual one
    backbone: str | None = None  # a timm name in place of the size's own
    detector: Mapping[str, Any] = field(default_factory=dict)  # its other settings, by name
    init: Path | None = None  # a trained model whose detector and weights are begun from
    pretrained: bool = False  # begin from the weights that timm offers for the backbone: downloads
    freeze: int = 0  # first stages of the backbone that keep their weights
    store: str = "fp32"  # precision of the weights that are kept, and are validated so
    origin: str = ""  # what the first weights are; found at the start, kept for going on
    images: Path | None = None  # image folder, where it cannot be guessed
    kind: str | None = None  # of the labels: challenge, coco, yolo, voc
    names: Path | None = None  # file of class names
    voc_origin: int = 1  # what Pascal VOC files call the first pixel: 1 or 0
    split: str | None = None  # the data set's own part to train on
    val: Path | None = None  # a data set to validate on
    val_split: str | None = None  # the data set's own part to validate on
    folds: int | None = None  # deal the images into so many parts and validate on one
    fold: int = 0  # which one, from 0
    hold_out: bool = True  # False: train on all images and validate on none, `--fold none`
    subset: float = 1.0  # share of the training images that is trained on, drawn by the seed
    max_bad: int = 0  # images that cannot be read and are left out; more end the run at its start
    patience: int | None = None  # validations in a row without a better metric that end the run
    keep_last: int = 0  # validations whose weights stay in checkpoints/
    crops: CropConfig = field(default_factory=CropConfig)
    stages: str | None = None  # SCALE:SHARE,...: crops of a lower scale for shares of the steps
    plain_end: float = 0.1  # share of the steps, the last ones, without augmentation; 0: never
    batch: int = 16  # crops a step
    steps: int | None = None  # length; one of steps, epochs, time_limit, else DEFAULT_STEPS
    epochs: float | None = None
    time_limit: float | None = None  # seconds, validation included as well as it can be planned
    optimizer: str = "adamw"  # or adam, sgd
    lr: float | None = None  # at its highest; None: the optimizer's usual
    weight_decay: float | None = None  # not of norms and biases; None: the optimizer's usual
    momentum: float = 0.9  # of sgd; of adamw and adam the first beta, beside a second of 0.999
    warmup_steps: int = 100  # of rising learning rate, at most a quarter of all
    final_lr: float = 0.01  # share of `lr` that is left at the end of the cosine
    ema: float = 0.998  # decay a step of the averaged weights, lower in the first steps
    clip: float = 10.0  # longest gradient; 0: no limit
    precision: str = "auto"  # auto: bf16 where the device computes in it, else fp32
    device: str = "auto"  # the first GPU, else the CPU
    threads: int | None = None  # of the CPU; None: torch's choice
    seed: int = 0
    metric: str = "map50"  # what the best weights are best by
    validate_every: int | None = None  # steps; None: such that it takes about a seventh
    max_megapixels: float = 400.0  # larger images are refused by their header
    record: bool = True  # on a GPU: the network's kernels, to be started together
    workers: int | None = None  # that cut crops: a thread on a CPU, up to 16 processes beside a GPU
    cache_mb: float = 2000.0  # decoded images kept in memory
    cache_dir: Path | None = None  # folder where decoded images are kept too; None: nowhere
    cache_gb: float | None = None  # most that is kept there; None: 20
    snapshot_s: float = 60.0  # seconds between what a killed run can be resumed from
    log_every: int = 10  # steps a line of log.jsonl

    def __post_init__(self) -> None:
        for name in _PATHS:
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, Path(path).absolute())
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"must lie in {low:g} to {high:g}", field=name, value=value)
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                known = ", ".join(choices)
                raise InputError(f"must be one of {known}", field=name, value=value)
        self._check_together()

    def _check_together(self) -> None:
        if self.init is not None and self.pretrained:
            raise InputError("--init brings weights of its own", field="pretrained", value=True)
        lengths = [n for n in ("steps", "epochs", "time_limit") if getattr(self, n) is not None]
        if len(lengths) > 1:
            raise InputError(f"give one of {' and '.join(lengths)}", field=lengths[1])
        if self.folds is not None and (self.val is not None or self.val_split is not None):
            raise InputError("folds are for data without a validation part", field="folds")
        if self.cache_gb is not None and self.cache_dir is None:
            reason = "is the limit of a folder: give --cache-dir too"
            raise InputError(reason, field="cache_gb", value=self.cache_gb)
        self._check_stages()
        self._check_held_out()
        if self.fold and self.folds is None:
            raise InputError("give the number of folds too", field="fold", value=self.fold)
        if self.folds is not None and self.fold >= self.folds:
            raise InputError(f"must be below folds, {self.folds}", field="fold", value=self.fold)

    def _check_stages(self) -> None:
        if self.crops.scale != 1:
            reason = "photographs are predicted at theirs; --stages sets it for a part of a run"
            raise InputError(reason, field="scale", value=self.crops.scale)
        if parse_stages(self.stages) and self.crops.input == "squash":
            reason = "is for crops: a squashed image has no scale of its own"
            raise InputError(reason, field="stages", value=self.stages)

    def _check_held_out(self) -> None:
        for name in ("val", "val_split", "folds", "patience"):
            if not self.hold_out and getattr(self, name) is not None:
                reason = "with --fold none nothing is held out to validate on"
                raise InputError(reason, field=name, value=str(getattr(self, name)))

    @property
    def highest_lr(self) -> float:
        """The learning rate after warm-up."""
        return RATES[self.optimizer] if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        """The weight decay of what multiplies."""
        return DECAYS[self.optimizer] if self.weight_decay is None else self.weight_decay

    def as_dict(self) -> dict[str, Any]:
        """Plain values as TOML holds them; what is None stays out."""
        values = {name: value for name, value in asdict(self).items() if value not in (None, "")}
        return {n: str(v) if isinstance(v, Path) else v for n, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A config from plain values; raises InputError naming an unknown or wrong field."""
        plain = dict(values)
        crops = plain.pop("crops", {})
        if "arch" not in plain and "init" in plain:
            plain["arch"] = read_manifest(plain["init"]).arch
        _check_kinds(cls, plain)
        _check_kinds(CropConfig, crops)
        if missing := [name for name in ("data", "arch") if name not in plain]:
            raise InputError("setting is missing", field=missing[0])
        paths = {name: Path(plain[name]) for name in _PATHS if name in plain}
        return cls(**(plain | paths), crops=CropConfig(**crops))


def write_config(path: Path, config: TrainConfig) -> None:
    """Write config.toml, whole."""
    write_text(path, tomli_w.dumps(config.as_dict()))


def parse_duration(text: str) -> float:
    """Seconds of a text such as 90, 90s, 30m or 1.5h; raises InputError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?\s*", text)
    if match is None:
        raise InputError("must be a time such as 90s, 30m or 1.5h", field="time_limit", value=text)
    return float(match[1]) * _UNITS[match[2] or ""]


def detector_settings(
    given: Sequence[str], *, levels: str | None = None, norm: str | None = None
) -> dict[str, Any]:
    """Settings of a detector from texts NAME=VALUE and the two that have flags of their own.

    A value is what TOML takes it for, else text. Raises InputError where one is named twice.
    """
    found = [_setting(text) for text in given]
    if levels is not None:
        found.extend(parse_levels(levels).items())
    if norm is not None:
        found.append(("norm", norm))
    settings = dict(found)
    if len(settings) < len(found):
        names = [name for name, _ in found]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("is set twice", field=twice)
    return settings


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise InputError("NAME=VALUE is wanted", field="set", value=text)
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _check_kinds(kind: type, values: Mapping[str, Any]) -> None:
    known = {f.name: str(f.type) for f in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise InputError("unknown setting", field=name)
        wanted = _kind_of(known[name])
        truth = isinstance(value, bool) != (wanted == "bool")  # to Python it is a whole number
        if truth or not isinstance(value, _ACCEPTED[wanted]):
            raise InputError(f"must be {_TOLD[wanted]}", field=name, value=value)


def _kind_of(annotation: str) -> str:
    return next((kind for kind in _ACCEPTED if kind in annotation), "text")


_ACCEPTED: dict[str, tuple[type, ...]] = {
    "Mapping": (dict,),
    "bool": (bool,),
    "float": (int, float),
    "int": (int,),
    "text": (str, Path),
}
_TOLD = {
    "Mapping": "a table",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "text": "text",
}
_RANGES: dict[str, tuple[float, float]] = {
    "voc_origin": (0, 1),
    "folds": (2, 1000),
    "fold": (0, 1000),
    "subset": (1e-6, 1),
    "max_bad": (0, 1e9),
    "patience": (1, 1e6),
    "keep_last": (0, 1000),
    "freeze": (0, 16),
    "batch": (1, 100_000),
    "steps": (1, 1e9),
    "epochs": (1e-3, 1e6),
    "time_limit": (1, 1e8),
    "plain_end": (0, 0.9),
    "lr": (1e-9, 1e3),
    "weight_decay": (0, 10),
    "momentum": (0, 0.999999),
    "warmup_steps": (0, 1e9),
    "final_lr": (0, 1),
    "ema": (0, 0.999999),
    "clip": (0, 1e9),
    "threads": (1, 4096),
    "seed": (0, 2**63 - 1),
    "validate_every": (1, 1e9),
    "max_megapixels": (1e-3, 1e6),
    "workers": (0, 256),
    "cache_mb": (0, 1e9),
    "cache_gb": (0, 1e9),
    "snapshot_s": (0, 1e9),
    "log_every": (1, 1e9),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": tuple(RATES),
    "store": tuple(DTYPES),
    "precision": PRECISIONS,
    "metric": tuple(METRICS),
}
