"""How far a step of tuning is."""

from collections.abc import Callable

Tell = Callable[[str, int, int], None]  # name of the step, candidates scored, and of how many


class Progress:
    """Counts what was scored in a step, from any thread."""

    def __init__(self, tell: Tell | None) -> None:
        self._tell = tell
        self._name, self._done, self._total = "", 0, 0

    def begin(self, name: str) -> None:
        """A step begins."""
        self._name, self._done, self._total = name, 0, 0

    def expect(self, more: int) -> None:
        """So many more are to be scored."""
        self._total += more
        self.count(0)

    def count(self, more: int) -> None:
        """So many more are scored."""
        self._done += more
        if self._tell is not None and self._total:
            self._tell(self._name, min(self._done, self._total), self._total)
