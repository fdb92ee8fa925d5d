"""Opening what can predict: the folder of a trained run, or a file exported from it."""

from pathlib import Path

from smallobj.boxes import InputError
from smallobj.detectors import Detector, load_detector
from smallobj.prediction.device import choose_device
from smallobj.prediction.onnx_model import is_onnx, load_onnx
from smallobj.prediction.runtimes import ONNXRUNTIME
from smallobj.weights.manifest import Manifest


def open_model(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    runtime: str | None = None,
) -> tuple[Detector, Manifest]:
    """The detector at `path`, ready to predict, and its manifest.

    A run is loaded on `device`. An exported file (NAME.onnx) runs on the CPU, on `threads` threads
    of `runtime` (one of RUNTIMES, None: ONNX Runtime), in fp32, or in bf16 where that can.
    InputError where another device or precision is asked, or a runtime of what torch computes.
    """
    if not is_onnx(path):
        if runtime is not None:
            reason = "only an exported file, NAME.onnx, has a runtime"
            raise InputError(reason, field="runtime", value=runtime)
        return load_detector(path, choose_device(device))
    if device not in ("auto", "cpu"):
        raise InputError("an ONNX file runs on the CPU here", field="device", value=device)
    return load_onnx(
        path,
        threads=threads,
        runtime=runtime or ONNXRUNTIME,
        precision="fp32" if precision == "auto" else precision,
    )
