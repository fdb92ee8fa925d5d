"""The image files under a folder, by name."""

import os
from collections.abc import Iterator
from pathlib import Path

from smallobj.boxes import InputError
from smallobj.formats.image_files import IMAGE_ENDINGS
from smallobj.prediction.names import printable


def is_image_name(name: str) -> bool:
    """Whether a path ends like an image, and neither it nor a folder on its way is hidden."""
    parts = name.replace(os.sep, "/").split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return not hidden and os.path.splitext(parts[-1])[1].lower() in IMAGE_ENDINGS


def walk(folder: Path) -> Iterator[str]:
    """Names relative to `folder` of its images at all levels.

    Links are followed, hidden files and folders left out. What ends like an image and is none (a
    link that leads nowhere, a pipe) is named too: reading it says why. Raises InputError where a
    folder cannot be read.
    """
    base = os.fspath(folder)
    seen: set[str] = set()
    for parent, folders, names in os.walk(base, followlinks=True, onerror=_raise):
        real = os.path.realpath(parent)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(parent, base)
        for name in names:
            if is_image_name(name):
                yield name if inside == "." else os.path.join(inside, name)


def _raise(error: OSError) -> None:
    raise InputError(
        f"folder cannot be read: {error.strerror}", file=printable(Path(error.filename))
    ) from error
