"""What computes an exported file: ONNX Runtime or OpenVINO, behind one face."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import InputError

ONNXRUNTIME = "onnxruntime"
OPENVINO = "openvino"
_OPENVINO_NAMES = {"fp32": "f32", "bf16": "bf16"}  # of precisions


class Session(ABC):
    """The graph of an ONNX file, ready to run on the CPU."""

    @abstractmethod
    def inputs(self) -> list[tuple[str, str]]:
        """Names of the inputs and their number types, as numpy names them."""

    @abstractmethod
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""

    @abstractmethod
    def run(self, outputs: Sequence[str], given: Mapping[str, NDArray]) -> list[NDArray]:
        """The named outputs, arrays of the caller's own. Raises what the runtime raises."""


def library(name: str, *, what: str = "ONNX", extra: str = "onnx") -> Any:
    """An imported module of an extra; InputError with the command that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        reason = f'{what} needs the package {name}: pip install "smallobj[{extra}]"'
        raise InputError(reason) from error


class OnnxRuntime(Session):
    """A session of ONNX Runtime. threads: None, as many as the machine has cores."""

    def __init__(
        self,
        content: bytes,
        threads: int | None = None,
        *,
        precision: str = "fp32",
        optimise: bool = True,
    ):
        assert precision == "fp32"
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        options.intra_op_num_threads = threads or 0
        if not optimise:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = runtime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def inputs(self) -> list[tuple[str, str]]:
        """See Session."""
        return [
            (i.name, i.type.removeprefix("tensor(").removesuffix(")"))
            for i in self._session.get_inputs()
        ]

    def metadata(self) -> Mapping[str, str]:
        """See Session."""
        found: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    def run(self, outputs: Sequence[str], given: Mapping[str, NDArray]) -> list[NDArray]:
        """See Session."""
        found: list[NDArray] = self._session.run(list(outputs), dict(given))
        return found


class OpenVino(Session):
    """A request of OpenVINO's CPU plugin, which computes in float32 as the file says, or in bf16.

    Left alone it would tie its threads to cores that other processes may be tied to as well.
    """

    def __init__(
        self,
        content: bytes,
        threads: int | None = None,
        *,
        precision: str = "fp32",
        optimise: bool = True,
    ):
        core = library("openvino", what="OpenVINO", extra="openvino").Core()
        self._model = core.read_model(content)
        self._request = None
        if optimise:
            settings = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": _OPENVINO_NAMES[precision],
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": threads or 0,
            }
            compiled = core.compile_model(self._model, "CPU", settings)
            self._request = compiled.create_infer_request()

    def inputs(self) -> list[tuple[str, str]]:
        """See Session."""
        return [(i.any_name, np.dtype(i.element_type.to_dtype()).name) for i in self._model.inputs]

    def metadata(self) -> Mapping[str, str]:
        """See Session."""
        if not self._model.has_rt_info(["framework"]):
            return {}
        return {name: str(v.value) for name, v in self._model.get_rt_info()["framework"].items()}

    def run(self, outputs: Sequence[str], given: Mapping[str, NDArray]) -> list[NDArray]:
        """See Session."""
        assert self._request is not None, "was opened for its metadata alone"
        found = self._request.infer(dict(given), share_inputs=True)
        return [found[name] for name in outputs]


class _Runtime(NamedTuple):
    session: type[OnnxRuntime] | type[OpenVino]
    precisions: tuple[str, ...]  # that it computes in
    telling_line: int  # of its errors, which says what is wrong


_RUNTIMES = {
    ONNXRUNTIME: _Runtime(OnnxRuntime, ("fp32",), 0),
    OPENVINO: _Runtime(OpenVino, tuple(_OPENVINO_NAMES), -1),
}
RUNTIMES = tuple(_RUNTIMES)


def check_runtime(name: str, precision: str = "fp32") -> None:
    """Raise InputError for a runtime that is unknown, or does not compute in that precision."""
    if name not in _RUNTIMES:
        raise InputError(f"must be one of {', '.join(RUNTIMES)}", field="runtime", value=name)
    known = _RUNTIMES[name].precisions
    if precision not in known:
        reason = f"{name} computes an exported file in {' or '.join(known)}"
        raise InputError(reason, field="precision", value=precision)


def open_session(
    content: bytes,
    threads: int | None,
    *,
    runtime: str = ONNXRUNTIME,
    precision: str = "fp32",
    optimise: bool = True,
) -> Session:
    """The graph of an ONNX file in a runtime; not optimised it serves for its metadata alone.

    Raises InputError where the runtime is unknown or not installed, or cannot take the file.
    """
    check_runtime(runtime, precision)
    try:
        session = _RUNTIMES[runtime].session
        return session(content, threads, precision=precision, optimise=optimise)
    except InputError:
        raise
    except Exception as error:  # neither runtime's errors have a class of their own
        reason = telling_line(error, runtime)
        raise InputError(f"is no ONNX file that can be run: {reason}") from error


def telling_line(error: Exception, runtime: str) -> str:
    """The line of a runtime's error that says what is wrong."""
    lines = str(error).strip().splitlines()
    return lines[_RUNTIMES[runtime].telling_line] if lines else type(error).__name__
