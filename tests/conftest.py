"""Where the tests find real data: $SMALLOBJ_DATA, else ../shared/data beside the repository."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A folder of real data by name; the test is skipped, with the reason, where it is absent."""
    base = Path(os.environ.get("SMALLOBJ_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        path = base / name
        if not path.is_dir():
            pytest.skip(f"needs real data at {path}; set SMALLOBJ_DATA")
        return path

    return folder
