"""What a model costs: parameters, megabytes, arithmetic, memory traffic, time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from smallobj.boxes import InputError
from smallobj.datasets import ImageSource
from smallobj.detectors import Detector
from smallobj.prediction.batching import out_of_memory
from smallobj.prediction.device import autocast, choose_precision
from smallobj.prediction.engine import PredictConfig, stream
from smallobj.prediction.latency import Latency, measure_latency, threads_of
from smallobj.prediction.traffic import Traffic, count_traffic
from smallobj.weights import DTYPES
from smallobj.weights.checkpoint import cast_weights, packed

MB = 1_000_000  # bytes, as contests and disks count
_MOST_PIXELS = 1e9  # of a batch; more is a slip of the finger


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """What is measured. Raises InputError naming the field."""

    batches: tuple[int, ...] = (1,)  # images a pass
    sizes: tuple[int, ...] = (640,)  # sides of square images, rounded up to the model's stride
    warm_up: int = 3  # passes that are not counted
    repeats: int = 20
    precision: str = "auto"  # see choose_precision
    threads: int | None = None  # of the CPU; None: as many as torch uses

    def __post_init__(self) -> None:
        for name in ("batches", "sizes"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise InputError("numbers from 1 are wanted", field=name, value=values)
        if max(self.batches) * max(self.sizes) ** 2 > _MOST_PIXELS:
            raise InputError(
                "is more than a billion pixels a batch", field="sizes", value=self.sizes
            )
        for name, least in (("warm_up", 0), ("repeats", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"must be at least {least}", field=name, value=value)


class Point(NamedTuple):
    """One batch of one size."""

    batch: int
    size: int  # side in pixels
    traffic: Traffic
    latency: Latency
    device_peak: int | None  # bytes that the GPU's allocator held, weights too; None on a CPU


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """Images predicted from file to boxes, by the engine that `predict` uses."""

    images: int
    megapixels: float
    boxes: int
    unread: int  # images that could not be read
    seconds: float

    @property
    def images_a_second(self) -> float:
        """Images from file to boxes."""
        return self.images / self.seconds


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a model costs."""

    parameters: int
    weight_bytes: dict[str, int]  # size of weights.safetensors by stored precision
    device: str
    precision: str
    threads: int
    points: tuple[Point, ...]
    end_to_end: EndToEnd | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; bytes as bytes, times in milliseconds."""
        points = [
            {
                "batch": point.batch,
                "size": point.size,
                **asdict(point.traffic),
                "macs": point.traffic.macs,
                "moved": point.traffic.moved,
                **asdict(point.latency),
                "images_a_second": point.latency.images_a_second,
                "device_peak": point.device_peak,
            }
            for point in self.points
        ]
        plain = {**asdict(self), "points": points}
        if self.end_to_end is not None:
            plain["end_to_end"]["images_a_second"] = self.end_to_end.images_a_second
        return plain


def weight_sizes(detector: Detector) -> dict[str, int]:
    """Bytes of weights.safetensors by stored precision, fp32, fp16 and bf16.

    As `save_weights` would write it: header and metadata too; whole numbers stay as they are.
    """
    state = detector.state_dict()
    return {name: len(packed(cast_weights(state, name))) for name in DTYPES}


def profile_detector(
    detector: Detector,
    config: ProfileConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Count and time a detector where it stands, on random images.

    It is laid out channels last, as `predict` does, and left in evaluation mode. The counting pass
    runs in the same precision, on the same device, as the timed ones. on_progress(done, total)
    counts the combinations of batch and size. Raises InputError where memory does not suffice.
    """
    device = detector.mean.device
    precision = choose_precision(device, config.precision)
    detector.eval().to(memory_format=torch.channels_last)
    sizes = weight_sizes(detector)
    wanted = [(batch, size) for size in config.sizes for batch in config.batches]
    points = []
    with threads_of(config.threads) as threads:
        for done, (batch, size) in enumerate(wanted, 1):
            points.append(_point(detector, batch, size, precision, config))
            if on_progress is not None:
                on_progress(done, len(wanted))
    return Profile(
        parameters=sum(weight.numel() for weight in detector.parameters()),
        weight_bytes=sizes,
        device=_device_name(device),
        precision=precision,
        threads=threads,
        points=tuple(points),
    )


def _point(
    detector: Detector, batch: int, size: int, precision: str, config: ProfileConfig
) -> Point:
    side = -(-size // detector.stride) * detector.stride
    device = detector.mean.device
    cuda = device.type == "cuda"
    random = torch.Generator().manual_seed(0)
    try:
        pixels = torch.randint(0, 256, (batch, 3, side, side), generator=random, dtype=torch.uint8)
        images = pixels.to(device)
        with autocast(device, precision):
            traffic = count_traffic(detector, images)
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        latency = measure_latency(
            detector, images, precision=precision, warm_up=config.warm_up, repeats=config.repeats
        )
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        reason = "memory does not suffice: try smaller batches or sizes"
        raise InputError(reason, field="batch and size", value=f"{batch} x {side} px") from error
    peak = torch.cuda.max_memory_allocated(device) if cuda else None
    return Point(batch, side, traffic, latency, peak)


def measure_end_to_end(
    detector: Detector,
    sources: Sequence[ImageSource],
    config: PredictConfig,
    *,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EndToEnd:
    """Predict images from files to boxes, and time all of it; the first image is seen once before.

    Raises InputError where none of them can be read.
    """
    images, boxes, unread, pixels = 0, 0, 0, 0.0
    with threads_of(threads):
        for _ in stream(detector, sources[:1], config):
            pass
        begun = time.perf_counter()
        for done, seen in enumerate(stream(detector, _each(sources), config), 1):
            if seen.error is not None:
                unread += 1
            else:
                images, boxes = images + 1, boxes + len(seen.boxes.score)
                pixels += float(seen.width) * seen.height
            if on_progress is not None:
                on_progress(done, len(sources))
        seconds = time.perf_counter() - begun
    if not images:
        raise InputError(f"none of the {unread} images can be read")
    return EndToEnd(
        images=images, megapixels=pixels / 1e6, boxes=boxes, unread=unread, seconds=seconds
    )


def _each(sources: Sequence[ImageSource]) -> Iterator[ImageSource]:
    return (sources[i] for i in range(len(sources)))


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
