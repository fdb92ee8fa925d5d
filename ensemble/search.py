"""Searching the space of settings with Optuna's TPE, alone or with several machines."""

from collections.abc import Sequence
from dataclasses import dataclass

from smallobj.ensemble.config import FusionConfig
from smallobj.ensemble.steps import Pool, Start


@dataclass(frozen=True, kw_only=True)
class Search:
    """How long to search, and where the trials are kept."""

    trials: int  # of every fit, in all
    storage: str | None = None  # URL of a database that machines share; None: in memory
    study: str = "smallobj"  # its name there

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"at least one trial is needed, not {self.trials}")


def search_pools(start: Start, search: Search, simple: Sequence[FusionConfig]) -> list[Pool]:
    """For every fit the settings its own study tried, on its own images."""
    raise NotImplementedError
