"""Names of pictures made from image ids, and the folder they are written into, whole or not."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from smallobj.boxes import InputError
from smallobj.formats.output import whole_folder

INDEX = "index.csv"
IMAGES, CROPS, SHEETS = "images", "crops", "sheets"
_OWN = frozenset({INDEX, IMAGES, CROPS, SHEETS})

_LONGEST = 160  # bytes of one part of a name; most systems take 255
_UNSAFE = frozenset('<>:"\\|?*%')  # what Windows refuses, and what an escape begins with


def safe_names(ids: Sequence[str]) -> list[PurePosixPath]:
    """A relative path for each image id, all different: folders kept, nothing leads out of them.

    What no file system takes is written as `%XX`; parts that are too long, and ids that would have
    the same name but for upper and lower case, end with a checksum.
    """
    names, taken = [], set()
    for image_id in ids:
        name = PurePosixPath(*(_safe(part) for part in image_id.split("/")))
        if str(name).casefold() in taken:
            name = name.with_name(_marked(name.name, image_id))
        taken.add(str(name).casefold())
        names.append(name)
    return names


def picture_name(name: PurePosixPath, ending: str) -> PurePosixPath:
    """The name with a picture's ending (`.jpg`): `a.jpg` stays, `a.png` is `a.png.jpg`."""
    return name if name.suffix == ending else name.with_name(name.name + ending)


def _safe(part: str) -> str:
    if part.strip(". ") == "":  # nothing, `.`, `..`, or what Windows takes for them
        return "".join(f"%{ord(c):02X}" for c in part) or "%"
    text = "".join(c if c.isprintable() and c not in _UNSAFE else _escaped(c) for c in part)
    return text if len(text.encode()) <= _LONGEST else _marked(text, part)


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _marked(text: str, source: str) -> str:
    """A name cut short where needed, with a checksum of what it stands for."""
    checksum = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    short = text.encode()[: _LONGEST - 11].decode("utf-8", "ignore")
    return f"{short}~{checksum}"


@contextmanager
def picture_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` when the block ends without error.

    overwrite: pictures made before are replaced at that moment. Raises InputError where `out`
    cannot be written, holds something and `overwrite` is not said, or holds what is not ours.
    """
    check_folder(out, overwrite=overwrite)
    if not out.is_dir() or not any(out.iterdir()):
        with whole_folder(out) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".", suffix=".tmp") as beside:
        fresh = Path(beside, "new")
        with whole_folder(fresh) as temporary:
            yield temporary
        out.rename(Path(beside, "old"))
        fresh.rename(out)


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Raise InputError now where `picture_folder` would refuse `out`."""
    if out.exists() and not out.is_dir():
        raise InputError("cannot be written: is a file", file=out)
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise InputError("is not empty: name another folder, or say --overwrite", file=out)
        foreign = sorted(path.name for path in out.iterdir() if path.name not in _OWN)
        if foreign or not (out / INDEX).is_file():
            reason = "holds what smallobj show did not write: name another folder"
            raise InputError(reason, file=out, value=foreign[0] if foreign else None)
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"cannot be written: {parent} cannot be written to", file=out)
