"""What a forward pass reads and writes: memory traffic decides speed as much as arithmetic does."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one forward pass does, counted operator by operator (torch's ATen operators).

    An operator reads every tensor handed to it once and writes every tensor it returns once. A view
    (reshape, slice, expand) moves nothing. What happens inside an operator, its workspace and what
    stays in a cache, is not seen; nor is that a compiler may fuse operators.
    """

    operators: int  # that read or write; views are left out
    flops: int  # of convolutions, matrix products and attention; the rest is small beside them
    weights_read: int  # bytes of parameters and buffers
    activations_read: int  # bytes of all other tensors, the input too
    activations_written: int  # bytes
    peak_activations: int  # bytes of what a pass makes and still needs, at its worst moment

    @property
    def macs(self) -> int:
        """Multiplications with their additions: half the FLOPs."""
        return self.flops // 2

    @property
    def moved(self) -> int:
        """Bytes read and written in all."""
        return self.weights_read + self.activations_read + self.activations_written


def count_traffic(model: nn.Module, images: Tensor) -> Traffic:
    """Count what `model(images)` does, without gradients; the pass is done once."""
    counting = _Counting([*model.parameters(), *model.buffers()])
    with torch.no_grad(), FlopCounterMode(display=False) as flops, counting as counted:
        model(images)
    return Traffic(
        operators=counted.operators,
        flops=flops.get_total_flops(),
        weights_read=counted.weights_read,
        activations_read=counted.activations_read,
        activations_written=counted.written,
        peak_activations=counted.peak,
    )


class _Counting(TorchDispatchMode):
    """Sees every operator below autograd, with the tensors it takes and returns."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self._weights = {_storage(weight) for weight in weights}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}  # made in the pass
        self.operators = self.weights_read = self.activations_read = 0
        self.written = self.peak = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = list(_tensors((args, kwargs))), list(_tensors(result))
        if not _is_view(func) and (given or made):
            self._count(given, made)
        self._track(made, {_storage(tensor) for tensor in given})
        return result

    def _count(self, given: list[Tensor], made: list[Tensor]) -> None:
        self.operators += 1
        for tensor in given:
            if _storage(tensor) in self._weights:
                self.weights_read += _bytes(tensor)
            else:
                self.activations_read += _bytes(tensor)
        self.written += sum(map(_bytes, made))

    def _track(self, made: list[Tensor], old: set[int]) -> None:
        """Keep account of which memory made in the pass is still held."""
        for tensor in made:
            storage = tensor.untyped_storage()
            key = _storage(tensor)
            if key not in old and key not in self._weights:
                self._live[key] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {key: held for key, held in self._live.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))


def _is_view(func: Any) -> bool:
    """Whether an operator only looks at its input's memory in another way."""
    return func.is_view or func in _SHARING


_SHARING: frozenset[Callable[..., Any]] = frozenset(
    {torch.ops.aten.detach.default, torch.ops.aten._unsafe_view.default}
)


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    """Bytes of the elements that there are: an expanded tensor's are in memory once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
