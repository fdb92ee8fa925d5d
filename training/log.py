"""`log.jsonl`: one JSON object a line, what happened in a run and on what machine."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from smallobj.boxes import InputError, write_text

_LIBRARIES = ("smallobj", "torch", "torchvision", "timm", "numpy", "pillow", "numba")


class RunLog:
    """Lines appended as they come; a torn last line is what a killed process may leave."""

    def __init__(self, path: Path, *, keep_until_step: int | None) -> None:
        """keep_until_step: lines of a resumed run that are after it are done again; None: new."""
        self._path = path
        lines = [] if keep_until_step is None else _lines_until(path, keep_until_step)
        write_text(path, "".join(line + "\n" for line in lines))

    def write(self, kind: str, **values: Any) -> None:
        """Append a line: kind, the time, and values JSON knows; InputError where it cannot be."""
        line = json.dumps({"kind": kind, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **values})
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            reason = f"cannot be written: {error.strerror or error}"
            raise InputError(reason, file=self._path) from error


def environment(device: torch.device) -> dict[str, Any]:
    """Device, versions, code revision, processors and threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": str(device),
        "device_name": name or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "code_revision": code_revision(),
    }


def versions() -> dict[str, str]:
    """Of the libraries that results depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an editable install of ours may have none
            continue
    return found


def code_revision() -> str:
    """The commit of the source this runs from, `+` where it was changed; else our version."""
    root = Path(__file__).resolve().parents[1]
    if (root / ".git").exists():
        try:
            revision = _git(root, "rev-parse", "HEAD")
            changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        except (OSError, subprocess.SubprocessError):
            return versions().get("smallobj", "")
        return revision + ("+" if changed else "")
    return versions().get("smallobj", "")


def memory_mb(device: torch.device) -> dict[str, float]:
    """The most memory this process held so far, and of the GPU, in megabytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    found = {"memory_mb": round(held, 1)}
    if device.type == "cuda":
        found["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    return found


def _lines_until(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            if json.loads(line).get("step", 0) <= step:
                kept.append(line)
        except json.JSONDecodeError:
            continue
    return kept


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
