"""From a trained detector to an ONNX file that carries its manifest, checked against torch."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from smallobj.boxes import InputError, check_writable, write_bytes
from smallobj.detectors import Detector, detector_of
from smallobj.prediction.onnx_model import (
    INPUT,
    METADATA,
    OnnxDetector,
    describe_file,
    is_onnx,
    sealed,
)
from smallobj.prediction.runtimes import library
from smallobj.weights.manifest import Manifest

# How far raw outputs may lie from torch's, in parts of an output's largest value (at least 1).
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}
_ALIKE = 0.75  # of the rows of chosen boxes are compared
_OPSET = 18  # of 2022: old runtimes read it too
_LEAST_HALVED = 1024  # numbers of a tensor; smaller ones weigh nothing and stay exact
_TRIED_PX = 256  # about the sides of the images that torch and ONNX Runtime are compared on


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An ONNX file that was written."""

    file_bytes: int
    outputs: tuple[str, ...]  # names of the raw tensors
    divisor: int  # height and width are multiples of this, in pixels
    difference: float  # from torch's raw outputs, the largest seen; in parts, see TOLERANCES


def export_onnx(
    detector: Detector, manifest: Manifest, out: str | Path, *, precision: str = "fp32"
) -> Exported:
    """Write a detector as `out`, an ONNX file of any batch and any size in steps of its stride.

    images uint8 [batch, 3, height, width] -> the detector's raw tensors, float32, under its own
    names; normalisation is inside, decoding and NMS are not. fp16 stores the weights in half and
    computes in float32. The file is written whole, once ONNX Runtime has agreed with torch on two
    sizes, see TOLERANCES, with full weights and then with half ones (not where boxes are chosen
    first: half weights choose others); else, and where the detector cannot be exported,
    InputError. The detector must be on the CPU and is left in evaluation mode.
    """
    if precision not in TOLERANCES:
        known = ", ".join(TOLERANCES)
        raise InputError(f"must be one of {known}", field="precision", value=precision)
    if not is_onnx(out):
        raise InputError("the name of an exported model ends in .onnx", field="out", value=str(out))
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        library(needed)
    check_writable(out)
    graph = _Graph(detector.eval()).eval()
    model = _converted(graph)
    exported = OnnxDetector(model.SerializeToString(), detector_of(manifest), graph.outputs)
    difference = _agree(detector, exported, TOLERANCES["fp32"])
    if precision == "fp16":
        _halve(model, manifest)
        manifest = replace(manifest, dtype="float16")
    note = describe_file(manifest, divisor=detector.stride, outputs=graph.outputs)
    model.metadata_props.add(key=METADATA, value=note)
    content = sealed(model.SerializeToString())
    if precision == "fp16" and not detector.chosen_by:
        exported = OnnxDetector(content, detector_of(manifest), graph.outputs)
        difference = _agree(detector, exported, TOLERANCES["fp16"])
    write_bytes(out, content)
    return Exported(
        file_bytes=len(content),
        outputs=graph.outputs,
        divisor=detector.stride,
        difference=difference,
    )


def raw_difference(one: Detector, other: Detector, images: Tensor) -> float:
    """The largest difference of raw outputs, in parts of an output's largest value (at least 1).

    Where raw is of chosen boxes only, rounding decides near ties, of which noise gives many: each
    row is compared with that of the nearest box of the other, and the quarter that differs most is
    left out.
    """
    with torch.inference_mode():
        first, second = one(images), other(images)
    second = _like_rows(one.chosen_by, first, second)
    parts = {
        name: (value - second[name]).abs() / value.abs().max().clamp(min=1)
        for name, value in first.items()
    }
    if not one.chosen_by:
        return max(float(part.max()) for part in parts.values())
    rows = [part.reshape(*part.shape[:2], -1).amax(dim=2).flatten() for part in parts.values()]
    ranked = torch.stack(rows).amax(dim=0).sort().values
    return float(ranked[math.ceil(_ALIKE * len(ranked)) - 1])


def _like_rows(
    boxes: str, first: Mapping[str, Tensor], second: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The second raw tensors, each row that of the box nearest to the first's."""
    if not boxes:
        return second
    nearest = torch.cdist(first[boxes], second[boxes], p=float("inf")).argmin(dim=2)
    image = torch.arange(len(nearest))[:, None]
    return {name: value[image, nearest] for name, value in second.items()}


class _Graph(nn.Module):
    """What is exported: `forward` without its checks, outputs in a fixed order."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        with torch.inference_mode():
            self.outputs = tuple(detector(self.example()))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raw = self.detector.network(self.detector.normalise(images))
        return tuple(raw[name].float() for name in self.outputs)

    def example(self) -> Tensor:
        """Three lengths that differ and are none of them 1, or they would be taken for fixed."""
        stride = self.detector.stride
        return torch.zeros(2, 3, 4 * stride, 6 * stride, dtype=torch.uint8)


def _converted(graph: _Graph) -> Any:
    stride = graph.detector.stride
    batch, rows, columns = (torch.export.Dim(name) for name in ("batch", "rows", "columns"))
    shape = {0: batch, 2: stride * rows, 3: stride * columns}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            program = torch.onnx.export(
                graph,
                (graph.example(),),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=list(graph.outputs),
                dynamic_shapes={INPUT: shape},
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(
            f"detector {graph.detector.name} cannot be exported to ONNX yet: {reason}"
        ) from error
    assert program is not None
    return _bare(program.model_proto)


def _bare(model: Any) -> Any:
    """Without the exporter's notes: they name source files of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for part in (graph, model):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return model


def _halve(model: Any, manifest: Manifest) -> None:
    """Store large weights as float16, each with a cast back, which a runtime does once."""
    helper, numbers = library("onnx.helper"), library("onnx.numpy_helper")
    casts, single = [], library("onnx").TensorProto.FLOAT
    for weight in model.graph.initializer:
        if weight.data_type != single or np.prod(weight.dims) < _LEAST_HALVED:
            continue
        name, values = weight.name, numbers.to_array(weight)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise InputError("a weight is too large for fp16", file=manifest.id, item=name)
        weight.CopyFrom(numbers.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=single))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _agree(detector: Detector, exported: OnnxDetector, tolerance: float) -> float:
    seen = [raw_difference(detector, exported, images) for images in _tried(detector.stride)]
    if not max(seen) <= tolerance:  # NaN too
        raise InputError(
            f"ONNX Runtime's outputs differ from torch's by more than {tolerance:g}: not exported",
            value=f"{max(seen):.2g}",
        )
    return max(seen)


def _tried(stride: int) -> Sequence[Tensor]:
    """One image, and a batch of another, oblong size."""
    random = torch.Generator().manual_seed(0)
    sides = max(1, _TRIED_PX // stride)
    shapes = ((1, 3, sides, sides), (2, 3, sides // 2 + 1, sides + 1))
    return [
        torch.randint(0, 256, (b, c, h * stride, w * stride), generator=random, dtype=torch.uint8)
        for b, c, h, w in shapes
    ]
