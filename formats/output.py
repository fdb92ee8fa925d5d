"""What a writer of labels is told, and the image files it puts beside them."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
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


def put_images(ids: tuple[str, ...], folder: Path, output: Output) -> list[str]:
    """Link or copy the image files into `folder` under their ids; tells what it did.

    A file that is there already is kept where it is the same. Raises InputError otherwise.
    """
    paths = output.image_paths or (None,) * len(ids)
    missing = sum(path is None for path in paths)
    for image_id, path in zip(ids, paths, strict=True):
        if path is not None:
            _put(path, folder / image_id, output.place_images)
    done = "linked" if output.place_images == "link" else "copied"
    notes = [f"{len(ids) - missing} images {done} into {folder}"] if missing < len(ids) else []
    if missing:
        notes.append(f"{missing} of {len(ids)} image files not found: put them into {folder}")
    return notes


def _put(path: Path, target: Path, how: PlaceImages) -> None:
    source = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() or target.is_symlink():
            if target.resolve() == source or (
                not target.is_symlink() and target.stat().st_size == source.stat().st_size
            ):
                return
            raise InputError("another file is there already", file=target)
        if how == "copy":
            shutil.copyfile(source, target)
        else:
            os.symlink(source, target)
    except OSError as error:
        hint = "; copy the images instead" if how == "link" else ""
        raise InputError(f"cannot be written: {error.strerror}{hint}", file=target) from error
