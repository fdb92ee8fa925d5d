"""Proposals of a first stage: chosen by arithmetic of fixed shape, pooled from their levels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

_ROUNDS = 4  # of the suppression
_SMALLEST_PX = 1e-3  # side of a proposal, as torchvision has it
_SAMPLES = 2  # points a side and place that RoIAlign takes the mean of


def best_proposals(
    objectness: Tensor, xyxy: Tensor, *, count: int, most_iou: float
) -> tuple[Tensor, Tensor]:
    """The best boxes of each image, best first, none with a better one above `most_iou`.

    objectness [B, P] in 0..1, xyxy [B, P, 4]. Returns xyxy [B, count, 4] and objectness [B, count].
    Where an image has fewer, rows of objectness 0 fill the count. Suppression is Cluster NMS (Zheng
    et al. 2020, arXiv:2005.03572) of a fixed number of rounds among the best 2 x count boxes: the
    first round is Fast NMS (Bolya et al. 2019, YOLACT); each further one brings back what only a
    suppressed box had suppressed, so chains of that length come out as NMS has them.
    """
    has_area = (xyxy[..., 2:] - xyxy[..., :2] >= _SMALLEST_PX).all(dim=-1)
    # Padding, so that the smallest image has enough to choose from.
    score = nn.functional.pad(torch.where(has_area, objectness, 0.0), (0, 2 * count))
    boxes = nn.functional.pad(xyxy, (0, 0, 0, 2 * count))
    score, rank = score.topk(2 * count, dim=1)
    boxes = _rows(boxes, rank)
    better = torch.ones(2 * count, 2 * count, device=boxes.device).triu(diagonal=1)
    suppresses = (iou_within(boxes) > most_iou) * better
    kept = torch.ones_like(score)
    for _ in range(_ROUNDS):
        kept = 1 - (suppresses * kept[:, :, None]).amax(dim=1)
    score, rank = (score * kept).topk(count, dim=1)
    return _rows(boxes, rank), score


def iou_within(xyxy: Tensor) -> Tensor:
    """Intersection over union [B, K, K] of the boxes [B, K, 4] of an image with one another."""
    size = xyxy[..., 2:] - xyxy[..., :2]
    low = torch.maximum(xyxy[:, :, None, :2], xyxy[:, None, :, :2])
    high = torch.minimum(xyxy[:, :, None, 2:], xyxy[:, None, :, 2:])
    width, height = (high - low).clamp(min=0).unbind(dim=-1)
    area = size[..., 0] * size[..., 1]
    shared = width * height
    return shared / (area[:, :, None] + area[:, None, :] - shared).clamp(min=1e-9)


class PyramidRoIAlign(nn.Module):
    """Features of boxes, each from the finest level whose places it is sampled as densely as.

    torchvision's MultiScaleRoIAlign (RoIAlign: He et al. 2017, Mask R-CNN, arXiv:1703.06870) in
    arithmetic of fixed shape: a box is pooled from every level, and keeps its own level's. Pooled
    to 5 x 5 places of 2 x 2 samples each, stride 4 holds boxes of less than 40 px.
    """

    def __init__(self, strides: Sequence[int], places: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.places = places
        finest, coarsest = (round(math.log2(s)) for s in (strides[0], strides[-1]))
        self.level_of = LevelMapper(
            finest, coarsest, canonical_scale=places * strides[0], canonical_level=finest
        )

    def forward(self, maps: Sequence[Tensor], xyxy: Tensor, image: Tensor) -> Tensor:
        """[K, C, places, places] of boxes [K, 4] in pixels, each of the image of an index [K]."""
        boxes = torch.cat((image.to(xyxy.dtype)[:, None], xyxy), dim=1)
        level = self.level_of([xyxy])[:, None, None, None]
        pooled = [
            torch.where(
                level == i,
                roi_align(m.float(), boxes, self.places, 1 / stride, _SAMPLES),
                0.0,
            )
            for i, (m, stride) in enumerate(zip(maps, self.strides, strict=True))
        ]
        return torch.stack(pooled).sum(dim=0)


class CPUSampler(BalancedPositiveNegativeSampler):
    """torchvision's sampler, drawing on the CPU, whose generator a resumed training restores."""

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Masks of the positives and of the negatives that were drawn, of each image."""
        drawn = super().__call__([label.cpu() for label in labels])
        positive, negative = (
            [mask.to(label.device) for mask, label in zip(masks, labels, strict=True)]
            for masks in drawn
        )
        return positive, negative


def _rows(values: Tensor, rank: Tensor) -> Tensor:
    """Rows [B, K, 4] of values [B, P, 4]."""
    return values.gather(1, rank[:, :, None].expand(-1, -1, values.shape[2]))
