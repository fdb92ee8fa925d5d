"""What every detector promises: images in, losses or raw tensors out, candidates before NMS."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Self, get_origin

import torch
from torch import Tensor, nn

from smallobj.boxes import InputError
from smallobj.detectors.norms import NORMS


class Target(NamedTuple):
    """The true boxes of one image of a batch; M may be 0."""

    xyxy: Tensor  # float32 [M, 4], pixels of the input, each with an area
    label: Tensor  # int64 [M], 0 to num_classes - 1


class Candidates(NamedTuple):
    """What one image may hold, before NMS: best first, inside the image, each with an area."""

    xyxy: Tensor  # float32 [K, 4], pixels of the input
    score: Tensor  # float32 [K], min_score to 1
    label: Tensor  # int64 [K]


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Settings that every detector has; each detector adds its own fields and its SIZES.

    Raises InputError, naming the field, where a value cannot be.
    """

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    num_classes: int
    mean: tuple[float, float, float]  # of the training images by channel (RGB), 0..255
    std: tuple[float, float, float]  # likewise, at least 1: a unit of 0..1 is a mistake
    backbone: str = "resnet18"  # any timm name whose feature maps start at the wanted stride
    backbone_options: Mapping[str, Any] = field(default_factory=dict)  # handed to timm
    norm: str = "batch"  # batch, or group: no batch norm anywhere, for small batches
    max_candidates: int = 1000  # boxes an image before NMS
    min_score: float = 0.001

    def __post_init__(self) -> None:
        # Lists, whoever gave them: a config read from a file equals the one it was written from.
        object.__setattr__(self, "backbone_options", _plain(self.backbone_options))
        self._between("num_classes", 1, 100_000)
        self._one_of("norm", NORMS)
        self._between("max_candidates", 1, 100_000)
        self._between("min_score", 0, 1)
        for name, low, high in (("mean", 0, 255), ("std", 1, 255)):
            value = getattr(self, name)
            if len(value) != 3 or not all(_is_number(v) and low <= v <= high for v in value):
                raise InputError(
                    f"three numbers of {low} to {high} are wanted", field=name, value=value
                )

    def _between(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise InputError(f"must lie in {low} to {high}", field=name, value=value)

    def _one_of(self, name: str, choices: Sequence[Any]) -> None:
        value = getattr(self, name)
        if value not in choices:
            known = ", ".join(str(choice) for choice in choices)
            raise InputError(f"must be one of {known}", field=name, value=value)

    @classmethod
    def of_size(cls, size: str, **settings: Any) -> Self:
        """The config of a named size; `settings` go before the size's own values.

        A backbone of the user's own does not take the options of the size's backbone.
        """
        if size not in cls.SIZES:
            raise InputError(f"unknown size; known: {', '.join(cls.SIZES)}", value=size)
        preset = dict(cls.SIZES[size])
        if settings.get("backbone", preset["backbone"]) != preset["backbone"]:
            preset["backbone_options"] = {}
        return cls.from_dict(preset | settings)

    @classmethod
    def usual_size(cls) -> str:
        """The size where none is named: the first after tiny."""
        return next(size for size in cls.SIZES if size != "tiny")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A config from plain values, as a manifest or a command line holds them."""
        kinds = {f.name: f.type for f in fields(cls)}
        for name in values:
            if name not in kinds:
                raise InputError(f"unknown detector setting; known: {', '.join(kinds)}", value=name)
        missing = [name for name in ("num_classes", "mean", "std") if name not in values]
        if missing:
            raise InputError("missing detector setting", field=missing[0])
        return cls(**{name: _checked(name, kinds[name], v) for name, v in values.items()})

    def as_dict(self) -> dict[str, Any]:
        """Plain values: numbers, text, lists and tables, as TOML holds them."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


class Detector(nn.Module, ABC):
    """A model that finds boxes of classes; built by name, see `build_detector`.

    Everything passes through `forward`, so that a wrapper (DDP, autocast, compile) sees it all.
    A subclass names its config in `Config` and gives `network`, `losses` and `boxes`.
    """

    Config: ClassVar[type[DetectorConfig]]
    name: ClassVar[str] = ""  # given by `register`
    chosen_by: ClassVar[str] = ""  # raw boxes, where the rows of raw are of the best boxes only
    licence: ClassVar[str] = "MIT"  # of the code it runs on, besides torch and timm
    needs: ClassVar[str] = ""  # what pip must install beside smallobj, where something is

    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig, *, stride: int) -> None:
        super().__init__()
        self.config = config
        self.stride = stride  # height and width of a batch must be multiples
        # Not in the state: the config is where they are kept.
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, targets: Sequence[Target] | None = None) -> dict[str, Tensor]:
        """Losses where targets are given, else raw tensors of the detector's own fixed meaning.

        images uint8 [B, 3, H, W], RGB, height and width multiples of `stride`. Targets, one an
        image, may stay on the CPU: there they are checked without waiting for the device.
        Losses are float32 scalars, weighted, to be summed. Raises ValueError on wrong input.
        """
        self._check_images(images)
        if targets is not None:
            check_targets(targets, len(images), self.config.num_classes)
        x = self.normalise(images)
        if targets is None:
            return in_float32(self.network(x))
        moved = _on_device(targets, images.device)
        height, width = images.shape[2:]
        return self.training_losses(x, moved, (height, width))

    def training_losses(
        self, x: Tensor, targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Losses of a normalised batch and checked targets on its device.

        For a detector to replace whose network must see the targets, or tell more than raw
        tensors, while it learns; called inside autocast, which losses must leave.
        """
        raw = in_float32(self.network(x))
        with torch.autocast(x.device.type, enabled=False):
            return self.losses(raw, targets, image_size)

    @torch.no_grad()
    def decode(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> list[Candidates]:
        """The candidates of each image, from what `forward` returned without targets.

        image_size is the batch's (height, width). At most `max_candidates` an image, from
        `min_score` up, best first, cut at the border; NMS is the caller's.
        """
        raw = in_float32(raw)  # an exported model's may be half
        score, boxes_of = self.scored_places(raw, image_size)
        return [
            best_candidates(s, of, image_size, self.config)
            for s, of in zip(score, boxes_of, strict=True)
        ]

    @abstractmethod
    def network(self, x: Tensor) -> dict[str, Tensor]:
        """Raw tensors of a normalised float batch [B, 3, H, W]."""

    @abstractmethod
    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Scalar losses of float32 raw tensors and checked targets on their device."""

    @abstractmethod
    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores [B, P, C] in 0..1 and boxes [B, P, 4] (xyxy, pixels) of every place P."""

    def scored_places(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, list[Callable[[Tensor], Tensor]]]:
        """Scores [B, P, C] of every place, and for each image what gives the boxes of some.

        places int64 [K] -> boxes [K, 4], as `boxes` has them. For a detector to replace that need
        not work out the boxes of all its places: few are candidates.
        """
        score, xyxy = self.boxes(raw, image_size)
        return score, [one.__getitem__ for one in xyxy]

    def normalise(self, images: Tensor) -> Tensor:
        """Float images of mean 0 and deviation 1, channels last: CPUs and tensor cores want it."""
        x = images.to(torch.float32, memory_format=torch.channels_last)
        return (x - self.mean) / self.std

    def _check_images(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images must be uint8 [B, 3, H, W], got {images.dtype} {list(images.shape)}"
            )
        height, width = images.shape[2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"height and width must be multiples of {self.stride}, got {height} x {width}"
            )


def check_targets(targets: Sequence[Target], images: int, num_classes: int) -> None:
    """Raise ValueError, naming the image, where targets would poison a loss.

    One target an image; xyxy [M, 4] finite with x1 < x2 and y1 < y2; label [M] in the classes.
    """
    if len(targets) != images:
        raise ValueError(f"{len(targets)} targets for {images} images")
    for i, (xyxy, label) in enumerate(targets):
        if xyxy.shape != (len(label), 4) or label.dim() != 1:
            raise ValueError(
                f"target {i}: shapes {list(xyxy.shape)} and {list(label.shape)}, not [M, 4] and [M]"
            )
        if xyxy.dtype != torch.float32 or label.dtype != torch.int64:
            raise ValueError(
                f"target {i}: types {xyxy.dtype} and {label.dtype}, not float32 and int64"
            )
        if not bool(torch.isfinite(xyxy).all() and (xyxy[:, 2:] > xyxy[:, :2]).all()):
            raise ValueError(f"target {i}: a box is not finite or has no area")
        if not bool(((label >= 0) & (label < num_classes)).all()):
            raise ValueError(f"target {i}: a label is outside 0 to {num_classes - 1}")


def _on_device(targets: Sequence[Target], device: torch.device) -> list[Target]:
    """All targets in two transfers, as a GPU waits for each."""
    if all(t.xyxy.device == t.label.device == device for t in targets):
        return list(targets)
    counts = [len(t.label) for t in targets]
    xyxy, label = (
        torch.cat(column).to(device).split(counts) for column in zip(*targets, strict=True)
    )
    return [Target(*one) for one in zip(xyxy, label, strict=True)]


def best_candidates(
    score: Tensor,
    boxes_of: Callable[[Tensor], Tensor],
    image_size: tuple[int, int],
    config: DetectorConfig,
) -> Candidates:
    """The best boxes of one image: score [P, C], places [K] -> boxes [K, 4], (height, width)."""
    flat = score.flatten()
    wanted = (flat >= config.min_score).nonzero().squeeze(1)
    chosen = flat[wanted]
    if len(wanted) > config.max_candidates:
        wanted = wanted[chosen.topk(config.max_candidates).indices.sort().values]
        chosen = flat[wanted]
    # Stable, so that equal scores keep the order of their places in a batch of any size.
    order = chosen.argsort(descending=True, stable=True)
    wanted, chosen = wanted[order], chosen[order]
    place, label = wanted // score.shape[1], wanted % score.shape[1]
    height, width = image_size
    found = boxes_of(place)
    kept = found.clamp(min=0).minimum(found.new_tensor([width, height, width, height]))
    has_area = (kept[:, 2:] > kept[:, :2]).all(dim=1)
    return Candidates(kept[has_area], chosen[has_area], label[has_area])


def in_float32(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Loss and score arithmetic is of float32, whatever the network ran in."""
    return {name: value.float() for name, value in raw.items()}


def _checked(name: str, declared: Any, value: Any) -> Any:
    """A plain value as its field's declared type wants it, or InputError."""
    kind = get_origin(declared) or declared
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wish = {tuple: "a list", Mapping: "a table"}.get(kind, f"of type {kind.__name__}")
        raise InputError(f"must be {wish}", field=name, value=value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
