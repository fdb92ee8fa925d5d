"""The page on adding a detector, followed: as a file of ours and as somebody's own package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "own_package"
SMALLOBJ = "import sys; from smallobj.cli.main import main; main(sys.argv[1:])"


def documented(kind: str) -> str:
    page = (ROOT / "docs" / "add-a-detector.md").read_text(encoding="utf-8")
    source = re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)
    assert source is not None
    return source[1]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of this Python that finds the packages in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_documented_detector_passes_the_contract(tmp_path: Path) -> None:
    (tmp_path / "documented_detector.py").write_text(documented("python"), encoding="utf-8")
    parts = ("contract", "learning", "cost")
    suite = [str(ROOT / "tests" / "detectors" / f"test_{part}.py") for part in parts]
    plugin = ("-p", "documented_detector", "-k", "grid")
    done = run(tmp_path, "-m", "pytest", "-q", *plugin, *suite)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b2\d passed", done.stdout), done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package with the documented detector, installed into a folder of its own."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    shutil.copytree(PACKAGE, source, dirs_exist_ok=True)
    (source / "own_detectors" / "grid.py").write_text(documented("python"), encoding="utf-8")
    install = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target))
    done = run(target, "-m", "pip", *install, str(source))
    assert done.returncode == 0, done.stderr
    return target


def test_the_documented_entry_point_is_the_example_packages() -> None:
    assert documented("toml").strip() in (PACKAGE / "pyproject.toml").read_text(encoding="utf-8")


def test_a_detector_of_another_package_is_known_by_its_name(installed: Path) -> None:
    program = """
import json
from smallobj.detectors import build_detector, detector_class, list_detectors
detector = build_detector("grid", num_classes=2, mean=(9.0,) * 3, std=(9.0,) * 3, size="tiny")
print(json.dumps([list_detectors(), type(detector).__module__, detector.name]))
"""
    done = run(installed, "-c", program)
    assert done.returncode == 0, done.stderr
    names, module, name = json.loads(done.stdout)
    assert {"grid", "broken", "nameless", "centernet"} <= set(names)
    assert (module, name) == ("own_detectors.grid", "grid")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "own-detectors offers this detector, but it cannot be loaded: ModuleNotFound"),
        ("nameless", "own-detectors offers this detector, but own_detectors registers no such"),
        ("none", "unknown detector; known: broken, "),
    ],
)
def test_what_another_package_breaks_is_told_in_one_line(
    installed: Path, name: str, said: str
) -> None:
    words = ("train", "--arch", name, "--data", "nowhere", "--out", str(installed / "run"))
    done = run(installed, "-c", SMALLOBJ, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (installed / "run").exists()


def test_the_list_of_detectors_survives_a_broken_package(installed: Path) -> None:
    listing = installed / "detectors.json"
    done = run(installed, "-c", SMALLOBJ, "detectors", "--json", str(listing))
    assert done.returncode == 0, done.stderr
    listed = {entry["name"]: entry for entry in json.loads(listing.read_text())}
    assert listed["grid"]["sizes"][0]["parameters"] > 0
    assert "cannot be loaded" in listed["broken"]["error"]
    assert "cannot be loaded" in done.stdout
