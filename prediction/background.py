"""An iterator that runs ahead of its reader in a thread of its own."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from smallobj.datasets import compute_alone, own_threads

Item = TypeVar("Item")

_PATIENCE_S = 0.1  # how soon the thread notices that nobody reads any more


class _Given(NamedTuple, Generic[Item]):
    item: Item


class _Ended(NamedTuple):
    error: BaseException | None


def in_background(items: Iterable[Item], *, ahead: int) -> Iterator[Item]:
    """The items in their order, made in another thread, at most `ahead` of them waiting.

    Torch has no threads beside that one in the making. An error in the making is raised here. The
    thread has ended when this generator is closed.
    """
    ready: queue.Queue[_Given[Item] | _Ended] = queue.Queue(ahead)
    abandoned = threading.Event()

    def put(message: _Given[Item] | _Ended) -> bool:
        while not abandoned.is_set():
            try:
                ready.put(message, timeout=_PATIENCE_S)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        compute_alone()
        error: BaseException | None = None
        try:
            for item in items:
                if not put(_Given(item)):
                    return
        except BaseException as caught:
            error = caught
        put(_Ended(error))

    thread = threading.Thread(target=work, name="smallobj-feeding", daemon=True)
    with own_threads():
        thread.start()
        try:
            while isinstance(message := ready.get(), _Given):
                yield message.item
            if message.error is not None:
                raise message.error
        finally:
            abandoned.set()
            thread.join()
