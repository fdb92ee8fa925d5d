"""Files written whole or not at all: temporary name beside the target, fsync, rename."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smallobj.boxes.errors import InputError

_UMASK_LOCK = threading.Lock()  # it is read by setting it: two threads at once would leave 0


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends without error.

    Missing parent folders are made. Raises InputError where nothing can be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    except OSError as error:
        raise _unwritable(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _publish(temporary, target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file of bytes, or leave what was there."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write a whole UTF-8 text file, or leave what was there."""
    write_bytes(path, content.encode())


def check_writable(path: str | Path) -> None:
    """Raise InputError now, before long work, where `path` could not be written at its end."""
    target = Path(path)
    if target.is_dir():
        raise InputError("cannot be written: is a folder", file=target)
    with tempfile.TemporaryDirectory(dir=_existing_parent(target), prefix=".smallobj-"):
        pass


def _existing_parent(target: Path) -> Path:
    parent = target.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(
            f"cannot be written: {parent} is no folder that can be written to", file=target
        )
    return parent


def _publish(temporary: Path, target: Path) -> None:
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    with _UMASK_LOCK:
        umask = os.umask(0)
        os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    temporary.replace(target)


def _unwritable(target: Path, error: OSError) -> InputError:
    return InputError(f"cannot be written: {error.strerror or error}", file=target)
