"""An exported detector: an ONNX file that runs on ONNX Runtime and is decoded by our own code."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.detectors import Candidates, Detector, Target, detector_of
from smallobj.weights.manifest import Manifest

INPUT = "images"  # uint8 [batch, 3, height, width], RGB, sides multiples of the divisor
METADATA = "smallobj"  # key of the file's metadata; its value is `describe_file` as JSON
_SEAL = b"smallobj.sha256"  # key of the last entry, the SHA-256 of all bytes before it
_VERSION = 1
_ENDING = ".onnx"
_PROVIDERS = ["CPUExecutionProvider"]


def is_onnx(path: str | Path) -> bool:
    """Whether a path is named like an exported model."""
    return Path(path).suffix.lower() == _ENDING


def onnx_library(name: str) -> Any:
    """An imported module of the extra `onnx`; InputError with the command that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f'ONNX needs the package {name}: pip install "smallobj[onnx]"') from error


def describe_file(manifest: Manifest, *, divisor: int, outputs: Sequence[str]) -> str:
    """What an exported file says of itself, JSON: all that its decoding and a run need."""
    content = {
        "version": _VERSION,
        "manifest": manifest.as_dict(),
        "divisor": divisor,
        "outputs": list(outputs),
    }
    return msgspec.json.encode(content).decode()


def sealed(content: bytes) -> bytes:
    """An ONNX file with its own SHA-256 appended as one more entry of metadata.

    Protobuf joins what is appended: ModelProto.metadata_props is field 14, its key 1, its value 2.
    """
    digest = hashlib.sha256(content).hexdigest().encode()
    entry = b"".join(bytes((tag, len(v))) + v for tag, v in ((0x0A, _SEAL), (0x12, digest)))
    return content + bytes((0x72, len(entry))) + entry


class OnnxDetector(Detector):
    """A detector whose network is an ONNX file; `decode` is that of the detector it came from.

    It predicts only, on the CPU. `skeleton`, built from the manifest, brings settings and decoding;
    its weights are random and never used. threads: None, as many as the machine has cores.
    Raises InputError where the file is not what the manifest says.
    """

    def __init__(
        self, content: bytes, skeleton: Detector, outputs: Sequence[str], threads: int | None = None
    ) -> None:
        super().__init__(skeleton.config, stride=skeleton.stride)
        self.skeleton = skeleton.eval()
        self.outputs = tuple(outputs)
        self._session = _session(content, threads)
        self._check()
        self.eval()

    def forward(self, images: Tensor, targets: Sequence[Target] | None = None) -> dict[str, Tensor]:
        """Raw tensors of images, see Detector; float32. ValueError where targets are given."""
        if targets is not None:
            raise ValueError("an exported detector cannot be trained")
        self._check_images(images)
        found = self._session.run(list(self.outputs), {INPUT: images.contiguous().numpy()})
        return {n: torch.from_numpy(v) for n, v in zip(self.outputs, found, strict=True)}

    def decode(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> list[Candidates]:
        """See Detector."""
        return self.skeleton.decode(raw, image_size)

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """See Detector."""
        return self.skeleton.boxes(raw, image_size)

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """Always ValueError: normalisation is inside the file, so it takes whole images."""
        raise ValueError("an exported detector takes images, not normalised ones")

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Always ValueError: what was exported is not trained."""
        raise ValueError("an exported detector cannot be trained")

    def _check(self) -> None:
        """Hold inputs and outputs, by names and shapes, to those of the skeleton."""
        inputs = [(i.name, i.type) for i in self._session.get_inputs()]
        if inputs != [(INPUT, "tensor(uint8)")]:
            raise InputError(f"its input must be {INPUT}, uint8", value=inputs)
        side = 2 * self.stride
        images = torch.zeros(2, 3, side, side + self.stride, dtype=torch.uint8)
        with torch.inference_mode():
            wanted = {name: tuple(v.shape) for name, v in self.skeleton(images).items()}
            try:
                found = {name: tuple(v.shape) for name, v in self(images).items()}
            except Exception as error:  # ONNX Runtime's errors have no class of their own
                raise InputError(f"does not run: {_line(error)}") from error
        if found != wanted:
            raise InputError(f"its outputs must be {wanted}", value=found)


def load_onnx(path: str | Path, *, threads: int | None = None) -> tuple[OnnxDetector, Manifest]:
    """An exported detector and its manifest, as `load_detector` gives them of a run.

    The manifest's sha256 and weight_bytes are those of the file itself: what it predicts is not
    mixed with what the run it came from predicts. Raises InputError, naming the file, where it is
    no ONNX, was not exported by `smallobj weights export` or changed since, or does not fit its
    manifest; a changed file never comes to ONNX Runtime, which may crash on damage.
    """
    onnx_library("onnxruntime")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    if sealed(content[: -len(sealed(b""))]) != content:
        reason = "is no ONNX file of smallobj weights export, or was changed since"
        raise InputError(reason, file=path)
    try:
        manifest, outputs = _read_metadata(content)
        detector = OnnxDetector(content, detector_of(manifest), outputs, threads)
    except InputError as error:
        raise InputError(error.reason, file=path, field=error.field, value=error.value) from error
    digest = hashlib.sha256(content).hexdigest()
    return detector, replace(manifest, sha256=digest, weight_bytes=len(content))


def _read_metadata(content: bytes) -> tuple[Manifest, list[str]]:
    metadata = _session(content, 1, optimise=False).get_modelmeta().custom_metadata_map
    if METADATA not in metadata:
        raise InputError("was not exported by smallobj weights export: it holds no manifest")
    try:
        values = msgspec.json.decode(metadata[METADATA], type=_Described)
    except msgspec.DecodeError as error:
        raise InputError(f"its metadata is damaged: {error}", field=METADATA) from error
    if values.version != _VERSION:
        raise InputError(f"version {_VERSION} is known", field="version", value=values.version)
    return Manifest.from_dict(values.manifest), values.outputs


class _Described(msgspec.Struct):
    version: int
    manifest: dict[str, Any]
    outputs: list[str]


def _session(content: bytes, threads: int | None, *, optimise: bool = True) -> Any:
    runtime = onnx_library("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = threads or 0
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(content, options, providers=_PROVIDERS)
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        raise InputError(f"is no ONNX file that can be run: {_line(error)}") from error


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
