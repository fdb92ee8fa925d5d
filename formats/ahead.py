"""Work that goes on in a thread beside the caller's, a bounded number of parts ahead or behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Part = TypeVar("Part")

_POLL_SECONDS = 0.1  # how soon a thread that waits for room sees that it is to stop


class _End(Generic[Part]):
    """What stands in a queue after the last part: the error that ended it, if one did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def made_ahead(parts: Iterator[Part], most: int) -> Iterator[Iterator[Part]]:
    """Yield the parts in order, made in a thread of their own, at most `most` of them waiting.

    An error of `parts` is raised where its part would have come.
    """
    queue: Queue[Part | _End] = Queue(most)
    stop = Event()

    def work() -> None:
        error = None
        try:
            for part in parts:
                if not _put(queue, part, stop):
                    return
        except BaseException as raised:
            error = raised
        _put(queue, _End(error), stop)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield _taken(queue)
    finally:
        stop.set()
        thread.join()


@contextmanager
def done_behind(work: Callable[[Part], object], most: int) -> Iterator[Callable[[Part], None]]:
    """Yield a function that hands a part to `work` in a thread, in order; waits while `most` wait.

    All parts are done when the block ends. An error of `work` is raised by the next call or at the
    end; where the block ends by an error, parts still waiting are left out.
    """
    queue: Queue[Part | _End] = Queue(most)
    failed: list[BaseException] = []
    stop = Event()

    def run() -> None:
        try:
            for part in _taken(queue):
                if not stop.is_set():
                    work(part)
        except BaseException as raised:
            failed.append(raised)
            stop.set()

    def hand_over(part: Part) -> None:
        if not _put(queue, part, stop):
            raise failed[0]

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield hand_over
        _put(queue, _End(), stop)
    except BaseException:
        stop.set()
        _clear(queue)
        queue.put(_End())
        raise
    finally:
        thread.join()
    if failed:
        raise failed[0]


def _put(queue: Queue, part: object, stop: Event) -> bool:
    """Whether there was room before the work was stopped."""
    while not stop.is_set():
        try:
            queue.put(part, timeout=_POLL_SECONDS)
        except Full:
            continue
        return True
    return False


def _taken(queue: Queue) -> Iterator:
    while True:
        part = queue.get()
        if isinstance(part, _End):
            if part.error is not None:
                raise part.error
            return
        yield part
        del part  # or it would live while the next one is waited for


def _clear(queue: Queue) -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass
