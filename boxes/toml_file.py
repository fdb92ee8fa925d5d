"""TOML files in, with errors that name the file."""

import tomllib
from pathlib import Path
from typing import Any

from smallobj.boxes.errors import InputError


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds; raises InputError, one line naming it, where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    except UnicodeDecodeError as error:
        raise InputError("is not TOML: not UTF-8 text", file=path) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not TOML: {str(error).splitlines()[0]}", file=path) from error
