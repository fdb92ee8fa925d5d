"""What a person sees of a run, on stderr: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from smallobj.training.snapshot import Progress as RunProgress

_PLAIN_EVERY_S = 10.0


class Reporter(Protocol):
    """Takes what a run tells."""

    def note(self, text: str) -> None:
        """A line the user should read."""

    def step(self, progress: RunProgress, loss: float, left_s: float | None) -> None:
        """A step was done; loss is recent, left_s the seconds to the end where known."""

    def checking(self, done: int, images: int, left_s: float) -> None:
        """So many images were looked at before the first step; left_s: seconds to the last."""

    def validating(self, done: int, images: int) -> None:
        """So many of the validation images were looked at."""


class PlainReporter:
    """Lines on stderr, one every ten seconds at most."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        """See Reporter."""
        print(text, file=sys.stderr, flush=True)

    def step(self, progress: RunProgress, loss: float, left_s: float | None) -> None:
        """See Reporter."""
        if time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self.note(_status(progress, loss, left_s))

    def checking(self, done: int, images: int, left_s: float) -> None:
        """See Reporter."""
        if time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self.note(_checked(done, images, left_s))

    def validating(self, done: int, images: int) -> None:
        """See Reporter."""


class RichReporter:
    """A bar with loss, metric and time left."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, status="starting")
        self._status = ""

    def note(self, text: str) -> None:
        """See Reporter."""
        self._bar.console.print(Text(text))

    def step(self, progress: RunProgress, loss: float, left_s: float | None) -> None:
        """See Reporter."""
        total = None if progress.length is None else progress.length.steps
        self._status = _status(progress, loss, left_s)
        self._bar.update(self._task, completed=progress.step, total=total, status=self._status)

    def checking(self, done: int, images: int, left_s: float) -> None:
        """See Reporter."""
        status = _checked(done, images, left_s) if done < images else "starting"
        self._bar.update(self._task, status=status)

    def validating(self, done: int, images: int) -> None:
        """See Reporter."""
        status = f"{self._status} | validating {done} of {images}"
        self._bar.update(self._task, status=status)


@contextmanager
def stderr_reporter() -> Iterator[Reporter]:
    """The reporter that suits stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainReporter()
        return
    columns: tuple[ProgressColumn, ...] = (BarColumn(bar_width=24), _Status())
    with Progress(*columns, console=console, transient=True) as bar:
        yield RichReporter(bar)


class _Status(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["status"]))


def _checked(done: int, images: int, left_s: float) -> str:
    return f"looks at the images: {done} of {images} | {duration(left_s)} left"


def _status(progress: RunProgress, loss: float, left_s: float | None) -> str:
    of = "" if progress.length is None else f" of {progress.length.steps}"
    parts = [f"step {progress.step}{of}", f"loss {loss:.3f}"]
    if progress.best_score >= 0:
        parts.append(f"best {progress.best_score:.3f} at {progress.best_step}")
    if left_s is not None:
        parts.append(f"{duration(left_s)} left")
    return " | ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
