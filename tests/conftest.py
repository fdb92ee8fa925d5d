"""Where the tests find real data: tests/data, then $SMALLOBJ_DATA, else ../shared/data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A folder of real data by name; the test is skipped, with the reason, where it is absent."""
    base = Path(os.environ.get("SMALLOBJ_DATA", ROOT.parent / "shared" / "data")).resolve()

    def folder(name: str) -> Path:
        shipped, path = ROOT / "tests" / "data" / name, base / name
        if shipped.is_dir():
            return shipped
        if not path.is_dir():
            pytest.skip(f"needs real data at {path}; set SMALLOBJ_DATA")
        return path

    return folder
