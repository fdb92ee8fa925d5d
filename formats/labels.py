"""Labels in any of the known formats: which one it is, reading, writing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smallobj.boxes import BoxTable, InputError
from smallobj.formats import challenge, coco, openimages_labels, voc, yolo
from smallobj.formats.faults import Faults, Stop
from smallobj.formats.image_ids import match_ids, normal_id
from smallobj.formats.json_rows import read_json_bytes
from smallobj.formats.output import Output, PlaceImages
from smallobj.formats.raw import ImageId, RawLabels, Request
from smallobj.formats.repairs import Repairs


class Format(NamedTuple):
    """One way to keep labels. `find` looks whether data is of this kind and returns its places
    (label files or folders); `read` reads one of them; `write` writes and tells what it did.
    """

    looked_for: str
    find: Callable[[Path, Request], list[Path]]
    read: Callable[[Path, Request, Faults], RawLabels]
    write: Callable[[BoxTable, Path, Output], list[str]]


FORMATS: dict[str, Format] = {
    name: Format(module.LOOKED_FOR, module.find, module.read, module.write)
    for name, module in (
        ("challenge", challenge),
        ("coco", coco),
        ("yolo", yolo),
        ("voc", voc),
        ("openimages", openimages_labels),
    )
}


_WHOLE_FILES = ("challenge", "coco", "openimages")  # formats whose every file is one data set


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of a data set, and where its images lie."""

    table: BoxTable
    kind: str  # one of FORMATS
    path: Path  # what they were read from
    root: Path | None  # the image folder; None where none was found
    found: tuple[Path | None, ...]  # image file of each image, None where missing
    repairs: Repairs
    source_image_ids: tuple[ImageId, ...] | None = None  # COCO's own id of each image
    images_clash: InputError | None = None  # why an image folder was not taken

    @property
    def paths(self) -> tuple[Path, ...]:
        """The image file of each image; raises InputError where one is missing."""
        if self.images_clash is not None:
            raise self.images_clash
        for image_id, path in zip(self.table.images.ids, self.found, strict=True):
            if path is None:
                where = self.root or "no image folder found; give one"
                raise InputError(f"image is missing ({where})", file=self.path, item=image_id)
        return tuple(path for path in self.found if path is not None)


def read_labels(
    data: Path,
    *,
    images: Path | None = None,
    kind: str | None = None,
    split: str | None = None,
    names: Path | None = None,
    voc_origin: int = 1,
    strict: bool = False,
    faults: Faults | None = None,
) -> Labels:
    """Read labels: a folder in a known layout, or a label file.

    images: the image folder, where it cannot be guessed. kind: one of FORMATS, found from the
    content where None. split: one of the data set's own parts, or a text file with an
    image a line. names: a file of class names. voc_origin: 1 or 0. Boxes with faulty geometry are
    repaired or dropped and counted; `strict` makes them errors. faults: decides instead what is an
    error; what it lets pass is left out.

    Raises InputError with file, item, field and value where a value is at fault.
    """
    faults = Stop(strict=strict) if faults is None else faults
    request = make_request(images=images, split=split, names=names, voc_origin=voc_origin)
    kind, raw = read_raw(data, kind, request, split, faults)
    raw = raw.with_sizes(faults)
    table, repairs = raw.table(faults)
    return Labels(
        table=table,
        kind=kind,
        path=data,
        root=raw.root,
        found=raw.paths,
        repairs=repairs,
        source_image_ids=raw.source_image_ids,
        images_clash=raw.images_clash,
    )


def write_labels(
    table: BoxTable,
    out: Path,
    kind: str,
    *,
    image_paths: Sequence[Path | None] | None = None,
    place_images: PlaceImages = "link",
    source_image_ids: Sequence[ImageId] | None = None,
    voc_origin: int = 1,
) -> list[str]:
    """Write labels as a folder (yolo, voc) or a file (all others); returns what to tell.

    image_paths: the image file of each image, linked or copied into the folders of yolo and voc.
    source_image_ids: the ids COCO images get, 1, 2, ... where None. voc_origin: 1 or 0. Ignored
    boxes (COCO's crowds) are left out and told where the format has no such thing.
    """
    notes = []
    if kind != "coco" and table.ignore is not None:
        notes.append(f"{int(table.ignore.sum())} crowd regions left out: {kind} has none")
        table = replace(table.filter_rows(~table.ignore), ignore=None)
    output = Output(
        image_paths=None if image_paths is None else tuple(image_paths),
        place_images=place_images,
        source_image_ids=None if source_image_ids is None else tuple(source_image_ids),
        voc_origin=voc_origin,
    )
    return notes + _format(kind).write(table, out, output)


def make_request(
    *, images: Path | None, split: str | None, names: Path | None, voc_origin: int
) -> Request:
    """The request of one reading; a split that is a text file is not the formats' business."""
    if voc_origin not in (0, 1):
        raise InputError("has to be 0 or 1", field="voc_origin", value=voc_origin)
    own = None if split is None or split.endswith(".txt") else split
    return Request(images=images, split=own, names=names, voc_origin=voc_origin)


def read_raw(
    data: Path, kind: str | None, request: Request, split: str | None, faults: Faults
) -> tuple[str, RawLabels]:
    """The kind and the columns of the labels as they are in the files."""
    kind, place = find_labels(data, kind, request)
    raw = FORMATS[kind].read(place, request, faults)
    if split is not None and split.endswith(".txt"):
        raw = raw.take_images(_listed(Path(split), raw))
    return kind, raw


def find_labels(data: Path, kind: str | None, request: Request) -> tuple[str, Path]:
    """The kind of the labels and the one place they lie at.

    Raises InputError where nothing is recognised (says what was looked for) or several are.
    """
    if not data.exists():
        raise InputError("no such file or folder", file=data)
    kind, place = _find_labels(data, kind, request)
    if request.split is not None and kind in _WHOLE_FILES and data.is_file():
        reason = "one file has no parts of its own; a .txt can list images"
        raise InputError(reason, file=data, field="split", value=request.split)
    return kind, place


def _find_labels(data: Path, kind: str | None, request: Request) -> tuple[str, Path]:
    if kind is not None:
        _format(kind)
        places = FORMATS[kind].find(data, request) or ([data] if data.is_file() else [])
        found = [(kind, place) for place in places]
    else:
        found = _found(data, request)
    if not found and data.is_file():
        return _kind_of_file(data), data
    if len(found) == 1:
        return found[0]
    if not found:
        raise _not_recognised(data, kind, request)
    kinds = sorted({name for name, _ in found})
    if len(kinds) > 1:
        raise InputError(
            f"holds labels of several kinds ({', '.join(kinds)}); say the kind", file=data
        )
    files = ", ".join(str(place.relative_to(data)) for _, place in found[:8])
    raise InputError(f"holds several label files ({files}); name one, or say the split", file=data)


def _found(data: Path, request: Request) -> list[tuple[str, Path]]:
    found = _places(data, request)
    if found or not data.is_dir():
        return found
    folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [place for folder in folders for place in _places(folder, request)]


def _places(data: Path, request: Request) -> list[tuple[str, Path]]:
    return [(name, p) for name, form in FORMATS.items() for p in form.find(data, request)]


def _kind_of_file(data: Path) -> str:
    """The kind whose reader tells best what is wrong with a file; or why none can."""
    start = read_json_bytes(data).lstrip()[:1]
    if start == b"[":
        reason = "is a list; labels are an object (COCO results are predictions, no labels)"
        raise InputError(reason, file=data)
    if start == b"{" or data.suffix.lower() == ".json":
        return "challenge"
    raise _not_recognised(data, None, Request())


def _not_recognised(data: Path, kind: str | None, request: Request) -> InputError:
    looked_for = [FORMATS[kind].looked_for] if kind else [f.looked_for for f in FORMATS.values()]
    if request.split is not None:
        whole = replace(request, split=None)
        if any(form.find(data, whole) for form in FORMATS.values()) or _found(data, whole):
            return InputError("has no such split", file=data, field="split", value=request.split)
    return InputError(f"no labels recognised; looked for {'; '.join(looked_for)}", file=data)


def _format(kind: str) -> Format:
    if kind not in FORMATS:
        raise InputError(f"unknown kind of labels; known: {', '.join(FORMATS)}", value=kind)
    return FORMATS[kind]


def _listed(file: Path, raw: RawLabels) -> Sequence[int]:
    """Positions of the images that a text file names, one a line, in the order of the labels."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", file=file) from error
    wanted = list(dict.fromkeys(normal_id(line.strip()) for line in lines if line.strip()))
    if not wanted:
        raise InputError("names no images", file=file)
    index = match_ids(wanted, raw.ids, wanted_file=file, given_file=raw.files[0])
    if (index < 0).any():
        missing = [wanted[i] for i in np.flatnonzero(index < 0)]
        reason = f"names {len(missing)} of {len(wanted)} images that the labels lack"
        raise InputError(reason, file=file, item=missing[0])
    return sorted(index.tolist())
