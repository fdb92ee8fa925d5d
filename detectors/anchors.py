"""Anchors: boxes of fixed shapes at every place of every level, which a head corrects."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator

from smallobj.boxes import InputError
from smallobj.detectors.base import Target
from smallobj.detectors.similarity import Similarity


class Anchors(nn.Module):
    """torchvision's anchors, fit for export: at every place each ratio in each side.

    Ratios are height to width; sides are the root of the area, in strides of the level; corners
    are whole pixels. Anchors are centred on the corner of a place, as torchvision has it: what a
    stack of padded convolutions sees is centred there.
    """

    def __init__(
        self, strides: Sequence[int], sides: Sequence[float], ratios: Sequence[float]
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.per_place = len(sides) * len(ratios)
        scaled = tuple(tuple(stride * side for side in sides) for stride in strides)
        cells = AnchorGenerator(scaled, (tuple(ratios),) * len(scaled)).cell_anchors
        # Not in the state: the config is where they are kept.
        self.register_buffer("cells", torch.stack(cells), persistent=False)

    cells: Tensor  # [levels, anchors a place, 4]

    def forward(self, image_size: tuple[int, int]) -> Tensor:
        """Anchors [P, 4] for an image of (height, width): level after level, row by row."""
        return torch.cat(self.by_level(image_size))

    def by_level(self, image_size: tuple[int, int]) -> list[Tensor]:
        """Anchors of each level."""
        return [
            self._of_level(cells, stride, image_size)
            for cells, stride in zip(self.cells, self.strides, strict=True)
        ]

    def _of_level(self, cells: Tensor, stride: int, image_size: tuple[int, int]) -> Tensor:
        height, width = image_size
        y = torch.arange(height // stride, device=cells.device, dtype=cells.dtype) * stride
        x = torch.arange(width // stride, device=cells.device, dtype=cells.dtype) * stride
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        places = torch.stack((columns, rows, columns, rows), dim=-1).flatten(0, 1)
        return (places[:, None] + cells).flatten(0, 1)


def matched(
    matcher: Matcher, similarity: Similarity, targets: Sequence[Target], anchors: Tensor
) -> list[Tensor]:
    """The box that each anchor [P, 4] shall learn, of each image: int64 [P].

    -1: none, it is background; below that: neither. A box beyond all anchors is learnt by none,
    though the matcher gives every box its best anchors, which may be like nothing at all.
    """
    background = torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    matches = []
    for target in targets:
        alike = similarity(target.xyxy, anchors)
        near = _amid(target.xyxy, anchors) & (alike.amax(dim=1) > 0)
        if not bool(near.any()):
            matches.append(background)
            continue
        alike, box = alike[near], near.nonzero()[:, 0]
        match = torch.where(alike.amax(dim=0) > 0, matcher(alike), background)
        matches.append(torch.where(match >= 0, box[match.clamp(min=0)], match))
    return matches


def _amid(xyxy: Tensor, anchors: Tensor) -> Tensor:
    """Which boxes [N, 4] touch the rectangle that holds all anchors, bool [N]."""
    low, high = anchors[:, :2].amin(dim=0), anchors[:, 2:].amax(dim=0)
    return ((xyxy[:, 2:] > low) & (xyxy[:, :2] < high)).all(dim=1)


def decoded(coder: BoxCoder, codes: Tensor, boxes: Tensor) -> Tensor:
    """Boxes [B, P, 4] of codes [B, P, 4] beside boxes [P, 4] or [B, P, 4]."""
    flat = coder.decode_single(codes.flatten(0, 1), boxes.expand_as(codes).flatten(0, 1))
    return flat.view(codes.shape)


def octave(steps: int) -> tuple[float, ...]:
    """Factors that divide a doubling into `steps` equal ones, from 1 up."""
    return tuple(math.pow(2, step / steps) for step in range(steps))


def check_ratios(field: str, ratios: Sequence[float]) -> None:
    """Raise InputError unless there are ratios, each a number of 1/10 to 10."""
    if not ratios or not all(isinstance(r, int | float) and 0.1 <= r <= 10 for r in ratios):
        raise InputError("numbers of 0.1 to 10 are wanted", field=field, value=ratios)
