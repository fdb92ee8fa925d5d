"""Which images are to be predicted: folders, patterns, lists, zip archives, single images."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import InputError
from smallobj.datasets import ZipArchive, ZipMember
from smallobj.formats import Labels, read_labels
from smallobj.formats.image_files import IMAGE_ENDINGS
from smallobj.formats.image_ids import natural_key, normal_id
from smallobj.prediction.names import id_fault, one_line, printable
from smallobj.prediction.walk import is_image_name, walk

LIST_ENDING = ".txt"
ZIP_ENDING = ".zip"
STANDARD_INPUT = "-"

Place = Path | ZipArchive  # what a name counts from


class Skipped(NamedTuple):
    """An image that is left out."""

    id: str  # may hold what no UTF-8 text can, where that is the reason
    reason: str


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Images by id, which is the path relative to `root` or inside its archive, POSIX, NFC.

    Holds names alone, so that a hundred thousand images cost some megabytes; `paths` makes each
    path when it is asked for. `refused` are files that no answer file could name.
    """

    root: Path
    ids: tuple[str, ...]
    paths: "Paths"
    refused: tuple[Skipped, ...] = ()


class Paths(Sequence[Path | ZipMember]):
    """Where images lie, kept as a name each and the few places that the names count from."""

    def __init__(self, places: Sequence[Place], place: NDArray[np.int32], names: Sequence[str]):
        self._places, self._place, self._names = places, place, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Path | ZipMember: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path | ZipMember]: ...
    def __getitem__(self, index: int | slice) -> Path | ZipMember | list[Path | ZipMember]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place, name = self._places[self._place[index]], self._names[index]
        return place.member(name) if isinstance(place, ZipArchive) else place / name


class _Found(NamedTuple):
    """What one input comes to: names that count from `base`."""

    base: Path
    names: list[str]
    archive: ZipArchive | None = None  # the names are its members


def find_images(*sources: str | Path) -> ImageFiles:
    """The images of folders (all levels), patterns, lists, zip archives, files, or `-`.

    A pattern (`photos/**/*.jpg`) is one where no file has that very name. A list is a `.txt` with
    a path a line, counted from its own folder; `-` reads such lines from standard input, counted
    from here; both may be separated by NUL bytes instead. Ids count from the folder that all
    inputs share; for a single folder, pattern or list from that itself; in an archive from its
    root. Images of a folder and archive come in natural order, those of a list as listed.

    Raises InputError where there is no image, a listed one is missing, or two have the same id.
    """
    if not sources:
        raise InputError("no images given")
    found = [_find(str(source)) for source in sources]
    files = [part for part in found if part.archive is None]
    root = _shared([part.base for part in files]) if files else found[0].base
    return _joined(root, found)


def find_part(data: str | Path, split: str) -> ImageFiles:
    """The images of a part of a labelled data set, under the ids that its labels use.

    split: a part that the data set names, or a `.txt` with an image a line; see `read_labels`.
    Raises InputError where the data set has no such part, or an image is missing.
    """
    labels = read_labels(Path(data), split=split)
    if not labels.table.images.ids:
        raise InputError("no images in this part", file=data, field="split", value=split)
    return labelled_images(labels)


def labelled_images(labels: Labels) -> ImageFiles:
    """The images of labels under the ids that these use; InputError where one is missing."""
    ids = labels.table.images.ids
    names = [os.path.abspath(path) for path in labels.paths]
    root = labels.root or labels.path
    return ImageFiles(
        root=root, ids=tuple(ids), paths=Paths([root], np.zeros(len(ids), np.int32), names)
    )


def _find(source: str) -> _Found:
    path = Path(source)
    if source == STANDARD_INPUT:
        return _listed(sys.stdin.buffer.read(), Path.cwd(), "standard input")
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        ending = path.suffix.lower()
        if ending == LIST_ENDING:
            return _list_file(path)
        if ending == ZIP_ENDING:
            return _in_archive(path)
        return _Found(path.parent, [path.name])
    if glob.has_magic(source):
        return _matching(source)
    raise InputError("no such folder of images, image, list or archive", file=printable(path))


def _in_folder(folder: Path) -> _Found:
    names = list(walk(folder))
    if not names:
        raise _none_there("in this folder", folder)
    return _Found(folder, sorted(names, key=natural_key))


def _in_archive(path: Path) -> _Found:
    archive = ZipArchive(path)
    # Windows writes its own separators into archives
    names = [name for name in archive.names() if is_image_name(name.replace("\\", "/"))]
    if not names:
        raise _none_there("in this archive", path)
    return _Found(path, sorted(names, key=natural_key), archive)


def _matching(pattern: str) -> _Found:
    base = Path(_fixed_part(pattern))
    matches = (m for m in glob.iglob(pattern, recursive=True) if not os.path.isdir(m))
    names = [n for n in (os.path.relpath(m, base) for m in matches) if is_image_name(n)]
    if not names:
        raise _none_there("match", Path(pattern))
    return _Found(base, sorted(names, key=natural_key))


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before the first that holds a `*`, `?` or `[`."""
    folder = os.path.dirname(pattern)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder or "."


def _list_file(path: Path) -> _Found:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"list of images cannot be read: {error.strerror}", file=path) from error
    return _listed(content, Path(os.path.abspath(path.parent)), printable(path))


def _listed(content: bytes, base: Path, source: str) -> _Found:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("list of images cannot be read: save it as UTF-8", file=source)
    content = content.removeprefix(b"\xef\xbb\xbf")
    separator = b"\0" if b"\0" in content else b"\n"
    names = []
    for number, line in enumerate(content.split(separator), 1):
        if not line.strip():
            continue
        path = _named(base, os.fsdecode(line.removesuffix(b"\r")))
        if path is None:
            shown = one_line(os.fsdecode(line.strip()))
            raise InputError("no such image", file=source, item=f"line {number}", value=shown)
        names.append(path)
    if not names:
        raise InputError("no images in this list", file=source)
    if not all(Path(name).is_relative_to(base) for name in names):
        base = _shared([Path(name).parent for name in names])
    return _Found(base, [os.path.relpath(name, base) for name in names])


def _named(base: Path, line: str) -> str | None:
    """The file of a line of a list; spaces around it are its own only where such a file is."""
    for text in (line, line.strip()):
        name = os.path.abspath(base / text)
        if os.path.isfile(name):
            return name
    return None


def _shared(folders: Sequence[Path]) -> Path:
    if len(set(folders)) == 1:
        return folders[0]
    try:
        return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
    except ValueError as error:  # on different drives
        raise InputError("images lie on different drives: predict one at a time") from error


def _joined(root: Path, found: Sequence[_Found]) -> ImageFiles:
    places: list[Place] = []
    place: list[int] = []
    ids: dict[str, None] = {}
    names: list[str] = []
    refused: list[Skipped] = []
    for part in found:
        prefix = "" if part.archive or part.base == root else _prefix(part.base, root)
        places.append(part.archive or part.base)
        for name, image_id in _named_ids(part, prefix):
            fault = id_fault(image_id)
            if fault is not None:
                refused.append(Skipped(prefix + name, fault))
                continue
            if image_id in ids:
                raise InputError(
                    "two images have the same id (an image is given twice, or two names differ in"
                    " their Unicode form only)",
                    file=printable(part.base),
                    item=image_id,
                )
            ids[image_id] = None
            names.append(name)
            place.append(len(places) - 1)
    return ImageFiles(
        root=root,
        ids=tuple(ids),
        paths=Paths(places, np.array(place, np.int32), names),
        refused=tuple(refused),
    )


def _named_ids(part: _Found, prefix: str) -> Iterator[tuple[str, str]]:
    for name in part.names:
        image_id = normal_id(prefix + name)
        # most names are ids already: one string then serves as both
        yield (image_id if image_id == name else name), image_id


def _prefix(base: Path, root: Path) -> str:
    return Path(os.path.relpath(base, root)).as_posix() + "/"


def _none_there(where: str, path: Path) -> InputError:
    endings = " ".join(sorted(IMAGE_ENDINGS))
    return InputError(f"no images {where} (endings: {endings})", file=printable(path))
