"""A network's kernels recorded once, as CUDA graphs, and then started together.

A step of a small detector has some two thousand kernels, which a processor takes three times as
long to start as a GPU to run (yolo n, 16 crops of 640 px, H100: `docs/training.md`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from smallobj.detectors import Detector
from smallobj.prediction import autocast, out_of_memory
from smallobj.training.optimise import GoodBuffers

Network = Callable[[Tensor], dict[str, Tensor]]


def record_network(detector: Detector, precision: str, tell: Callable[[str], None]) -> None:
    """Let a detector on a GPU record its network, for each shape of batch, when first asked.

    It trains as before, forward and backward. Nothing is done for a detector whose network sees
    the targets: what it computes differs from step to step. Where a network cannot be recorded
    that is told and it goes on as it is.
    """
    if type(detector).training_losses is Detector.training_losses:
        # It is about streams that differ, as those of recording and of training are to.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        detector.network = _Recorded(detector, precision, tell)  # type: ignore[method-assign]


class _Recorded:
    def __init__(self, detector: Detector, precision: str, tell: Callable[[str], None]) -> None:
        self._detector, self._precision, self._tell = detector, precision, tell
        self._plain: Network = detector.network
        self._of_shape: dict[torch.Size, Network] = {}

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        if not (self._detector.training and torch.is_grad_enabled()):
            return self._plain(x)
        if x.shape not in self._of_shape:
            self._of_shape[x.shape] = self._record(x)
        return self._of_shape[x.shape](x)

    def _record(self, x: Tensor) -> Network:
        buffers = GoodBuffers(self._detector)  # recording runs the network a few times
        network = _Network(self._detector, self._plain)
        try:
            with _fastest_convolutions(), autocast(x.device, self._precision, cached=False):
                torch.cuda.make_graphed_callables(network, (x,), allow_unused_input=True)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._tell(f"the network's kernels cannot be recorded: {str(error).splitlines()[0]}")
            return self._plain
        finally:
            buffers.restore()
        return network


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN try which algorithm is fastest, as what is recorded is run many times."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class _Network(nn.Module):
    """A detector's network as a module of its own, which is what is recorded."""

    def __init__(self, detector: Detector, network: Network) -> None:
        super().__init__()
        self.detector, self._network = detector, network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self._network(x)
