"""Which images are to be predicted: a folder, one file, a list of files, a part of a data set."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from smallobj.boxes import InputError
from smallobj.formats import list_images, read_labels
from smallobj.formats.image_files import IMAGE_ENDINGS
from smallobj.formats.image_ids import normal_id

LIST_ENDING = ".txt"


class ImageFiles(NamedTuple):
    """Images by id, which is the path relative to `root`, POSIX, Unicode NFC."""

    root: Path
    ids: tuple[str, ...]
    paths: tuple[Path, ...]


def find_images(source: str | Path) -> ImageFiles:
    """The images of a folder (all levels), of one file, or of a list (`.txt`, a path a line).

    A list's paths count from the list's own folder; so do its ids, or from the folder that all of
    them share where one lies elsewhere. Raises InputError where there is no image, one is missing
    or named twice, or a name is not UTF-8.
    """
    source = Path(source)
    if source.is_dir():
        found = list_images(source)
        if not found:
            endings = " ".join(sorted(IMAGE_ENDINGS))
            raise InputError(f"no images in this folder (endings: {endings})", file=source)
        return _checked(source, found.items())
    if not source.is_file():
        raise InputError("no such folder of images, image or list of images", file=source)
    if source.suffix.lower() == LIST_ENDING:
        return _listed(source)
    return _checked(source.parent, [(normal_id(source.name), source)])


def find_part(data: str | Path, split: str) -> ImageFiles:
    """The images of a part of a labelled data set, under the ids that its labels use.

    split: a part that the data set names, or a `.txt` with an image a line; see `read_labels`.
    Raises InputError where the data set has no such part, or an image is missing.
    """
    labels = read_labels(Path(data), split=split)
    pairs = list(zip(labels.table.images.ids, labels.paths, strict=True))
    if not pairs:
        raise InputError("no images in this part", file=data, field="split", value=split)
    return _checked(labels.root or Path(data), pairs)


def _listed(source: Path) -> ImageFiles:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"list of images cannot be read: {error}", file=source) from error
    base = Path(os.path.abspath(source.parent))
    paths = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path = Path(os.path.abspath(base / line.strip()))
        if not path.is_file():
            raise InputError("no such image", file=source, item=f"line {number}", value=str(path))
        paths.append(path)
    if not paths:
        raise InputError("no images in this list", file=source)
    if not all(path.is_relative_to(base) for path in paths):
        base = Path(os.path.commonpath([path.parent for path in paths]))
    return _checked(base, [(normal_id(p.relative_to(base).as_posix()), p) for p in paths])


def _checked(root: Path, found: Iterable[tuple[str, Path]]) -> ImageFiles:
    ids, paths = zip(*found, strict=True)
    seen: set[str] = set()
    for image_id, path in zip(ids, paths, strict=True):
        try:
            image_id.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                "name is not UTF-8, so no answer file can hold it: rename the image",
                file=printable(path),
            ) from error
        if image_id in seen:
            raise InputError("image stands twice in the list", item=image_id)
        seen.add(image_id)
    return ImageFiles(root, ids, paths)


def printable(path: Path) -> str:
    """A path as one line of UTF-8, whatever bytes its name holds."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
