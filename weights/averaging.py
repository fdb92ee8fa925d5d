"""The mean of the weights of several models of one architecture.

Stochastic weight averaging (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407) of what late
checkpoints, or runs that began from the same weights, came to.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.weights.manifest import Manifest

# What has to be the same, so that one detector can stand for all and be looked with alike.
_ALIKE = (
    "arch",
    "backbone",
    "config",
    "classes",
    "mean",
    "std",
    "input",
    "symmetry",
    "train_crop_px",
    "dtype",
)


class MeanState:
    """Sums tensors by name in float64, one model after the other."""

    def __init__(self) -> None:
        self.count = 0
        self.same: set[str] = set()  # tensors that are equal in all models
        self._first: dict[str, Tensor] = {}
        self._sum: dict[str, Tensor] = {}

    def add(self, state: Mapping[str, Tensor], *, file: object = None) -> None:
        """Take the tensors of a model; raises InputError where names or shapes differ."""
        if not self.count:
            self._first = {name: tensor.detach().cpu() for name, tensor in state.items()}
            self._sum = {n: t.double() for n, t in self._first.items() if t.is_floating_point()}
            self.same = set(self._first)
        else:
            self._check(state, file)
            for name, total in self._sum.items():
                total.add_(state[name].cpu())
            self.same = {n for n in self.same if torch.equal(self._first[n], state[n].cpu())}
        self.count += 1

    def mean(self) -> dict[str, Tensor]:
        """The mean in the type of each tensor; of whole numbers those of the first model."""
        means = {n: (t / self.count).to(self._first[n].dtype) for n, t in self._sum.items()}
        return {name: means.get(name, tensor) for name, tensor in self._first.items()}

    def _check(self, state: Mapping[str, Tensor], file: object) -> None:
        for name in self._first.keys() ^ state.keys():
            raise InputError("tensor is not in all of the models", file=file, item=name)
        for name, tensor in self._first.items():
            if state[name].shape != tensor.shape:
                raise InputError(
                    f"tensor must have shape {list(tensor.shape)}",
                    file=file,
                    item=name,
                    value=list(state[name].shape),
                )


def check_alike(manifests: Sequence[Manifest], files: Sequence[object]) -> None:
    """Raise InputError, naming what differs, where models are not of one kind."""
    first = manifests[0].as_dict()
    for manifest, file in zip(manifests[1:], files[1:], strict=True):
        other = manifest.as_dict()
        for name in _ALIKE:
            if other[name] != first[name]:
                field, mine, theirs = _difference(name, first[name], other[name])
                raise InputError(
                    f"differs from {files[0]}, which has {mine}: their mean is no model",
                    file=file,
                    field=field,
                    value=theirs,
                )


def origin_of_mean(manifests: Sequence[Manifest]) -> str:
    """Which models were averaged, and what each began from."""
    origins = list(dict.fromkeys(manifest.origin for manifest in manifests))
    if len(origins) == 1:
        return f"mean of {', '.join(manifest.id for manifest in manifests)} ({origins[0]})"
    return f"mean of {', '.join(f'{manifest.id} ({manifest.origin})' for manifest in manifests)}"


def _difference(name: str, mine: object, theirs: object) -> tuple[str, object, object]:
    """The field that differs and its two values; of a table the first entry that does."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in [*mine, *theirs]:
            if mine.get(key) != theirs.get(key):
                return f"{name}.{key}", mine.get(key), theirs.get(key)
    return name, mine, theirs
