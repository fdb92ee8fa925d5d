"""Weights as safetensors with a checksum: no code runs from a file, no damage loads in silence."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from smallobj.boxes import InputError, whole_file, write_bytes
from smallobj.weights.manifest import (
    DTYPES,
    MANIFEST,
    WEIGHTS,
    Manifest,
    manifest_text,
    read_manifest,
    run_folder,
)


def save_weights(folder: str | Path, state: Mapping[str, Tensor], manifest: Manifest) -> Manifest:
    """Write weights.safetensors, then manifest.toml with its SHA-256; returns that manifest.

    Each file is written whole or not at all, and none where the disk has no room for both. A
    process killed between the two leaves new weights beside an old manifest, which
    `load_weights` refuses rather than mixes up.
    """
    content = packed(state)
    complete = replace(
        manifest, sha256=hashlib.sha256(content).hexdigest(), weight_bytes=len(content)
    )
    with whole_file(Path(folder) / MANIFEST) as temporary:
        with temporary.open("wb") as stream:
            stream.write(manifest_text(complete).encode())
            stream.flush()
            os.fsync(stream.fileno())  # so that it is on the disk before the weights are replaced
        write_bytes(Path(folder) / WEIGHTS, content)
    return complete


def packed(state: Mapping[str, Tensor]) -> bytes:
    """The tensors as weights.safetensors holds them."""
    # Own memory for each: safetensors refuses tensors that share, and memory formats of a device.
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()
    }
    return save(tensors, metadata={"format": "pt"})


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], Manifest]:
    """Tensors by name, on the CPU, and the manifest of a run's folder (or a file in it).

    Raises InputError where a file is missing, or the weights are not those of the manifest
    (SHA-256), or their header promises more than the file holds.
    """
    folder = run_folder(path)
    manifest = read_manifest(folder)
    file = folder / WEIGHTS
    if not manifest.sha256:
        raise InputError("field is missing", file=folder / MANIFEST, field="sha256")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=file) from error
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.sha256:
        raise InputError(
            f"is damaged or of another run: {MANIFEST} says SHA-256 {manifest.sha256[:12]}…",
            file=file,
            value=f"{found[:12]}…",
        )
    try:
        return load(content), replace(manifest, weight_bytes=len(content))
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"is not safetensors: {error}", file=file) from error


def apply_state(module: nn.Module, state: Mapping[str, Tensor], *, file: object = None) -> None:
    """Copy tensors into a module whose names and shapes they fit exactly, all or none.

    Raises InputError naming the first tensor that is missing, unknown, or of another shape or
    kind of number. float16 and bfloat16 tensors fill float32 weights.
    """
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise InputError("tensor is missing from the weights", file=file, item=name)
        found = state[name]
        if found.shape != tensor.shape:
            raise InputError(
                f"tensor must have shape {list(tensor.shape)}",
                file=file,
                item=name,
                value=list(found.shape),
            )
        if found.is_floating_point() != tensor.is_floating_point():
            raise InputError(
                f"tensor must be {tensor.dtype}", file=file, item=name, value=str(found.dtype)
            )
    for name in state:
        if name not in wanted:
            raise InputError("the model has no such tensor", file=file, item=name)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(state[name])


def copy_fitting(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy the tensors whose names and shapes a module has; returns the names it found none for."""
    wanted = module.state_dict()
    fits = {
        name
        for name, tensor in wanted.items()
        if name in state and state[name].shape == tensor.shape
    }
    with torch.no_grad():
        for name in fits:
            wanted[name].copy_(state[name])
    return [name for name in wanted if name not in fits]


def cast_weights(state: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """The tensors with all that are fractions in a precision of DTYPES, on the CPU."""
    dtype: torch.dtype = getattr(torch, DTYPES[precision])
    return {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in state.items()
    }


def require_finite(state: Mapping[str, Tensor]) -> None:
    """Raise InputError, naming the tensor, where a weight was too large for the type it has."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and bool(torch.isinf(tensor).any()):
            raise InputError(f"a weight is too large for {tensor.dtype}", item=name)
