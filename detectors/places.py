"""The places of all levels of a pyramid: told apart, given a first box, the best of them chosen."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smallobj.detectors.layers import prior_bias

PRIOR = 0.01  # score of every place and query at the start
_LARGEST_ANCHOR = 0.95  # of the image; a side of 1 has no logit
_LONGEST_WAVE = 10_000.0  # of positions, in places over 2 pi (Vaswani et al. 2017)


class Queries(NamedTuple):
    """The places of a batch that the decoder starts from, in the order of the places."""

    features: Tensor  # [B, Q, width]
    logits: Tensor  # [B, Q, C]
    boxes: Tensor  # [B, Q, 4] logits of centre, width and height in parts of the image


class Positions(nn.Module):
    """Waves that tell the places of a map apart, of any size, in an exported graph too."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        waves = channels // 4
        frequencies = _LONGEST_WAVE ** -(torch.arange(waves) / waves)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(
        self, *, width: int, height: int, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        """Of the places row by row [1, height * width, channels]: rows, then columns."""
        y = torch.arange(height, device=device)[:, None] * self.frequencies
        x = torch.arange(width, device=device)[:, None] * self.frequencies
        y, x = y[:, None].expand(-1, width, -1), x.expand(height, -1, -1)
        waves = torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=2)
        return waves.flatten(0, 1)[None].to(dtype)


class Selection(nn.Module):
    """The places that look most like an object, each with a first box."""

    def __init__(self, width: int, num_classes: int, queries: int, box: Any) -> None:
        """box: a module whose `layers` lead from features [..., width] to [..., 4]."""
        super().__init__()
        self.queries = queries
        self.mix = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.score = nn.Linear(width, num_classes)
        nn.init.constant_(self.score.bias, prior_bias(PRIOR))
        self.box = box
        nn.init.zeros_(self.box.layers[-1].weight)
        nn.init.zeros_(self.box.layers[-1].bias)

    def forward(self, memory: Tensor, anchors: Tensor) -> Queries:
        """Of features [B, P, width] and logits of anchors [1, P, 4] of all places."""
        features = self.mix(memory)
        logits, boxes = self.score(features), self.box(features) + anchors
        best = logits.max(dim=2).values
        # A small image has fewer places than queries: then the last place is asked again.
        padded = F.pad(best.float(), (0, self.queries), value=float("-inf"))
        # In order of the places, which nearly equal scores do not change.
        place = padded.topk(self.queries, dim=1).indices.sort(dim=1).values
        place = place.clamp(max=best.shape[1] - 1).unsqueeze(2)
        # Not take_along_dim, which an export would hold to one size of batch.
        return Queries(
            *(t.gather(1, place.expand(-1, -1, t.shape[2])) for t in (features, logits, boxes))
        )


def anchors(maps: Sequence[Tensor], strides_wide: float) -> Tensor:
    """Logits [1, P, 4] of centre x, y, width and height of every place, in parts of the image.

    maps [B, C, h, w], finest first; an anchor is `strides_wide` strides of its level wide.
    """
    levels = []
    for level in maps:
        height, width = level.shape[-2:]
        x = (torch.arange(width, device=level.device, dtype=torch.float32) + 0.5) / width
        y = (torch.arange(height, device=level.device, dtype=torch.float32) + 0.5) / height
        x, y = x.expand(height, width), y[:, None].expand(height, width)
        sides = [torch.full_like(x, strides_wide) / n for n in (width, height)]
        box = torch.stack([x, y, *(side.clamp(max=_LARGEST_ANCHOR) for side in sides)], dim=-1)
        levels.append(box.flatten(0, 1))
    return torch.cat(levels).logit()[None]
