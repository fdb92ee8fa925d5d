"""`smallobj weights export` and `predict` of what it wrote, from the shell's side."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.boxes import Classes
from smallobj.cli.main import main
from smallobj.detectors import build_detector, describe
from smallobj.formats import read_run
from smallobj.weights.checkpoint import save_weights
from smallobj.weights.manifest import Manifest

pytestmark = pytest.mark.usefixtures("full_precision")  # boxes of two ways are compared


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    detector = build_detector(
        "centernet", num_classes=2, mean=(128.0,) * 3, std=(70.0,) * 3, size="tiny"
    )
    manifest = Manifest(
        **describe(detector),
        id="tiny",
        classes=Classes.of(["a", "b"], [1, 2]),
        train_crop_px=64,
        largest_object_px=30.0,
    )
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_weights(folder, detector.state_dict(), manifest)
    return folder


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    assert call("weights", "export", model, "--to", "onnx") == 0
    return model / "model.onnx"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        pixels = rng.integers(0, 255, (90 + i, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_predict_runs_on_an_exported_file_as_on_its_run(model, exported, photos, tmp_path) -> None:
    tables = []
    for name, source in (("torch", model), ("onnx", exported)):
        out = tmp_path / f"{name}.json"
        options = ("--tta", "--tile", 64, "--threads", 1)
        assert call("predict", source, photos, "--out", out, *options) == 0
        run = read_run(out)
        assert run.info is not None
        assert run.info.model == "tiny"
        assert len(run.info.views) == 4
        tables.append(run.table)
    wanted, found = tables
    assert len(wanted) > 100
    assert found.images.ids == wanted.images.ids
    np.testing.assert_array_equal(found.offsets, wanted.offsets)
    np.testing.assert_allclose(found.score, wanted.score, atol=1e-4)


def test_export_tells_size_step_outputs_and_agreement(model, tmp_path, capsys) -> None:
    out = tmp_path / "deep" / "half.onnx"
    assert call("weights", "export", model, "--precision", "fp16", "--out", out) == 0
    said = capsys.readouterr()
    assert f"{out}: {out.stat().st_size / 1e6:.2f} MB, fp16, any batch" in said.out
    assert "sides in steps of 16 px, outputs heat, sides; at most" in said.out
    assert said.err == ""
    assert [path.name for path in out.parent.iterdir()] == ["half.onnx"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--device", "cuda"], "an ONNX file runs on the CPU here"),
        (["--precision", "bf16"], "onnxruntime computes an exported file in fp32, got bf16"),
    ],
)
def test_what_an_exported_file_cannot_do_is_refused(  # noqa: PLR0917
    exported, photos, tmp_path, capsys, options, reason
) -> None:
    assert call("predict", exported, photos, "--out", tmp_path / "a.json", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


@pytest.mark.parametrize("content", [None, b"", b"no onnx"])
def test_a_file_that_is_no_onnx_is_one_line_and_status_2(photos, tmp_path, capsys, content) -> None:
    file = tmp_path / "b.onnx"
    if content is not None:
        file.write_bytes(content)
    assert call("predict", file, photos, "--out", tmp_path / "a.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: ")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--to", "tflite"], "only onnx is known"),
        (["--precision", "int8"], "must be one of fp32, fp16"),
        (["--out", "a.json"], "ends in .onnx"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(model, capsys, options, reason) -> None:
    before = sorted(model.iterdir())
    assert call("weights", "export", model, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert sorted(model.iterdir()) == before


def test_without_the_extra_both_commands_name_what_to_install(  # noqa: PLR0917
    model, exported, photos, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out = tmp_path / "a.json"
    for command in (
        ("weights", "export", model, "--out", tmp_path / "b.onnx"),
        ("predict", exported, photos, "--out", out),
    ):
        assert call(*command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert 'pip install "smallobj[onnx]"' in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]
