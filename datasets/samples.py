"""What a detector learns from: crops at native scale, or whole images squashed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from smallobj.boxes import BoxTable
from smallobj.datasets.cache import ImageCache
from smallobj.datasets.config import CropConfig
from smallobj.datasets.crops import Crop, Crops
from smallobj.datasets.squash import Squashed


class Samples(Protocol):
    """Samples in epochs without end, each a function of (seed, epoch, index, config) alone."""

    def __len__(self) -> int:
        """Samples an epoch; 0 where there is nothing to learn."""
        ...

    def crop(self, epoch: int, index: int, config: CropConfig | None = None) -> Crop:
        """Sample `index` of an epoch; raises InputError where its image cannot be read.

        config: of the phase that the run is in, None: the one these samples were made with. The
        order of an epoch does not depend on it.
        """
        ...

    def share_memory(self, processes: int) -> None:
        """Be one of so many copies in processes of their own, see `ImageCache.share_memory`."""
        ...


def samples_of(
    table: BoxTable,
    paths: Sequence[Path],
    config: CropConfig,
    *,
    seed: int,
    cache: ImageCache,
    pad: tuple[int, int, int],
) -> Samples:
    """The samples that `config.input` names; see `Crops` and `Squashed` for what they take."""
    if config.input == "squash":
        return Squashed(table, paths, config, seed=seed, cache=cache)
    return Crops(table, paths, config, seed=seed, cache=cache, pad=pad)
