"""What a run is resumed from: `resume/state.pt`, and the best predictions beside it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smallobj.boxes import BoxTable, InputError, whole_file
from smallobj.training.length import Length

STATE = "state.pt"
BEST = "best.pt"
_VERSION = 1


@dataclass(kw_only=True)
class Progress:
    """How far a run is, besides its weights: numbers alone."""

    step: int = 0  # steps done
    seconds: float = 0.0  # spent, over all the times it was started
    validated: int = 0  # step of the last validation
    best_step: int = 0  # 0: none yet
    best_score: float = -1.0  # below 0: none, or nothing is held out
    since_best: int = 0  # validations since
    best_latency_ms: float | None = None  # an image, when the best weights were validated
    failed: int = 0  # steps in a row without a finite loss and gradient
    done: bool = False
    length: Length | None = None


def save_snapshot(folder: Path, progress: Progress, tensors: Mapping[str, Any], run: str) -> None:
    """Write the state whole. tensors: state dicts by name. run: what the state belongs to."""
    content = {
        "version": _VERSION,
        "run": run,
        "threads": torch.get_num_threads(),
        "random": torch.get_rng_state(),
        "progress": asdict(progress),
        "tensors": dict(tensors),
    }
    _save(folder / STATE, content)


def has_snapshot(folder: Path) -> bool:
    """Whether there is something to resume from."""
    return (folder / STATE).exists()


def load_snapshot(folder: Path, run: str) -> tuple[Progress, dict[str, Any]] | None:
    """Progress and state dicts; None where there is nothing to resume from.

    Sets torch's random state and number of threads as they were. Raises InputError where the
    state cannot be read or is of a run on other labels.
    """
    file = folder / STATE
    if not has_snapshot(folder):
        return None
    content = _load(file)
    if content.get("version") != _VERSION:
        raise InputError(f"is not of version {_VERSION}", file=file, value=content.get("version"))
    if content["run"] != run:
        raise InputError("belongs to a run on other labels; they changed since", file=file)
    torch.set_num_threads(content["threads"])
    torch.set_rng_state(content["random"])
    values = content["progress"]
    length = values.pop("length")
    progress = Progress(**values, length=None if length is None else Length(**length))
    return progress, content["tensors"]


def save_best(folder: Path, table: BoxTable) -> None:
    """Keep the predictions of the best weights so far, whole."""
    assert table.score is not None
    columns = {"offsets": table.offsets, "xyxy": table.xyxy, "label": table.label}
    columns["score"] = table.score
    _save(folder / BEST, {name: torch.from_numpy(c) for name, c in columns.items()})


def load_best(folder: Path, truth: BoxTable) -> BoxTable:
    """The predictions of the best weights, on the images of the truth."""
    columns: dict[str, Tensor] = _load(folder / BEST)
    return BoxTable(
        images=truth.images,
        classes=truth.classes,
        offsets=columns["offsets"].numpy(),
        xyxy=columns["xyxy"].numpy(),
        label=columns["label"].numpy(),
        score=columns["score"].numpy(),
    )


def _save(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole; raises InputError where the disk is full, say."""
    with whole_file(file) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # torch's own, while it handles the one that tells
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def _load(file: Path) -> dict[str, Any]:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        reason = str(error).strip().splitlines()[0][:100] if str(error).strip() else "damaged"
        raise InputError(f"cannot be read ({reason})", file=file) from error
