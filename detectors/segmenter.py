"""Detectors that tell the class of every pixel besides their boxes."""

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from smallobj.detectors.base import Detector


class Segmenter(Detector):
    """A detector that segments too: validation scores its pixels as well as its boxes."""

    @abstractmethod
    def class_map(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """The class of every pixel, int64 [B, H, W]: 0 to C - 1, and C for the background.

        raw: what `forward` returned without targets; image_size: the batch's (height, width).
        """
