"""The images that are trained on, and those that are not."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smallobj.boxes import BoxTable, Images, InputError, box_area
from smallobj.datasets import image_size
from smallobj.formats import Labels, draw_share, read_labels, split_folds
from smallobj.formats.faults import Stop
from smallobj.training.config import TrainConfig
from smallobj.training.part import Part, join_parts

DEFAULT_FOLDS = 5
_NAMES = ("training", "validation")
Tell = Callable[[str], None]
LeaveOut = Callable[[Sequence[Part]], Collection[Path]]


class _ImagesLater(Stop):
    """Labels are read to their end where an image cannot be: what looks at all images tells."""

    def add(self, kind: str, reason: str, **place: Any) -> None:
        """See Stop."""
        if kind != "unreadable image":
            super().add(kind, reason, **place)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What is trained on and what is validated on; no image is in both."""

    train: Part
    val: Part | None  # None: all is trained on
    held_out: str  # which part `val` is, for people
    label_hash: str  # SHA-256 of the parts' labels
    left_out: int = 0  # images that cannot be read

    @property
    def largest_object_px(self) -> float:
        """Longer side of the largest training box."""
        xyxy = self.train.table.xyxy
        return float((xyxy[:, 2:] - xyxy[:, :2]).max())


def load_data(
    config: TrainConfig, tell: Tell, *, leave_out: LeaveOut | None = None
) -> TrainingData:
    """Read the labels and every image's header.

    tell is given what the user should know, a line at a time. leave_out: says which images of the
    training and the validation part are not used, after both were settled, so that the others
    stay where they are; without it the first whose header cannot be read is an error. Raises
    InputError where labels or images cannot be read, or there is nothing to learn or to validate
    on.
    """
    train, val, held_out = _parts(config, tell)
    train = _drawn(train, config, tell)
    parts = [train] if val is None else [train, val]
    for part, name in zip(parts, _NAMES, strict=False):
        if part.table.images.width.all():  # else the boxes are those of images that are not read
            _require_boxes(part, name, config)
    left_out = _refused(parts, config) if leave_out is None else leave_out(parts)
    left = [part.without(left_out) for part in parts]
    train, val = left[0], left[1] if val is not None else None
    for part, name in zip(left, _NAMES, strict=False):
        _require_boxes(part, name, config)
        _tell_missing_classes(part.table, name, tell)
    if config.crops.squash_px is None:
        _tell_large_boxes(train.table, config.crops.crop, tell)
    else:
        _tell_squashed_size(train.table, config.crops.squash_px, tell)
    return TrainingData(
        train=train,
        val=val,
        held_out=held_out,
        label_hash=_hash(*(part.table for part in left)),
        left_out=sum(len(part.paths) for part in parts) - sum(len(part.paths) for part in left),
    )


def load_training_part(config: TrainConfig, tell: Tell) -> Part:
    """What `config.data` has to train on: the part `split`, its own part train, else all of it.

    Raises InputError as `load_data` does.
    """
    own = _own_parts(config) if config.split is None else None
    part = _checked(own[0] if own else _read(config, config.split), config, tell)
    _refused([part], config)
    return part


def _require_boxes(part: Part, name: str, config: TrainConfig) -> None:
    if not len(part.table):
        images = len(part.table.images)
        raise InputError(f"the {images} {name} images have no box at all", file=config.data)


def _refused(parts: Sequence[Part], config: TrainConfig) -> Collection[Path]:
    for part in parts:
        for i in np.flatnonzero(part.table.images.width == 0):
            image_size(part.paths[i], max_megapixels=config.max_megapixels)
    return ()


def _parts(config: TrainConfig, tell: Tell) -> tuple[Part, Part | None, str]:
    if not config.hold_out:
        return _everything(config, tell), None, "nothing"
    if config.val is not None:
        train = _read(config, config.split)
        val = _with_classes(_read(config, config.val_split, data=config.val), train, config.val)
        held_out = config.val.name
    elif config.val_split is not None:
        train = _read(config, config.split or "train")
        val, held_out = _read(config, config.val_split), config.val_split
    elif config.split is None and config.folds is None and (own := _own_parts(config)):
        train, val = own
        held_out = "val"
        tell("trains on the data set's own part train, validates on its val")
    else:
        return _folds(config, _checked(_read(config, config.split), config, tell), tell)
    tell_train, tell_val = (_naming(part, tell) for part in ("training", "validation"))
    return _checked(train, config, tell_train), _checked(val, config, tell_val), held_out


def _read(config: TrainConfig, split: str | None, *, data: Path | None = None) -> Labels:
    return read_labels(
        config.data if data is None else data,
        images=config.images if data is None else None,
        kind=config.kind,
        split=split,
        names=config.names,
        voc_origin=config.voc_origin,
        faults=_ImagesLater(),
    )


def _own_parts(config: TrainConfig) -> tuple[Labels, Labels] | None:
    """The parts train and val where the data set has both.

    A fault in either is met again, and raised, when the data set is read whole.
    """
    try:
        return _read(config, "train"), _read(config, "val")
    except InputError:
        return None


def _naming(part: str, tell: Tell) -> Tell:
    return lambda line: tell(f"{part} labels: {line}")


def _everything(config: TrainConfig, tell: Tell) -> Part:
    own = _own_parts(config) if config.split is None else None
    if own is None:
        return _checked(_read(config, config.split), config, tell)
    tell("trains on the data set's own parts train and val, holds nothing out")
    train, val = own
    val = _with_classes(val, train, config.data)
    parts = [
        _checked(labels, config, _naming(name, tell))
        for name, labels in (("training", train), ("validation", val))
    ]
    return join_parts(parts, ("train", "val"))


def _drawn(part: Part, config: TrainConfig, tell: Tell) -> Part:
    """The share of the images that is trained on."""
    if config.subset == 1:
        return part
    drawn = np.flatnonzero(draw_share(part.table, config.subset, seed=config.seed))
    tell(f"trains on {len(drawn)} of {len(part.paths)} images")
    return part.take(drawn)


def _folds(config: TrainConfig, whole: Part, tell: Tell) -> tuple[Part, Part, str]:
    folds = config.folds or DEFAULT_FOLDS
    if len(whole.paths) < folds:
        images = f"{len(whole.paths)} image{'s are' if len(whole.paths) > 1 else ' is'}"
        raise InputError(
            f"{images} too few to hold one of {folds} folds out: --folds takes a smaller number, "
            "--val other images to validate on, --fold none holds nothing out",
            file=config.data,
            field="folds",
        )
    fold = split_folds(whole.table, folds, seed=config.seed)
    train, val = (whole.take(np.flatnonzero(m)) for m in (fold != config.fold, fold == config.fold))
    held_out = f"fold {config.fold} of {folds}"
    tell(f"validates on {held_out}: {len(val.paths)} of {len(whole.paths)} images")
    return train, val, held_out


def _checked(labels: Labels, config: TrainConfig, tell: Tell) -> Part:
    """Labels with the sizes of their image files, every header read; what was repaired is told.

    The size of one whose header cannot be read is 0.
    """
    for line in labels.repairs.lines():
        tell(line)
    paths = labels.paths
    sizes = [_size(path, config.max_megapixels) for path in paths]
    images = Images.of(labels.table.images.ids, sizes)
    stated = labels.table.images
    differ = (stated.width > 0) & (images.width > 0)
    differ &= (stated.width != images.width) | (stated.height != images.height)
    if differ.any():
        first = int(np.flatnonzero(differ)[0])
        tell(
            f"{int(differ.sum())} images are of another size than their labels say: "
            f"{stated.ids[first]} has {sizes[first][0]} x {sizes[first][1]} px, "
            f"not {stated.width[first]} x {stated.height[first]}"
        )
    return Part(table=replace(labels.table, images=images), paths=paths)


def _size(path: Path, max_megapixels: float) -> tuple[int, int]:
    try:
        return image_size(path, max_megapixels=max_megapixels)
    except InputError:  # told by what looks at all images
        return 0, 0


def _with_classes(labels: Labels, wanted: Labels, file: Path) -> Labels:
    """The labels with the classes of another data set, matched by name."""
    classes = wanted.table.classes
    unknown = [name for name in labels.table.classes.names if name not in classes.names]
    if unknown:
        known = ", ".join(classes.names)
        raise InputError(
            f"class is not among those trained on: {known}", file=file, value=unknown[0]
        )
    place = np.array([classes.names.index(n) for n in labels.table.classes.names], np.int32)
    table = replace(labels.table, classes=classes, label=place[labels.table.label])
    return replace(labels, table=table)


def _tell_missing_classes(table: BoxTable, name: str, tell: Tell) -> None:
    counts = np.bincount(table.label, minlength=len(table.classes))
    missing = [c for c, n in zip(table.classes.names, counts, strict=True) if not n]
    if missing:
        tell(f"no {name} box of class {', '.join(missing)}")


def _tell_large_boxes(table: BoxTable, crop_px: int, tell: Tell) -> None:
    large = int(((table.xyxy[:, 2:] - table.xyxy[:, :2]).max(axis=1) > crop_px).sum())
    if large:
        tell(f"{large} of {len(table)} training boxes are larger than the crop of {crop_px} px")


def _tell_squashed_size(table: BoxTable, squash_px: int, tell: Tell) -> None:
    pixels = (table.images.width.astype(np.float64) * table.images.height)[table.image_index]
    sides = squash_px * np.sqrt(box_area(table.xyxy) / pixels)
    low, middle, high = np.quantile(sides, [0.1, 0.5, 0.9])
    tell(
        f"squashed to {squash_px} px, half of the {len(table)} training boxes are below "
        f"{middle:.1f} px (square root of the area), most {low:.1f} to {high:.1f} px"
    )


def _hash(*tables: BoxTable) -> str:
    digest = hashlib.sha256()
    for table in tables:
        digest.update(repr((table.images.ids, table.classes)).encode())
        columns = (table.images.width, table.images.height, table.offsets, table.xyxy, table.label)
        for column in columns:
            digest.update(column.tobytes())
    return digest.hexdigest()
