"""Every fault of a data set, by the readers that reading uses, told to go on."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from smallobj.boxes import InputError
from smallobj.formats.faults import Collected, Fault, Faults
from smallobj.formats.image_files import IMAGE_FORMATS, upright_size
from smallobj.formats.labels import make_request, read_raw
from smallobj.formats.raw import RawLabels

LARGEST_MEGAPIXELS = 400  # a larger image is not decoded

_SEVERITIES = ("error", "warning", "notice")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was looked at and every fault found, errors first."""

    kind: str | None  # None where the labels were not recognised
    images: int
    boxes: int  # without those of faulty values
    faults: tuple[Fault, ...]

    def count(self, severity: str) -> int:
        """Number of faults of one severity: error, warning or notice."""
        return sum(fault.severity == severity for fault in self.faults)


def check_labels(
    data: Path,
    *,
    images: Path | None = None,
    kind: str | None = None,
    split: str | None = None,
    names: Path | None = None,
    voc_origin: int = 1,
    pixels: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Look for every fault in labels and images; the arguments are those of `read_labels`.

    pixels: decode every image as well. on_progress: called with images done and images in all.
    A fault that leaves nothing to look at (no such folder, not JSON) is the only one listed.
    """
    faults = Collected()
    request = make_request(images=images, split=split, names=names, voc_origin=voc_origin)
    try:
        found, raw = read_raw(data, kind, request, split, faults)
    except InputError as error:
        fault = _of_error(error, data)
        return Checked(kind=kind, images=0, boxes=0, faults=(*faults.found, fault))
    sizes = _check_images(raw, pixels, faults, on_progress)
    raw.sized(sizes).table(faults)
    _check_duplicates(raw, faults)
    _check_classes(raw, data, faults)
    for image_id in (*raw.unlabelled, *raw.without_file):
        faults.add("image without labels", "no labels for this image", file=raw.root, item=image_id)
    ordered = sorted(faults.found, key=lambda fault: _SEVERITIES.index(fault.severity))
    return Checked(kind=found, images=len(raw.ids), boxes=len(raw.label), faults=tuple(ordered))


def _of_error(error: InputError, data: Path) -> Fault:
    return Fault(
        kind="unreadable labels",
        reason=error.reason,
        file=str(error.file or data),
        item=None if error.item is None else str(error.item),
        field=error.field,
        value=error.value,
    )


def _check_images(
    raw: RawLabels,
    pixels: bool,
    faults: Faults,
    on_progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """Report missing and unreadable images; sizes [N, 2], the labels' own where they give one."""
    if raw.images_clash is not None:
        clash = raw.images_clash
        faults.add("missing image", clash.reason, file=clash.file, item=clash.item)
        return raw.sizes
    if raw.root is None:
        reason = "no image folder found, images are not checked; name it (--images)"
        faults.add("no image folder", reason, file=raw.files[0] if raw.files else None)
        return raw.sizes
    sizes = raw.sizes.copy()
    for i, (image_id, path) in enumerate(zip(raw.ids, raw.paths, strict=True)):
        if path is None:
            faults.add("missing image", "image is missing", file=raw.files[i], item=image_id)
        else:
            sizes[i] = _check_image(raw, i, path, pixels, faults)
        if on_progress is not None:
            on_progress(i + 1, len(raw.ids))
    return sizes


def _check_image(
    raw: RawLabels, i: int, path: Path, pixels: bool, faults: Faults
) -> tuple[int, int]:
    declared = int(raw.sizes[i, 0]), int(raw.sizes[i, 1])
    try:
        size = upright_size(path)
        if pixels:
            _decode(path, size)
    except InputError as error:
        if raw.read_headers:
            return declared  # told while the labels were read
        faults.add("unreadable image", error.reason, file=path, item=raw.ids[i])
        return declared
    if 0 not in declared and declared != size:
        reason = f"labels say {declared[0]} x {declared[1]} px, the image is {size[0]} x {size[1]}"
        faults.add("image size", reason, file=raw.files[i], item=raw.ids[i], field="size")
    return size if 0 in declared else declared


def _decode(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > LARGEST_MEGAPIXELS * 1e6:
        raise InputError(f"is larger than {LARGEST_MEGAPIXELS} megapixels, not decoded", file=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                image.load()
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        raise InputError(f"pixels cannot be decoded: {error}", file=path) from error


def _check_duplicates(raw: RawLabels, faults: Faults) -> None:
    first: dict[tuple[float, ...], int] = {}
    boxes = np.column_stack([raw.image_index, raw.given]).tolist()
    for row, key in enumerate(map(tuple, boxes)):
        earlier = first.setdefault(key, row)
        if earlier == row:
            continue
        other = raw.row_field.format(int(raw.number[earlier]))
        same = raw.label[earlier] == raw.label[row]
        classes = "" if same else f", there called {raw.classes.names[raw.label[earlier]]}"
        faults.add("duplicate box", f"same box as {other}{classes}", **raw.place(row))


def _check_classes(raw: RawLabels, data: Path, faults: Faults) -> None:
    count = np.bincount(raw.label, minlength=len(raw.classes))
    for name, boxes in zip(raw.classes.names, count, strict=True):
        if not boxes:
            faults.add(
                "class without boxes",
                "class has no box in these labels",
                file=data,
                field="class",
                value=name,
            )
