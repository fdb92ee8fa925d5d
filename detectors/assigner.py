"""Assignment by what is predicted: a box is learnt at the places that class it and find it best.

Feng et al. 2021, "TOOD" (https://arxiv.org/abs/2108.07755), or Ge et al. 2021, "YOLOX"
(https://arxiv.org/abs/2107.08430), with candidates for small objects: not the places inside a box
alone, of which a box smaller than a stride may have none, but on every level also those nearest to
its centre.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from smallobj.detectors.base import Target

_WINDOW = 5  # places a side, round a box's centre, that a level offers


class Places(NamedTuple):
    """The places of all levels, finest level first, each row by row."""

    centre: Tensor  # float32 [P, 2], x and y in pixels
    stride: Tensor  # float32 [P, 1], pixels
    maps: tuple[tuple[int, int, int], ...]  # (height, width, stride) of each level


class Boxes(NamedTuple):
    """The true boxes of a batch, image after image."""

    xyxy: Tensor  # float32 [N, 4], pixels of the input
    label: Tensor  # int64 [N]
    image: Tensor  # int64 [N]


class Candidates(NamedTuple):
    """Places that may learn a box: K an object, of which some are none."""

    place: Tensor  # int64 [N, K]
    possible: Tensor  # bool [N, K]


class Assignment(NamedTuple):
    """Places that learn a box, each place of an image at most once."""

    box: Tensor  # int64 [M]
    place: Tensor  # int64 [M]
    quality: Tensor  # float32 [M], 0..1: what the class score is to become


@dataclass(frozen=True, kw_only=True)
class Assigner(ABC):
    """How places are dealt out: what all ways to do it share."""

    radius: float  # strides from a box's centre within which places are candidates in any case

    def candidates(self, boxes: Boxes, places: Places, image_size: tuple[int, int]) -> Candidates:
        """On each level the places about a box's centre, inside the box or within the radius."""
        limit = boxes.xyxy.new_tensor([image_size[1], image_size[0]])
        # A box may reach beyond the border: its centre is then taken to be at the border.
        centre = ((boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / 2).clamp(min=0).minimum(limit)
        reach = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]) / 2
        place, possible, first = [], [], 0
        for height, width, stride in places.maps:
            within = reach.clamp(min=self.radius * stride)
            column, fits_x = _window(centre[:, 0], within[:, 0], width, stride)
            row, fits_y = _window(centre[:, 1], within[:, 1], height, stride)
            place.append((first + row[:, :, None] * width + column[:, None]).flatten(1))
            possible.append((fits_y[:, :, None] & fits_x[:, None]).flatten(1))
            first += height * width
        return Candidates(torch.cat(place, dim=1), torch.cat(possible, dim=1))

    @abstractmethod
    def assign(
        self, image: Tensor, candidates: Candidates, score: Tensor, iou: Tensor
    ) -> Assignment:
        """The places that learn each box.

        image [N]; score of the box's class and IoU with the box at each candidate, both [N, K] in
        0..1. No box goes without while a place of its own is free.
        """


@dataclass(frozen=True, kw_only=True)
class TaskAlignedAssigner(Assigner):
    """By score ** alpha * IoU ** beta, the best `topk` of a box."""

    alpha: float
    beta: float
    topk: int

    def assign(
        self, image: Tensor, candidates: Candidates, score: Tensor, iou: Tensor
    ) -> Assignment:
        """See Assigner; a place that several boxes want goes to the one it overlaps most."""
        place, possible = candidates
        aligned = (score**self.alpha * iou**self.beta).masked_fill(~possible, -1)
        best = aligned.topk(min(self.topk, aligned.shape[1]), dim=1).indices
        wanted = torch.zeros_like(possible).scatter_(1, best, value=True) & possible
        mine = _dealt(image, candidates, wanted, worth=aligned, claim=iou)
        return self._graded(mine, place, aligned, iou)

    def _graded(self, mine: Tensor, place: Tensor, aligned: Tensor, iou: Tensor) -> Assignment:
        """TOOD's normalised quality: a box's best place is worth the best IoU of its places."""
        most = (aligned * mine).amax(dim=1, keepdim=True).clamp(min=1e-9)
        quality = aligned / most * (iou * mine).amax(dim=1, keepdim=True)
        return Assignment(mine.nonzero()[:, 0], place[mine], quality[mine].clamp(0, 1))


@dataclass(frozen=True, kw_only=True)
class SimOTAAssigner(Assigner):
    """By the least cost, of a box so many places as its best IoUs add up to.

    Ge et al. 2021, "YOLOX" (https://arxiv.org/abs/2107.08430). The cost is the cross-entropy of the
    box's class, without those of the other classes, and three times that of the IoU. Unlike there,
    where a box that loses all its places is not learnt, each is given its cheapest first.
    """

    overlap_weight: float = 3.0  # of the IoU's cost beside the class's 1
    counted: int = 10  # best IoUs whose sum, rounded down, is how many places learn a box

    def assign(
        self, image: Tensor, candidates: Candidates, score: Tensor, iou: Tensor
    ) -> Assignment:
        """See Assigner; a place that several boxes want goes to the one it costs least.

        A place's class score is to become its IoU with the box.
        """
        place, possible = candidates
        cost = -score.clamp(min=1e-8).log() - self.overlap_weight * iou.clamp(min=1e-8).log()
        cost = cost.masked_fill(~possible, torch.inf)
        best = (iou * possible).topk(min(self.counted, iou.shape[1]), dim=1).values
        count = best.sum(dim=1, keepdim=True).long().clamp(min=1)
        rank = cost.argsort(dim=1, stable=True).argsort(dim=1)
        mine = _dealt(image, candidates, (rank < count) & possible, worth=-cost, claim=-cost)
        return Assignment(mine.nonzero()[:, 0], place[mine], iou[mine].clamp(0, 1))


def places_of(strides: Sequence[int], image_size: tuple[int, int], device: torch.device) -> Places:
    """The places of levels of these strides for a batch of (height, width)."""
    maps = tuple((image_size[0] // s, image_size[1] // s, s) for s in strides)
    centres, all_strides = [], []
    for height, width, stride in maps:
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
        grid = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1)
        centres.append(grid.flatten(0, 1))
        all_strides.append(x.new_full((height * width, 1), stride))
    return Places(torch.cat(centres), torch.cat(all_strides), maps)


def boxes_of(targets: Sequence[Target]) -> Boxes:
    """The boxes of a batch's targets, image after image."""
    label = torch.cat([t.label for t in targets])
    counts = torch.tensor([len(t.label) for t in targets])
    image = torch.arange(len(targets)).repeat_interleave(counts).to(label.device)
    return Boxes(torch.cat([t.xyxy for t in targets]), label, image)


def _window(centre: Tensor, reach: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Rows or columns [N, _WINDOW] nearest to centres [N] (pixels), and which are within reach."""
    first = (centre / stride - _WINDOW / 2).round().long().clamp(0, max(0, length - _WINDOW))
    index = first[:, None] + torch.arange(_WINDOW, device=centre.device)
    distance = ((index + 0.5) * stride - centre[:, None]).abs()
    fits = (distance <= reach[:, None]) & (index < length)
    return index.clamp(max=length - 1), fits


def _dealt(
    image: Tensor, candidates: Candidates, wanted: Tensor, *, worth: Tensor, claim: Tensor
) -> Tensor:
    """Which candidates are whose, bool [N, K]: of an image each place is one box's at most.

    First each box is given the free place of most `worth` to it, so that none goes without while
    there is one; then each the `wanted` ones still free. Of several boxes a place goes to the one
    of the greatest `claim`.
    """
    place, possible = candidates
    # One number for an image and a place.
    spot = place + image[:, None] * (int(place.max()) + 1 if len(place) else 1)
    mine, free = torch.zeros_like(possible), possible
    while bool((hopes := free.any(dim=1) & ~mine.any(dim=1)).any()):
        first = worth.masked_fill(~free, -torch.inf).argmax(dim=1, keepdim=True)
        one = torch.zeros_like(free).scatter_(1, first, value=True) & hopes[:, None]
        mine |= _one_owner(spot, one, claim)
        free = possible & ~torch.isin(spot, spot[mine])
    return mine | _one_owner(spot, wanted & free, claim)


def _one_owner(spot: Tensor, wanted: Tensor, claim: Tensor) -> Tensor:
    """Which of the wanted [N, K] may stay, so that each spot has one box: the first of the best."""
    box, number = wanted.nonzero()[:, 0], spot[wanted]
    spots, number = number.unique(return_inverse=True)
    mine = claim[wanted]
    most = mine.new_full((len(spots),), -torch.inf).scatter_reduce_(0, number, mine, "amax")
    rank = torch.where(mine == most[number], box, len(spot))
    owner = rank.new_full((len(spots),), len(spot)).scatter_reduce_(0, number, rank, "amin")
    kept = wanted.clone()
    kept[wanted] = owner[number] == box
    return kept
