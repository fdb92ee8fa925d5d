"""Where a detector runs, and in which precision; training and prediction choose alike."""

from contextlib import AbstractContextManager, nullcontext

import torch

from smallobj.boxes import InputError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def choose_device(name: str = "auto") -> torch.device:
    """A device by torch's name; `auto` is the first GPU, else the CPU. InputError where absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError("no such device here", field="device", value=name) from error
    return device


def choose_precision(device: torch.device, wanted: str = "auto") -> str:
    """One of PRECISIONS but auto, which is bf16 where the device computes in it, else fp32.

    On a CPU with AVX512-BF16 that takes half the time (docs/training.md). Raises InputError for
    what the device cannot do.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise InputError("a CPU runs fp32 or bf16", field="precision", value=wanted)
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = device.type == "cpu" and _cpu_computes_bf16()
    return "bf16" if able else "fp32"


def autocast(
    device: torch.device, precision: str, *, cached: bool = True
) -> AbstractContextManager[object]:
    """The context a detector runs in; see `choose_precision`.

    cached: whether weights that are used twice are rounded once; not where kernels are recorded.
    """
    precision = choose_precision(device, precision)
    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype, cache_enabled=cached)


def _cpu_computes_bf16() -> bool:
    # torch has no public question for it; where the private one is gone fp32 is always right.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(asked is not None and asked())
