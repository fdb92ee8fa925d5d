"""Exported detectors: every family's raw outputs and boxes on ONNX Runtime are those of torch."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from smallobj.boxes import BoxTable, Classes, InputError
from smallobj.detectors import Detector, Target, build_detector, describe, list_detectors
from smallobj.prediction import export, open_model, predict
from smallobj.prediction.export import TOLERANCES, export_onnx, raw_difference
from smallobj.prediction.onnx_model import load_onnx, sealed
from smallobj.tta import Tiling, parse_views
from smallobj.weights.manifest import Manifest

SIDE = 96


class Family(NamedTuple):
    """A tiny detector that learnt to find squares, and its files by precision."""

    detector: Detector
    manifest: Manifest
    files: Mapping[str, Path]


def squares(count: int, seed: int, height: int = SIDE, width: int = SIDE) -> Any:
    """Noise with a bright square of 24 to 48 px of one of two classes each; uint8, targets."""
    random = np.random.default_rng(seed)
    images = random.integers(60, 160, (count, 3, height, width))
    targets = []
    for image in images:
        side, label = int(random.integers(24, 49)), int(random.integers(2))
        x, y = int(random.integers(width - side)), int(random.integers(height - side))
        image[2 * label, y : y + side, x : x + side] = 250
        box = torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32)
        targets.append(Target(box, torch.tensor([label])))
    return torch.from_numpy(images.astype(np.uint8)), targets


def learnt(name: str) -> Detector:
    torch.manual_seed(0)
    detector = build_detector(name, num_classes=2, mean=(110.0,) * 3, std=(60.0,) * 3, size="tiny")
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    for step in range(80):
        images, targets = squares(4, step)
        optimiser.zero_grad()
        torch.stack(list(detector(images, targets).values())).sum().backward()
        optimiser.step()
    return detector.eval()


@pytest.fixture(scope="module", autouse=True)
def converted_once() -> Iterator[None]:
    """torch's conversion takes seconds: a detector's is made once, whatever is done with it."""
    convert, graphs = export._converted, {}

    def kept(graph: Any) -> Any:
        key = id(graph.detector)
        if key not in graphs:
            graphs[key] = (graph, convert(graph))  # the detector is kept, or its id is used again
        return deepcopy(graphs[key][1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_converted", kept)
        yield


# D-FINE takes minutes to convert, and differs from RT-DETR in its heads alone.
FAMILIES = [
    pytest.param(name, marks=pytest.mark.slow) if name == "dfine" else name
    for name in list_detectors()
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    detector = learnt(request.param)
    manifest = Manifest(
        **describe(detector),
        id=f"the {request.param}",
        classes=Classes.of(["a", "b"], [3, 7]),
        train_crop_px=SIDE,
        largest_object_px=48.0,
        symmetry="mirror",
        sha256="a" * 64,
    )
    folder = tmp_path_factory.mktemp(request.param)
    files = {}
    for precision in TOLERANCES:
        files[precision] = folder / f"{precision}.onnx"
        done = export_onnx(detector, manifest, files[precision], precision=precision)
        assert done.difference <= TOLERANCES[precision]
        assert done.file_bytes == files[precision].stat().st_size
    return Family(detector, manifest, files)


@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 1, 1), (3, 5, 2), (2, 9, 12)])
def test_raw_outputs_are_those_of_torch_at_any_batch_and_size(family, batch, rows, columns) -> None:
    """Within 1e-4 (fp16 weights: 2e-2) of each output's largest value.

    Half weights may choose other boxes, where boxes are chosen first.
    """
    stride = family.detector.stride
    images, _ = squares(batch, 100, max(64, rows * stride), max(64, columns * stride))
    images = images[:, :, : rows * stride, : columns * stride]
    for precision, tolerance in TOLERANCES.items():
        exported, _ = load_onnx(family.files[precision], threads=1)
        raw = exported(images)
        with torch.inference_mode():
            wanted = family.detector(images)
        assert {k: (v.shape, v.dtype) for k, v in raw.items()} == {
            k: (v.shape, v.dtype) for k, v in wanted.items()
        }
        if precision == "fp32" or not family.detector.chosen_by:
            assert raw_difference(family.detector, exported, images) <= tolerance
        assert max(float(v.abs().max()) for v in wanted.values()) > 0.1


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for i, (height, width) in enumerate([(130, 201), (96, 96), (161, 75)]):
        images, _ = squares(1, 200 + i, height, width)
        paths.append(folder / f"{i}.png")
        Image.fromarray(images[0].permute(1, 2, 0).numpy()).save(paths[-1])
    return paths


def seen(detector: Detector, photos: list[Path]) -> BoxTable:
    views = parse_views("hflip,scale=0.75|1", tiling=Tiling(side_px=96, overlap_px=48))
    ids = [path.name for path in photos]
    return predict(
        detector,
        photos,
        ids,
        classes=Classes.of(["a", "b"], [3, 7]),
        views=views,
        batch_size=3,
        precision="fp32",
    )


def test_predicted_boxes_are_those_of_torch_end_to_end(family, photos) -> None:
    """With views and tiles: the same boxes in the same order, to 0.01 px and 1e-4 in score."""
    wanted = seen(family.detector, photos)
    found = seen(open_model(family.files["fp32"], threads=1)[0], photos)
    assert wanted.score is not None
    assert found.score is not None
    assert len(wanted) >= 3
    assert wanted.score.max() > 0.2
    np.testing.assert_array_equal(found.offsets, wanted.offsets)
    np.testing.assert_array_equal(found.label, wanted.label)
    np.testing.assert_allclose(found.score, wanted.score, atol=1e-4)
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=0.01)


def test_predicted_boxes_of_half_weights_are_nearly_those_of_torch(family, photos) -> None:
    """Every box of half the best score up has one of its class, IoU 0.9, score within 0.02.

    Within 0.2 where boxes are chosen first: half weights may choose a neighbour, which scores else.
    """
    nearly = 0.2 if family.detector.chosen_by else 0.02
    wanted = seen(family.detector, photos)
    found = seen(load_onnx(family.files["fp16"], threads=1)[0], photos)
    for one, other in ((wanted, found), (found, wanted)):
        assert one.score is not None
        assert other.score is not None
        assert (one.score >= one.score.max() / 2).sum() >= 2
        for image in range(len(photos)):
            rows = np.arange(one.offsets[image], one.offsets[image + 1])
            rows = rows[one.score[rows] >= one.score.max() / 2]
            others = np.arange(other.offsets[image], other.offsets[image + 1])
            iou = box_iou(torch.from_numpy(one.xyxy[rows]), torch.from_numpy(other.xyxy[others]))
            fits = (
                (iou.numpy() > 0.9)
                & (one.label[rows][:, None] == other.label[others])
                & (np.abs(one.score[rows][:, None] - other.score[others]) < nearly)
            )
            assert fits.any(axis=1).all()


def test_a_file_carries_its_manifest_and_half_weights_take_half_the_size(family) -> None:
    sizes = {}
    for precision, file in family.files.items():
        detector, manifest = load_onnx(file, threads=1)
        sizes[precision] = file.stat().st_size
        assert detector.config == family.detector.config
        assert detector.stride == family.detector.stride
        kept = replace(manifest, sha256=family.manifest.sha256, weight_bytes=0)
        dtype = "float32" if precision == "fp32" else "float16"
        assert kept == replace(family.manifest, dtype=dtype)
        assert manifest.weight_bytes == sizes[precision]
        assert manifest.sha256 != family.manifest.sha256
        note = json.loads(onnx.load(file).metadata_props[0].value)
        assert note["divisor"] == family.detector.stride
        assert note["manifest"]["sha256"] == "a" * 64
    assert sizes["fp16"] < 0.65 * sizes["fp32"]


def test_inputs_and_outputs_have_fixed_names_and_free_sizes(family) -> None:
    model = onnx.load(family.files["fp32"])
    onnx.checker.check_model(model, full_check=True)
    (images,) = model.graph.input
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    stride = family.detector.stride
    names = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert names == ["batch", 3, f"{stride}*rows", f"{stride}*columns"]
    raw = family.detector(torch.zeros(1, 3, stride, stride, dtype=torch.uint8))
    assert [output.name for output in model.graph.output] == list(raw)
    assert b".py" not in family.files["fp32"].read_bytes()


def test_an_exported_detector_predicts_only(family) -> None:
    detector, _ = load_onnx(family.files["fp32"], threads=1)
    images, targets = squares(1, 0)
    with pytest.raises(ValueError, match="cannot be trained"):
        detector(images, targets)
    with pytest.raises(ValueError, match="multiples of"):
        detector(images[:, :, :-1])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """One small untrained detector and its file."""
    torch.manual_seed(0)
    detector = build_detector(
        "centernet", num_classes=1, mean=(9.0,) * 3, std=(60.0,) * 3, size="tiny"
    )
    manifest = Manifest(
        **describe(detector),
        id="plain",
        classes=Classes.of(["a"]),
        train_crop_px=64,
        largest_object_px=30.0,
    )
    file = tmp_path_factory.mktemp("plain") / "a.onnx"
    export_onnx(detector, manifest, file)
    return Family(detector, manifest, {"fp32": file})


def changed(file: Path, to: Path, change: Any) -> Path:
    model = onnx.load(file)
    del model.metadata_props[-1]  # the checksum
    change(model)
    to.write_bytes(sealed(model.SerializeToString()))
    return to


def note(values: Mapping[str, Any]) -> Any:
    def change(model: Any) -> None:
        (entry,) = model.metadata_props
        entry.value = json.dumps(json.loads(entry.value) | values)

    return change


def noteless(model: Any) -> None:
    del model.metadata_props[:]


def garbled(model: Any) -> None:
    model.metadata_props[0].value = '{"version": 1, "man'


def foreign(model: Any) -> None:
    content = json.loads(model.metadata_props[0].value)
    content["manifest"]["arch"] = "nothing"
    model.metadata_props[0].value = json.dumps(content)


def other_classes(model: Any) -> None:
    content = json.loads(model.metadata_props[0].value)
    content["manifest"]["classes"] = {"names": ["a", "b"], "ids": [0, 1]}
    model.metadata_props[0].value = json.dumps(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (noteless, "it holds no manifest"),
        (garbled, "its metadata is damaged"),
        (foreign, "unknown detector"),
        (other_classes, "its outputs must be"),
        (note({"version": 2}), "version 1 is known"),
        (note({"outputs": ["heat"]}), "its outputs must be"),
        (note({"outputs": ["heat", "none"]}), "does not run"),
        (note({"manifest": {}}), "field is missing"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(plain, tmp_path, change, reason) -> None:
    file = changed(plain.files["fp32"], tmp_path / "b.onnx", change)
    with pytest.raises(InputError, match=reason) as caught:
        load_onnx(file, threads=1)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_changed_byte_is_noticed_wherever_it_is(plain, tmp_path) -> None:
    whole = plain.files["fp32"].read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole), 100)
    changes = [whole[:p] + bytes([whole[p] ^ 1]) + whole[p + 1 :] for p in places.tolist()]
    foreign = onnx.load(plain.files["fp32"])
    del foreign.metadata_props[:]
    others = (b"", b"no onnx", whole[: len(whole) // 2], whole[:-1], foreign.SerializeToString())
    for content in (*changes, *others):
        (tmp_path / "b.onnx").write_bytes(content)
        with pytest.raises(InputError, match=r"b\.onnx: is no ONNX file of smallobj"):
            load_onnx(tmp_path / "b.onnx", threads=1)


def test_what_is_no_model_is_refused_though_its_checksum_holds(tmp_path) -> None:
    for content in (b"", b"no onnx", b"\0" * 100):
        (tmp_path / "b.onnx").write_bytes(sealed(content))
        with pytest.raises(InputError, match=r"b\.onnx: is no ONNX file that can be run"):
            load_onnx(tmp_path / "b.onnx", threads=1)
    with pytest.raises(InputError, match="cannot be read"):
        load_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("library", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_library_names_the_command_that_installs_it(
    plain, tmp_path, monkeypatch, library
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=r'pip install "smallobj\[onnx\]"'):
        export_onnx(plain.detector, plain.manifest, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


class Branching(Detector):
    """Looks at the values of an image to choose its way, which no graph can hold."""

    def __init__(self, like: Detector) -> None:
        super().__init__(like.config, stride=8)

    def network(self, x: Tensor) -> dict[str, Tensor]:
        return {"raw": x if float(x.sum()) > 0 else -x}

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def test_what_cannot_be_exported_says_so_and_writes_nothing(plain, tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be exported to ONNX yet") as caught:
        export_onnx(Branching(plain.detector), plain.manifest, tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_weight_beyond_half_precision_is_an_error(plain, tmp_path, monkeypatch) -> None:
    def large(graph: Any) -> Any:
        model = onnx.load(plain.files["fp32"])
        weight = max(model.graph.initializer, key=lambda w: np.prod(w.dims))
        values = onnx.numpy_helper.to_array(weight) + np.float32(7e4)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return model

    monkeypatch.setattr(export, "_converted", large)
    monkeypatch.setattr(export, "_agree", lambda *_: 0.0)
    with pytest.raises(InputError, match="too large for fp16"):
        export_onnx(plain.detector, plain.manifest, tmp_path / "a.onnx", precision="fp16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "precision", "reason"),
    [("a.onnx", "int8", "must be one of fp32, fp16"), ("a.pt", "fp32", "ends in .onnx")],
)
def test_wrong_settings_are_named(plain, tmp_path, name, precision, reason) -> None:
    with pytest.raises(InputError, match=reason):
        export_onnx(plain.detector, plain.manifest, tmp_path / name, precision=precision)


def test_a_file_that_disagrees_with_torch_is_not_written(plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(TOLERANCES, "fp32", 0.0)
    with pytest.raises(InputError, match="differ from torch's"):
        export_onnx(plain.detector, plain.manifest, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
