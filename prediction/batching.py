"""How many patches go through the network together: as said, or found while predicting."""

import torch

_CPU_PIXELS = 1 << 20  # a batch: more gains nothing there and takes memory
_CPU_MOST = 8
_GPU_START = 8
_GPU_MOST = 256
_PAYS = 1.05  # times the patches a second, or a larger batch is not kept
_TIMED = 2  # full batches of a length: the first one warms up

Size = tuple[int, int]  # height and width of the padded patches, in pixels


class BatchSizes:
    """The length of the next batch, by the size of its patches.

    wanted: a fixed length; None: found. On a CPU it goes by pixels, 8 patches at most; on a GPU it
    doubles as long as that brings a twentieth more patches a second. Where memory did not suffice,
    no batch has more pixels than half of the one that failed, fixed or not. The engine tells what
    happened from one thread; `of` may be asked from another.
    """

    def __init__(self, wanted: int | None, *, gpu: bool) -> None:
        self._wanted, self._gpu = wanted, gpu
        self.largest = wanted or max(_CPU_MOST, _GPU_START)  # the longest so far, of any size
        self._length: dict[Size, int] = {}  # on a GPU, as found so far
        self._rate: dict[tuple[Size, int], float] = {}  # best patches a second
        self._timed: dict[tuple[Size, int], int] = {}
        self._settled: set[Size] = set()
        self._most_pixels: int | None = None  # where memory did not suffice for more

    def of(self, size: Size) -> int:
        """How many patches of a size the next batch holds, at least 1."""
        pixels = size[0] * size[1]
        if self._wanted is not None:
            length = self._wanted
        elif self._gpu:
            length = self._length.get(size, _GPU_START)
        else:
            length = min(_CPU_MOST, _CPU_PIXELS // pixels)
        if self._most_pixels is not None:
            length = min(length, self._most_pixels // pixels)
        return max(1, length)

    def took(self, size: Size, length: int, seconds: float) -> None:
        """Take note of a batch that went through; on a GPU the next one may be longer."""
        if self._wanted is not None or not self._gpu or size in self._settled:
            return
        if length != self.of(size):  # the last one of its images, say
            return
        key = (size, length)
        self._timed[key] = self._timed.get(key, 0) + 1
        if self._timed[key] < _TIMED:
            return
        self._rate[key] = max(self._rate.get(key, 0.0), length / seconds)
        before = self._rate.get((size, length // 2))
        if before is not None and self._rate[key] < _PAYS * before:
            self._length[size] = length // 2
            self._settled.add(size)
        elif 2 * length > _GPU_MOST or not self._fits(size, 2 * length):
            self._settled.add(size)
        else:
            self._length[size] = 2 * length
            self.largest = max(self.largest, 2 * length)

    def failed(self, size: Size, length: int) -> None:
        """Take note that memory did not suffice for a batch: half of its pixels may."""
        half = max(1, length // 2) * size[0] * size[1]
        self._most_pixels = half if self._most_pixels is None else min(half, self._most_pixels)
        if self._gpu and self._wanted is None:
            self._length[size] = max(1, length // 2)
            self._settled.add(size)

    def _fits(self, size: Size, length: int) -> bool:
        most = self._most_pixels
        return most is None or length * size[0] * size[1] <= most


def out_of_memory(error: BaseException) -> bool:
    """Whether torch says that memory does not suffice; of a CPU that is a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        part in text for part in ("not enough memory", "can't allocate memory")
    )
