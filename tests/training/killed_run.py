"""Training processes that kill themselves: python killed_run.py OUT SETTINGS MOMENT..."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from smallobj.training import TrainConfig, loop, resume, snapshot, train
from smallobj.weights import checkpoint


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillingReporter:
    """Ends the process at a step, or in the middle of a validation."""

    def __init__(self, moment: str) -> None:
        name, _, number = moment.partition(":")
        self._at_step = int(number) if name == "step" else 0
        self._in_validation_after = int(number) if name == "validation" else 0
        self._step = 0

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def step(self, progress: Any, loss: float, left_s: float | None) -> None:
        self._step = progress.step
        if self._step == self._at_step:
            die()

    def checking(self, done: int, images: int, left_s: float) -> None:
        pass

    def validating(self, done: int, images: int) -> None:
        if done == 2 and self._step == self._in_validation_after > 0:
            die()


def kill_while_saving_the_state() -> None:
    """The second snapshot of this process is cut in the middle."""
    plain, count = torch.save, 0

    def save(content: Any, stream: BinaryIO) -> None:
        nonlocal count
        plain(content, stream)
        count += 1
        if count == 2:
            stream.flush()
            os.truncate(stream.fileno(), stream.tell() // 2)
            die()

    snapshot.torch.save = save  # type: ignore[assignment]


def kill_between_weights_and_manifest() -> None:
    plain = checkpoint.write_bytes

    def write(path: Path, content: bytes) -> None:
        plain(path, content)
        die()

    checkpoint.write_bytes = write  # type: ignore[assignment]


def kill_after_the_best_was_kept() -> None:
    loop.Loop.snapshot = die  # type: ignore[method-assign]


MOMENTS: dict[str, Callable[[], None]] = {
    "saving": kill_while_saving_the_state,
    "manifest": kill_between_weights_and_manifest,
    "best": kill_after_the_best_was_kept,
}


def run(out: Path, moment: str, settings: dict[str, Any]) -> None:
    if moment in MOMENTS:
        MOMENTS[moment]()
    reporter = KillingReporter(moment)
    if (out / "config.toml").exists():
        resume(out, reporter=reporter)
    else:
        train(TrainConfig.from_dict(settings), out, reporter=reporter)


def in_child(out: Path, moment: str, settings: dict[str, Any]) -> int:
    """The exit code of a process of its own, which need not import torch again."""
    child = os.fork()
    if child == 0:
        try:
            run(out, moment, settings)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    out, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    print(json.dumps([in_child(out, moment, settings) for moment in sys.argv[3:]]))
