"""Image files of a folder, and their sizes from the header alone."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from smallobj.boxes import InputError
from smallobj.formats.image_ids import match_ids, natural_key, normal_id

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff"})
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # Pillow opens MPO files as JPEG

# Pillow warns at 89 megapixels and refuses at 179; a header costs nothing, whatever it declares.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION_TAG = 274


class Located(NamedTuple):
    """Where the images of some ids lie."""

    root: Path | None
    paths: tuple[Path | None, ...]  # one per id
    others: tuple[str, ...]  # ids of further image files under root
    clash: InputError | None = None  # why the only folder with some was not taken


def list_images(folder: Path) -> dict[str, Path]:
    """Image files under a folder by image id, in natural order; hidden ones left out.

    Raises InputError where `folder` is no folder, or where two names differ only in their
    Unicode form.
    """
    if not folder.is_dir():
        raise InputError("no such folder of images", file=folder)
    found: dict[str, Path] = {}
    for path in _files(folder):
        if path.suffix.lower() not in IMAGE_ENDINGS:
            continue
        image_id = normal_id(path.relative_to(folder).as_posix())
        if image_id in found:
            raise InputError("two files whose names differ only in Unicode form", file=path)
        found[image_id] = path
    return {image_id: found[image_id] for image_id in sorted(found, key=natural_key)}


def locate_images(
    ids: Sequence[str], *, images: Path | None, labels: Path, usual: Sequence[str]
) -> Located:
    """The files of the ids: in `images` where given, else in a folder near `labels`.

    labels: the label file or folder. usual: what image folders of its format are called, relative
    to the folder of the labels, likeliest first. These are searched by base name as well; the
    folders above, around and beside only for the very paths that the ids say, because whatever
    else lies there may be large.

    Raises InputError where `images` has no image at all, none of the ids, or a name twice.
    """
    if images is not None:
        return _locate_given(ids, images, labels)
    folder = labels if labels.is_dir() else labels.parent
    near = _folders([folder / name for name in usual])
    others = [folder, *(folder.parent / name for name in usual if not name.startswith(".."))]
    beside = [p for p in _folders(sorted(folder.iterdir())) if _has_most(p, ids)]
    for root in _folders([*near, *others, *(beside if len(beside) == 1 else [])]):
        if _has_most(root, ids):
            return _locate(ids, root, labels)
    clash: InputError | None = None
    for root in near:
        try:
            located = _locate(ids, root, labels)
        except InputError as error:  # a guess may be wrong; labels are of use without images
            clash = clash or error
            continue
        if located.root is not None:
            return located
    return Located(None, (None,) * len(ids), (), clash)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as the image is shown upright, from the header only.

    Raises InputError where the file is missing or no image that can be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which viewers ignore as well
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                width, height = image.size
                orientation = 1 if image.format == "TIFF" else _orientation(image)
    except FileNotFoundError as error:
        raise InputError("image is missing", file=path) from error
    except UnidentifiedImageError as error:
        known = ", ".join(IMAGE_FORMATS)
        raise InputError(f"is no image of a known kind ({known})", file=path) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"image cannot be read: {error}", file=path) from error
    return (height, width) if orientation >= 5 else (width, height)


def no_images(folder: Path) -> InputError:
    """The error of a folder that should hold images."""
    endings = " ".join(sorted(IMAGE_ENDINGS))
    return InputError(f"no images in this folder (endings looked for: {endings})", file=folder)


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif")  # Image.getexif would decode a whole PNG
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        orientation = tags.get(_ORIENTATION_TAG, 1)
    except Exception:  # viewers ignore damaged EXIF data as well
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _folders(paths: Sequence[Path]) -> list[Path]:
    return [p for p in dict.fromkeys(paths) if p.is_dir() and not p.name.startswith(".")]


def _has_most(folder: Path, ids: Sequence[str]) -> bool:
    sample = ids[:: max(1, len(ids) // 50)]
    return 2 * sum((folder / image_id).is_file() for image_id in sample) > len(sample)


def _locate_given(ids: Sequence[str], images: Path, labels: Path) -> Located:
    located = _locate(ids, images, labels)
    if located.root is not None:
        return located
    count = len(list_images(images))
    if not count:
        raise no_images(images)
    raise InputError(
        f"none of its {count} images is named in the labels (labels of another data set?);"
        f" {labels} has {ids[0]}",
        file=images,
    )


def _locate(ids: Sequence[str], folder: Path, labels: Path) -> Located:
    files = list_images(folder)
    names = list(files)
    index = match_ids(ids, names, wanted_file=labels, given_file=folder)
    if not (index >= 0).any():
        return Located(None, (None,) * len(ids), ())
    used = set(index.tolist())
    return Located(
        folder,
        tuple(files[names[i]] if i >= 0 else None for i in index),
        tuple(name for i, name in enumerate(names) if i not in used),
    )


def _files(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield Path(parent, name)
