"""The manifest: read and written without torch, every field checked by name."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from smallobj.boxes import Classes, InputError
from smallobj.weights import Manifest, read_manifest, write_manifest


def manifest() -> Manifest:
    return Manifest(
        id="centernet-a1",
        arch="centernet",
        backbone="resnet18",
        config={"width": 48, "backbone_options": {"channels": [32, 64]}},
        classes=Classes.of(["nut", 'bolt "m8"\n'], [3, 7]),
        train_crop_px=192,
        largest_object_px=97.5,
        mean=(100.0, 90.5, 80.25),
        std=(50.0, 40.0, 30.0),
        scores={"map50": 0.5},
        versions={"torch": "2.11"},
    )


def test_the_manifest_is_read_without_torch() -> None:
    code = (
        "import sys, smallobj.weights, smallobj.weights.manifest; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest())
    assert read_manifest(tmp_path) == manifest()
    assert read_manifest(tmp_path / "manifest.toml") == manifest()
    assert read_manifest(tmp_path / "weights.safetensors") == manifest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", " "),
        ("arch", 3),
        ("backbone", ""),
        ("config", [1]),
        ("train_crop_px", 0),
        ("train_crop_px", 192.0),
        ("input", "tiles"),
        ("largest_object_px", -1),
        ("largest_object_px", float("nan")),
        ("mean", (1.0, 2.0)),
        ("std", ("a", "b", "c")),
        ("std", (1.0, float("inf"), 1.0)),
        ("dtype", "float8"),
        ("scores", {"map50": "good"}),
        ("versions", {"torch": 2}),
        ("sha256", "abc"),
        ("weight_bytes", -1),
    ],
)
def test_a_wrong_value_is_named_with_its_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"field {field}: must be .*got") as caught:
        replace(manifest(), **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('arch = "centernet"\n', "", "field arch: field is missing"),
        ('arch = "centernet"', 'arhc = "centernet"', "field arhc: unknown field"),
        ("train_crop_px = 192", 'train_crop_px = "192"', "field train_crop_px: must be a whole"),
        ("ids = [\n    3,", 'ids = [\n    "3",', "field classes.ids: must be a list of whole"),
        ("ids = [\n    3,", "ids = [", "field classes: names and source ids differ"),
        ("ids = [\n    3,", "ids = [\n    7,", "field classes: a class id appears twice"),
        ("[classes]", "[classes", "is not TOML"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    write_manifest(tmp_path, manifest())
    file = tmp_path / "manifest.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.toml: cannot be read: No such file"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not TOML"):
        read_manifest(tmp_path)
