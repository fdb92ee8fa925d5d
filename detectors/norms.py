"""Group norm in the place of batch norm: for batches too small to tell a mean."""

import math

from timm.layers import BatchNormAct2d
from torch import nn

NORMS = ("batch", "group")
_CHANNELS_A_GROUP = 8  # as 32 groups of 256 channels have (Wu, He 2018, arXiv:1803.08494)


def with_group_norm(module: nn.Module) -> None:
    """Put group norms where a module holds batch norms, with their weights, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _grouped(child))
        else:
            with_group_norm(child)


def _grouped(norm: nn.BatchNorm2d) -> nn.Module:
    channels = norm.num_features
    groups = channels // math.gcd(channels, _CHANNELS_A_GROUP)
    group = nn.GroupNorm(groups, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        group.load_state_dict({"weight": norm.weight.detach(), "bias": norm.bias.detach()})
    if isinstance(norm, BatchNormAct2d):  # timm's, with what follows it in one
        return nn.Sequential(group, norm.drop, norm.act)
    return group
