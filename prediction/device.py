"""Where a detector runs, and in which precision."""

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


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context a detector runs in: one of PRECISIONS; auto is bf16 on a GPU that has it.

    Raises InputError for what the device cannot do.
    """
    if precision == "auto":
        able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if able else "fp32"
    if precision == "fp32":
        return nullcontext()
    if precision == "fp16" and device.type == "cpu":
        raise InputError("a CPU runs fp32 or bf16", field="precision", value=precision)
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
