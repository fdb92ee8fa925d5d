"""The rooms of docs/structure.md: what they may import, and that packaging knows them all."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BELOW: dict[str, set[str]] = {
    "boxes": set(),
    "formats": {"boxes"},
    "weights": {"boxes"},
    "evaluation": {"boxes"},
    "ensemble": {"boxes", "formats", "evaluation", "weights"},
    "datasets": {"boxes", "formats"},
    "detectors": {"boxes", "weights"},
    "tta": {"boxes", "ensemble"},
    "prediction": {
        "boxes",
        "formats",
        "weights",
        "evaluation",
        "ensemble",
        "datasets",
        "detectors",
        "tta",
    },
}
BELOW["training"] = {*BELOW, "prediction"}
BELOW["report"] = {"boxes", "formats", "evaluation", "datasets"}
BELOW["cli"] = set(BELOW)
TORCH_FREE = ("boxes", "formats", "weights.manifest", "evaluation", "ensemble", "report")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name.removeprefix("smallobj.") for name in found if name.startswith("smallobj.")}


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for name in imports(path):
            target = name.split(".")[0]
            assert target == room or target in BELOW[room], f"{path} imports smallobj.{name}"
            if room == "ensemble" and target == "weights":
                assert name.startswith("weights.manifest"), f"{path} imports smallobj.{name}"


@pytest.mark.parametrize("module", TORCH_FREE)
def test_a_torch_free_room_does_not_load_torch(module: str) -> None:
    code = f"import sys, smallobj.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_packages_links_and_folders_are_the_same_rooms() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name.removeprefix("smallobj.") for name in settings["packages"]}
    mapped = {
        name.removeprefix("smallobj."): folder for name, folder in settings["package-dir"].items()
    }
    folders = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for room in BELOW
        for path in (ROOT / room).rglob("__init__.py")
    }
    links = {path.name: path for path in (ROOT / "typings" / "smallobj").iterdir()}
    assert packages == folders
    assert mapped == {package: package.replace(".", "/") for package in packages}
    assert set(links) == set(BELOW)
    assert all(link.resolve() == ROOT / room for room, link in links.items())
    assert all((ROOT / room / "py.typed").is_file() for room in BELOW)
