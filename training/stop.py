"""Ctrl-C and a cluster's SIGTERM end a run between two steps; a second one at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818  # it is no error
    """The user ended the run; what was learnt is kept and it can be resumed."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number  # what a shell expects of a command that a signal ended
        super().__init__("interrupted")


class StopRequest:
    """Whether somebody wants the run to end. Signals reach the main thread alone."""

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us

    def raise_if_asked(self) -> None:
        """Raise Interrupted where a signal came."""
        if self._number:
            raise Interrupted(self._number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._number:
            raise KeyboardInterrupt
        self._number = number
