"""An exported detector: an ONNX file that a runtime computes and our own code decodes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.detectors import Candidates, Detector, Target, detector_of
from smallobj.prediction.runtimes import ONNXRUNTIME, check_runtime, open_session, telling_line
from smallobj.weights.manifest import Manifest

INPUT = "images"  # uint8 [batch, 3, height, width], RGB, sides multiples of the divisor
METADATA = "smallobj"  # key of the file's metadata; its value is `describe_file` as JSON
_SEAL = b"smallobj.sha256"  # key of the last entry, the SHA-256 of all bytes before it
_VERSION = 1
_ENDING = ".onnx"


def is_onnx(path: str | Path) -> bool:
    """Whether a path is named like an exported model."""
    return Path(path).suffix.lower() == _ENDING


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
    runtime: one of RUNTIMES, precision: what it computes in. Raises InputError where the file is
    not what the manifest says.
    """

    def __init__(
        self,
        content: bytes,
        skeleton: Detector,
        outputs: Sequence[str],
        *,
        threads: int | None = None,
        runtime: str = ONNXRUNTIME,
        precision: str = "fp32",
    ) -> None:
        super().__init__(skeleton.config, stride=skeleton.stride)
        self.skeleton = skeleton.eval()
        self.outputs = tuple(outputs)
        self._runtime = runtime
        self._session = open_session(content, threads, runtime=runtime, precision=precision)
        self._check()
        self.eval()

    def forward(self, images: Tensor, targets: Sequence[Target] | None = None) -> dict[str, Tensor]:
        """Raw tensors of images, see Detector; float32. ValueError where targets are given."""
        if targets is not None:
            raise ValueError("an exported detector cannot be trained")
        self._check_images(images)
        found = self._session.run(self.outputs, {INPUT: images.contiguous().numpy()})
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
        inputs = self._session.inputs()
        if inputs != [(INPUT, "uint8")]:
            raise InputError(f"its input must be {INPUT}, uint8", value=inputs)
        side = 2 * self.stride
        images = torch.zeros(2, 3, side, side + self.stride, dtype=torch.uint8)
        with torch.inference_mode():
            wanted = {name: tuple(v.shape) for name, v in self.skeleton(images).items()}
            try:
                found = {name: tuple(v.shape) for name, v in self(images).items()}
            except Exception as error:  # neither runtime's errors have a class of their own
                reason = telling_line(error, self._runtime)
                raise InputError(f"does not run: {reason}") from error
        if found != wanted:
            raise InputError(f"its outputs must be {wanted}", value=found)


def load_onnx(
    path: str | Path,
    *,
    threads: int | None = None,
    runtime: str = ONNXRUNTIME,
    precision: str = "fp32",
) -> tuple[OnnxDetector, Manifest]:
    """An exported detector and its manifest, as `load_detector` gives them of a run.

    The manifest's sha256 and weight_bytes are those of the file itself: what it predicts is not
    mixed with what the run it came from predicts. Raises InputError, naming the file, where it is
    no ONNX, was not exported by `smallobj weights export` or changed since, or does not fit its
    manifest, or where the runtime is unknown or not installed; a changed file never comes to the
    runtime, which may crash on damage.
    """
    check_runtime(runtime, precision)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    if sealed(content[: -len(sealed(b""))]) != content:
        reason = "is no ONNX file of smallobj weights export, or was changed since"
        raise InputError(reason, file=path)
    try:
        manifest, outputs = _read_metadata(content, runtime)
        detector = OnnxDetector(
            content,
            detector_of(manifest),
            outputs,
            threads=threads,
            runtime=runtime,
            precision=precision,
        )
    except InputError as error:
        raise InputError(error.reason, file=path, field=error.field, value=error.value) from error
    digest = hashlib.sha256(content).hexdigest()
    return detector, replace(manifest, sha256=digest, weight_bytes=len(content))


def _read_metadata(content: bytes, runtime: str) -> tuple[Manifest, list[str]]:
    metadata = open_session(content, 1, runtime=runtime, optimise=False).metadata()
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
