"""An exported model on OpenVINO: torch's outputs, torch's boxes, the same refusals."""

import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from smallobj.boxes import BoxTable, Classes, InputError
from smallobj.detectors import Detector, build_detector, describe
from smallobj.prediction import open_model, predict
from smallobj.prediction.export import export_onnx, raw_difference
from smallobj.prediction.onnx_model import load_onnx, sealed
from smallobj.tta import Tiling, parse_views
from smallobj.weights.manifest import Manifest

installed = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="OpenVINO is not installed: pip install 'smallobj[openvino]'",
)
CLASSES = Classes.of(["a", "b"])


class Exported(NamedTuple):
    """An untrained tiny detector and its file."""

    detector: Detector
    file: Path


@pytest.fixture(scope="module", params=["centernet", "yolo"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    detector = build_detector(
        request.param, num_classes=2, mean=(110.0,) * 3, std=(60.0,) * 3, size="tiny"
    ).eval()
    manifest = Manifest(
        **describe(detector),
        id=request.param,
        classes=CLASSES,
        train_crop_px=96,
        largest_object_px=48.0,
    )
    file = tmp_path_factory.mktemp(request.param) / "a.onnx"
    export_onnx(detector, manifest, file)
    return Exported(detector, file)


@installed
def test_raw_outputs_are_those_of_torch_at_any_batch_and_size(exported) -> None:
    """Within 1e-4 of each output's largest value, though the CPU may know half numbers."""
    detector, _ = load_onnx(exported.file, threads=1, runtime="openvino")
    stride = exported.detector.stride
    for batch, rows, columns in ((1, 4, 4), (3, 5, 2), (2, 9, 12)):
        images = torch.randint(
            0, 256, (batch, 3, rows * stride, columns * stride), dtype=torch.uint8
        )
        assert raw_difference(exported.detector, detector, images) <= 1e-4
        first, kept = detector(images), {k: v.clone() for k, v in detector(images).items()}
        detector(images.flip(0))
        assert all(torch.equal(first[name], kept[name]) for name in kept)  # not written over


@installed
def test_in_half_numbers_raw_outputs_are_nearly_those_of_torch(exported) -> None:
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)
    whole, half = (
        open_model(exported.file, threads=1, runtime="openvino", precision=precision)[0]
        for precision in ("auto", "bf16")
    )
    assert raw_difference(exported.detector, half, images) <= 0.1  # equal where a CPU has none
    assert raw_difference(exported.detector, whole, images) <= 1e-4


@installed
def test_predicted_boxes_are_those_of_torch_end_to_end(exported, tmp_path) -> None:
    rng = np.random.default_rng(0)
    photo = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 256, (130, 201, 3), dtype=np.uint8)).save(photo)

    def seen(detector: Detector) -> BoxTable:
        views = parse_views("hflip", tiling=Tiling(side_px=96, overlap_px=48))
        return predict(
            detector,
            [photo],
            ["a.png"],
            classes=CLASSES,
            views=views,
            batch_size=3,
            precision="fp32",
        )

    wanted = seen(exported.detector)
    found = seen(open_model(exported.file, threads=1, runtime="openvino")[0])
    assert len(wanted) >= 3
    assert wanted.score is not None
    assert found.score is not None
    np.testing.assert_allclose(found.score, wanted.score, atol=1e-4)
    near = np.abs(found.xyxy[:, None] - wanted.xyxy).max(axis=2).min(axis=1)
    assert (near < 0.02).mean() > 0.95  # near ties may fall out the other way


@installed
def test_what_is_refused_elsewhere_is_refused_here(exported, tmp_path) -> None:
    whole, file = exported.file.read_bytes(), tmp_path / "b.onnx"
    place = len(whole) // 2
    model = onnx.load(exported.file)
    del model.metadata_props[:]
    for content, reason in (
        (whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], "was changed since"),
        (sealed(b"no onnx"), "is no ONNX file that can be run: Unable to read the model"),
        (sealed(model.SerializeToString()), "it holds no manifest"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=reason) as caught:
            load_onnx(file, threads=1, runtime="openvino")
        assert str(caught.value).startswith(str(file))
        assert "\n" not in str(caught.value)


def test_a_missing_runtime_names_the_command_that_installs_it(exported, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r'pip install "smallobj\[openvino\]"'):
        load_onnx(exported.file, runtime="openvino")


def test_an_unknown_runtime_and_one_for_a_run_are_refused(exported, tmp_path) -> None:
    with pytest.raises(InputError, match="must be one of onnxruntime, openvino"):
        open_model(exported.file, runtime="tensorrt")
    with pytest.raises(InputError, match="only an exported file"):
        open_model(tmp_path, runtime="openvino")
