"""Where the disk is full a run ends with one line, what was saved loads, and it can go on."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smallobj.boxes import InputError
from smallobj.detectors import load_detector
from smallobj.training import TrainConfig, resume, snapshot, train, validation
from smallobj.weights import checkpoint

Fingerprint = Callable[[Path], tuple[str, str]]


class FullDisk:
    """A file that writes so many bytes, then none."""

    def __init__(self, stream: Any, room: int) -> None:
        self._stream, self._room = stream, room

    def write(self, content: Any) -> int:
        self._room -= len(bytes(content))
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._stream.write(content)

    def flush(self) -> None:
        self._stream.flush()


def full_at(monkeypatch: pytest.MonkeyPatch, place: str, calls: int) -> None:
    """From the given call on, what is written at a place does not fit."""
    count = 0

    def counted() -> bool:
        nonlocal count
        count += 1
        return count >= calls

    if place in ("state.pt", "best.pt"):
        plain_save = snapshot.torch.save

        def save(content: Any, stream: Any) -> None:
            mine = (place == "best.pt") != ("tensors" in content)
            plain_save(content, FullDisk(stream, 2000) if mine and counted() else stream)

        monkeypatch.setattr(snapshot.torch, "save", save)
        return
    plain_write = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if b'"format":"pt"' in content[:9000] and counted():
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain_write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)


@pytest.mark.parametrize(
    ("place", "calls"),
    [("state.pt", 3), ("best.pt", 2), ("weights.safetensors", 2), ("state.pt", 1)],
)
def test_a_run_goes_on_from_what_was_saved_before_the_disk_was_full(
    tmp_path: Path,
    quick: dict[str, Any],
    fingerprint: Fingerprint,
    monkeypatch: pytest.MonkeyPatch,
    *,
    place: str,
    calls: int,
) -> None:
    config = TrainConfig.from_dict({**quick, "steps": 8, "validate_every": 2, "snapshot_s": 60})
    with monkeypatch.context() as patched:
        full_at(patched, place, calls)
        with pytest.raises(InputError, match="cannot be written: No space left") as caught:
            train(config, tmp_path / "a")
    assert place in str(caught.value)
    assert not list(tmp_path.rglob("*.tmp"))
    load_detector(tmp_path / "a")
    resume(tmp_path / "a")
    train(config, tmp_path / "b")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_a_manifest_that_does_not_fit_leaves_the_weights_before(
    tmp_path: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.from_dict({**quick, "steps": 2, "validate_every": 2})
    train(config, tmp_path / "a")
    state, manifest = checkpoint.load_weights(tmp_path / "a")
    monkeypatch.setattr(checkpoint, "manifest_text", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoint.save_weights(tmp_path / "a", {}, manifest)
    again, same = checkpoint.load_weights(tmp_path / "a")
    assert same == manifest
    assert again.keys() == state.keys()


def test_a_log_that_cannot_be_written_is_one_line(
    tmp_path: Path, quick: dict[str, Any], listener: Any, fingerprint: Fingerprint
) -> None:
    out = tmp_path / "a"

    def at(step: int) -> None:
        if step == 4:  # validated at the end of this step, before the next is done
            (out / "log.jsonl").rename(out / "log.bak")
            (out / "log.jsonl").mkdir()

    config = TrainConfig.from_dict({**quick, "steps": 6, "validate_every": 2})
    with pytest.raises(InputError, match=r"log\.jsonl: cannot be written"):
        train(config, out, reporter=listener(at))
    (out / "log.jsonl").rmdir()
    (out / "log.bak").rename(out / "log.jsonl")
    load_detector(out)
    resume(out)
    train(config, tmp_path / "b")
    assert fingerprint(out) == fingerprint(tmp_path / "b")


def test_a_run_of_the_best_weights_that_does_not_fit_is_written_by_resume(
    tmp_path: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.from_dict({**quick, "steps": 2})

    def full(*_: Any, **__: Any) -> None:
        raise InputError("cannot be written: No space left on device", file="a.json")

    with monkeypatch.context() as patched:
        patched.setattr(validation, "write_run", full)
        with pytest.raises(InputError, match="No space left"):
            train(config, tmp_path / "a")
    assert not (tmp_path / "a.json").exists()
    load_detector(tmp_path / "a")
    assert resume(tmp_path / "a").run == tmp_path / "a.json"
    assert (tmp_path / "a.json").exists()
