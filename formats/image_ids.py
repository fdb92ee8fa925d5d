"""Image ids: their normal form, their natural order, and which of two files' ids are the same."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import InputError

# What may end the name of an image, or of a file that stands for one.
_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "bmp", "tif", "tiff", "gif", "heic"),
        *("heif", "avif", "jp2", "dng", "ppm", "pgm", "txt", "xml", "json"),
    )
)
_DIGITS = re.compile(r"([0-9]+)")


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which numbers inside names count as numbers: 2.jpg before 10.jpg."""
    parts = _DIGITS.split(text)
    key = []
    for position, part in enumerate(parts):
        if position % 2:
            digits = part.lstrip("0")
            key.append((0, len(digits), digits))
        elif part:
            key.append((1, 0, part))
    return (*key, (-1, 0, text))  # 01.jpg and 1.jpg still have an order


def normal_id(text: str) -> str:
    """An image id in the one form that is compared: POSIX, Unicode NFC, without leading `./`."""
    normal = unicodedata.normalize("NFC", text).replace("\\", "/")
    while normal.startswith("./"):
        normal = normal[2:]
    return normal


def id_fault(image_id: str) -> str | None:
    """What is wrong with an image id in normal form; None where nothing is."""
    if not image_id:
        return "image name is empty"
    try:
        image_id.encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON can spell it, no file can hold it
        return "image name is not Unicode text"
    return None


def has_ending(image_id: str) -> bool:
    """Whether an id says the kind of its file, as `a.jpg` does and `a` does not."""
    return without_ending(image_id) != image_id


def match_ids(
    wanted: Sequence[str],
    given: Sequence[str],
    *,
    wanted_file: object = None,
    given_file: object = None,
) -> NDArray[np.int64]:
    """Position in `given` of each wanted id, -1 where there is none; [len(wanted)].

    Equal ids match first; then a path and its own end (`val/1.jpg` and `1.jpg`), and an id that
    says the kind of its file with one that does not (`1.jpg` and `1`); where still nothing matched,
    equal base names, then equal stems. A base name or stem that is not unique on both sides raises
    InputError with the clashes.
    """
    wants, gives = _Side(wanted, wanted_file), _Side(given, given_file)
    position = {image_id: i for i, image_id in enumerate(given)}
    index = np.array([position.get(image_id, -1) for image_id in wanted], np.int64)
    if (index >= 0).all():
        return index
    if (index >= 0).any():
        index = _match_by_name(index, wants, gives, base_name, _one_ends_the_other)
        return _match_by_name(index, wants, gives, stem, _one_has_the_ending)
    index = _match_by_name(index, wants, gives, base_name, _any_path)
    return index if (index >= 0).any() else _match_by_name(index, wants, gives, stem, _any_path)


def base_name(image_id: str) -> str:
    """The id without its folders."""
    return image_id.rstrip("/").rpartition("/")[2]


def stem(image_id: str) -> str:
    """The id without its folders and its ending."""
    return without_ending(base_name(image_id))


def without_ending(image_id: str) -> str:
    """The id without what says the kind of its file: `b/v1.2.jpg` and `b/v1.2` to `b/v1.2`."""
    dot = image_id.rfind(".")
    named = dot > image_id.rfind("/") + 1  # what begins with a dot has no ending
    return image_id[:dot] if named and image_id[dot:].lower() in _ENDINGS else image_id


class _Side(NamedTuple):
    ids: Sequence[str]
    file: object


def _match_by_name(
    index: NDArray[np.int64],
    wants: _Side,
    gives: _Side,
    name_of: Callable[[str], str],
    may_match: Callable[[str, str], bool],
) -> NDArray[np.int64]:
    """`index` with the ids still missing matched by name."""
    index = index.copy()
    taken = set(index[index >= 0].tolist())
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, image_id in enumerate(gives.ids):
        by_name[name_of(image_id)].append(i)
    count = Counter(map(name_of, wants.ids))
    clashes: dict[str, None] = {}
    for i in np.flatnonzero(index < 0).tolist():
        name = name_of(wants.ids[i])
        free = [j for j in by_name.get(name, ()) if j not in taken]
        fitting = [j for j in free if may_match(wants.ids[i], gives.ids[j])]
        if fitting and (count[name] > 1 or len(by_name[name]) > 1):
            clashes[name] = None
        elif fitting:
            index[i] = fitting[0]
    if clashes:
        raise _clash(sorted(clashes, key=natural_key), wants, gives, name_of)
    return index


def _any_path(_a: str, _b: str) -> bool:
    return True


def _one_ends_the_other(a: str, b: str) -> bool:
    return a.endswith("/" + b) or b.endswith("/" + a)


def _one_has_the_ending(a: str, b: str) -> bool:
    return has_ending(a) != has_ending(b) and without_ending(a) == without_ending(b)


def _clash(
    names: list[str], wants: _Side, gives: _Side, name_of: Callable[[str], str]
) -> InputError:
    several = []
    for name in names[:3]:
        sides = [[i for i in side.ids if name_of(i) == name] for side in (wants, gives)]
        several += [", ".join(side[:4]) for side in sides if len(side) > 1]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    where = "" if wants.file is None else f", matching {wants.file}"
    return InputError(
        f"the same name stands in several folders{where}: {'; '.join(several)}{more};"
        " use paths relative to one image folder",
        file=gives.file,
        item=names[0],
    )
