"""What a writer of labels is told; folders written whole, with links to or copies of the images."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from smallobj.boxes import InputError
from smallobj.formats.raw import ImageId

PlaceImages = Literal["link", "copy"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is known about the images of a table that is written."""

    image_paths: tuple[Path | None, ...] | None = None  # one per image; None where not found
    place_images: PlaceImages = "link"  # how formats with an image folder get theirs
    source_image_ids: tuple[ImageId, ...] | None = None  # COCO's own image ids
    voc_origin: int = 1  # what Pascal VOC files call the first pixel


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends without error.

    Raises InputError where `folder` holds something already or nothing can be written: labels of
    two conversions in one folder would be read as one data set.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("exists already; name a new folder", file=folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".", suffix=".tmp"))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_into(folder: Path, name: str | PurePosixPath, text: str) -> None:
    """Write one text file of a folder that becomes whole later."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def put_images(ids: Sequence[str], folder: Path, output: Output) -> list[str]:
    """Link or copy the image files into `folder` under their ids; tells what it did."""
    paths = output.image_paths or (None,) * len(ids)
    folder.mkdir()
    for image_id, path in zip(ids, paths, strict=True):
        if path is not None:
            _put(path.resolve(), folder / image_id, output.place_images)
    missing = sum(path is None for path in paths)
    done = "linked" if output.place_images == "link" else "copied"
    notes = (
        [f"{len(ids) - missing} images {done} into {folder.name}/"] if missing < len(ids) else []
    )
    if missing:
        notes.append(f"{missing} of {len(ids)} image files not found: put them into {folder.name}/")
    return notes


def require_one_stem_each(ids: Sequence[str]) -> None:
    """Raise InputError where two ids differ in their ending alone: they would share a file."""
    first: dict[PurePosixPath, str] = {}
    for image_id in ids:
        stem = PurePosixPath(image_id).with_suffix("")
        if stem in first:
            reason = f"differs from {first[stem]} only in its ending: one label file for both"
            raise InputError(reason, item=image_id)
        first[stem] = image_id


def _put(path: Path, target: Path, how: PlaceImages) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "copy":
        shutil.copyfile(path, target)
        return
    try:
        target.symlink_to(path)
    except OSError as error:
        reason = f"cannot be linked ({error.strerror}); copy the images instead"
        raise InputError(reason, file=path) from error


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"cannot be written: {error.strerror or error}", file=folder)
