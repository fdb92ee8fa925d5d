"""The images that are trained on, and those that are not."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Images, InputError, box_area
from smallobj.datasets import image_size
from smallobj.formats import Labels, read_labels, split_folds
from smallobj.training.config import TrainConfig

DEFAULT_FOLDS = 5
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Labelled images: a table whose image sizes are those of the files, and the files."""

    table: BoxTable
    paths: tuple[Path, ...]

    def take(self, index: NDArray[np.int64]) -> "Part":
        """The images at `index` [K]."""
        return Part(table=self.table.take_images(index), paths=tuple(self.paths[i] for i in index))


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What is trained on and what is validated on; no image is in both."""

    train: Part
    val: Part
    held_out: str  # which part `val` is, for people
    label_hash: str  # SHA-256 of both parts' labels

    @property
    def largest_object_px(self) -> float:
        """Longer side of the largest training box."""
        xyxy = self.train.table.xyxy
        return float((xyxy[:, 2:] - xyxy[:, :2]).max())


def load_data(config: TrainConfig, tell: Tell) -> TrainingData:
    """Read the labels and every image's header.

    tell is given what the user should know, a line at a time. Raises InputError where labels or
    images cannot be read, or there is nothing to learn or to validate on.
    """
    train, val, held_out = _parts(config, tell)
    for part, name in ((train, "training"), (val, "validation")):
        if not len(part.table):
            images = len(part.table.images)
            raise InputError(f"the {images} {name} images have no box at all", file=config.data)
    _tell_missing_classes(train.table, val.table, tell)
    if config.crops.squash_px is None:
        _tell_large_boxes(train.table, config.crops.crop, tell)
    else:
        _tell_squashed_size(train.table, config.crops.squash_px, tell)
    return TrainingData(
        train=train, val=val, held_out=held_out, label_hash=_hash(train.table, val.table)
    )


def _parts(config: TrainConfig, tell: Tell) -> tuple[Part, Part, str]:
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


def _folds(config: TrainConfig, whole: Part, tell: Tell) -> tuple[Part, Part, str]:
    folds = config.folds or DEFAULT_FOLDS
    fold = split_folds(whole.table, folds, seed=config.seed)
    train, val = (whole.take(np.flatnonzero(m)) for m in (fold != config.fold, fold == config.fold))
    held_out = f"fold {config.fold} of {folds}"
    tell(f"validates on {held_out}: {len(val.paths)} of {len(whole.paths)} images")
    return train, val, held_out


def _checked(labels: Labels, config: TrainConfig, tell: Tell) -> Part:
    """Labels with the sizes of their image files, every header read; what was repaired is told."""
    for line in labels.repairs.lines():
        tell(line)
    paths = labels.paths
    sizes = [image_size(path, max_megapixels=config.max_megapixels) for path in paths]
    images = Images.of(labels.table.images.ids, sizes)
    stated = labels.table.images
    differ = (stated.width > 0) & (
        (stated.width != images.width) | (stated.height != images.height)
    )
    if differ.any():
        first = int(np.flatnonzero(differ)[0])
        tell(
            f"{int(differ.sum())} images are of another size than their labels say: "
            f"{stated.ids[first]} has {sizes[first][0]} x {sizes[first][1]} px, "
            f"not {stated.width[first]} x {stated.height[first]}"
        )
    return Part(table=replace(labels.table, images=images), paths=paths)


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


def _tell_missing_classes(train: BoxTable, val: BoxTable, tell: Tell) -> None:
    for table, name in ((train, "training"), (val, "validation")):
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
