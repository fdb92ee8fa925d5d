"""File names as ids and as text: whatever bytes they hold, they are told in one line."""

import os
from pathlib import Path

_BYTE = range(0xDC80, 0xDD00)  # what Python reads bytes in names that are no UTF-8 as


def id_fault(image_id: str) -> str | None:
    """Why no answer file may hold this id, None where one may."""
    try:
        image_id.encode()
    except UnicodeEncodeError:
        return "name is not UTF-8, so no answer file can hold it: rename the image"
    if ".." in image_id.split("/"):
        return "name leads out of its folder by '..': rename the image"
    if image_id.startswith("/") or image_id[1:3] == ":/":
        return "name is an absolute path: rename the image"
    return None


def one_line(text: str) -> str:
    """Text as it is where it can be printed; else what cannot is escaped, the backslash too."""
    return text if text.isprintable() else escaped(text)


def escaped(text: str) -> str:
    r"""Text without tab, line end or bytes that are no UTF-8: `\t`, `\n`, `\xff`, `\\`."""
    return "".join(_character(c) for c in text)


def printable(path: Path) -> str:
    """A path as one line of UTF-8, whatever bytes its name holds."""
    return one_line(os.fspath(path))


def _character(c: str) -> str:
    if ord(c) in _BYTE:
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii")
