"""The page on adding a detector, followed: its detector passes the contract suite."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documented_detector_passes_the_contract(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "add-a-detector.md").read_text(encoding="utf-8")
    source = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert source is not None
    (tmp_path / "documented_detector.py").write_text(source[1], encoding="utf-8")
    suite = [str(ROOT / "tests" / "detectors" / f"test_{part}.py") for part in ("contract", "cost")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "documented_detector", "-k", "grid", *suite],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b2\d passed", done.stdout), done.stdout
