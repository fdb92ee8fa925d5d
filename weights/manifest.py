"""What a trained model is: identity, classes, training, scores; read without torch."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from smallobj.boxes import Classes, InputError, read_toml, write_text

MANIFEST = "manifest.toml"
WEIGHTS = "weights.safetensors"
FULL = "fp32"
DTYPES = {FULL: "float32", "fp16": "float16", "bf16": "bfloat16"}  # that weights are stored in


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A trained model as its run's manifest.toml describes it.

    Raises InputError, naming the field, where a value cannot be.
    """

    id: str  # names the model in recipes and runs
    arch: str  # registered name of the detector
    backbone: str  # timm's name
    config: Mapping[str, Any]  # the detector's other settings
    classes: Classes
    train_crop_px: int  # side of the squares it was trained on
    largest_object_px: float  # longer side of the largest training box
    mean: tuple[float, float, float]  # of the training images by channel (RGB), 0..255
    std: tuple[float, float, float]
    input: str = "crops"  # what these showed: crops at native scale, or squash: whole images
    symmetry: str = "all"  # flips and turns of the training crops: all, mirror or none
    dtype: str = "float32"  # of the stored weights
    origin: str = "random weights"  # what training began from: a contest may forbid some
    data_hash: str = ""  # of the training labels
    code_revision: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)  # validation metrics by name
    versions: Mapping[str, str] = field(default_factory=dict)  # of the libraries
    sha256: str = ""  # of weights.safetensors; filled in by save_weights
    weight_bytes: int = 0  # size of weights.safetensors; filled in by save_weights and load_weights

    def __post_init__(self) -> None:
        for name, (check, wish) in _CHECKS.items():
            value = getattr(self, name)
            if not check(value):
                raise InputError(f"must be {wish}", field=name, value=value)

    @property
    def weight_mb(self) -> float | None:
        """Size of weights.safetensors as stored, in MB of 1,000,000 bytes; None: not known."""
        return self.weight_bytes / 1e6 or None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as TOML holds them."""
        values = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        values["classes"] = {
            "names": list(self.classes.names),
            "ids": list(self.classes.source_ids),
        }
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Manifest":
        """A manifest from plain values; raises InputError naming the missing or unknown field."""
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise InputError("unknown field", field=name)
        for name in _REQUIRED:
            if name not in values:
                raise InputError("field is missing", field=name)
        plain = dict(values)
        plain["classes"] = _classes(values["classes"])
        for name in ("mean", "std"):
            if isinstance(plain[name], list):
                plain[name] = tuple(plain[name])
        return cls(**plain)


def run_folder(path: str | Path) -> Path:
    """The folder of a run, given it or one of the files in it."""
    path = Path(path)
    return path.parent if path.name in (MANIFEST, WEIGHTS) else path


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a run; `path` is its folder, or the manifest or weights in it.

    Raises InputError with file, field and value where it is missing or cannot be.
    """
    file = run_folder(path) / MANIFEST
    values = read_toml(file)
    try:
        return Manifest.from_dict(values)
    except InputError as error:
        raise InputError(error.reason, file=file, field=error.field, value=error.value) from error


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write manifest.toml into a run's folder, whole or not at all."""
    write_text(Path(folder) / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """What manifest.toml holds."""
    return tomli_w.dumps(manifest.as_dict())


def _classes(value: Any) -> Classes:
    if not isinstance(value, dict) or set(value) != {"names", "ids"}:
        raise InputError("must be a table of names and ids", field="classes", value=value)
    names, ids = value["names"], value["ids"]
    if not _is_list(names, str) or not names:
        raise InputError("must be a list of text", field="classes.names", value=names)
    if not _is_list(ids, int):
        raise InputError("must be a list of whole numbers", field="classes.ids", value=ids)
    try:
        return Classes.of(names, ids)
    except ValueError as error:
        raise InputError(str(error), field="classes") from error


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_named(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_triple(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_is_number(v) for v in value)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("([0-9a-f]{64})?", value) is not None


def _maps(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def mapping(value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and check(item) for key, item in value.items()
        )

    return mapping


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_named, "text"),
    "arch": (_is_named, "text"),
    "backbone": (_is_named, "text"),
    "config": (_maps(lambda _: True), "a table"),
    "classes": (lambda value: isinstance(value, Classes) and len(value) > 0, "classes"),
    "train_crop_px": (lambda value: type(value) is int and value > 0, "a whole number above 0"),
    "largest_object_px": (lambda value: _is_number(value) and value >= 0, "a number from 0 up"),
    "mean": (_is_triple, "three numbers"),
    "std": (_is_triple, "three numbers"),
    "input": (lambda value: value in ("crops", "squash"), "crops or squash"),
    "symmetry": (lambda value: value in ("all", "mirror", "none"), "all, mirror or none"),
    "dtype": (lambda value: value in DTYPES.values(), "a type of weights"),
    "origin": (_is_named, "text"),
    "data_hash": (_is_text, "text"),
    "code_revision": (_is_text, "text"),
    "scores": (_maps(_is_number), "a table of numbers"),
    "versions": (_maps(_is_text), "a table of text"),
    "sha256": (_is_sha256, "64 hexadecimal digits"),
    "weight_bytes": (lambda value: type(value) is int and value >= 0, "a whole number from 0 up"),
}
_REQUIRED = (
    "id",
    "arch",
    "backbone",
    "config",
    "classes",
    "train_crop_px",
    "largest_object_px",
    "mean",
    "std",
)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
