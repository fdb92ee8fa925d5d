"""The engine: batches through the detector, boxes back on their images, merged as they come."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smallobj.boxes import BoxTable, Classes, Images, InputError, Source
from smallobj.datasets import ImageSource
from smallobj.detectors import Detector
from smallobj.prediction.background import in_background
from smallobj.prediction.batching import BatchSizes
from smallobj.prediction.device import PRECISIONS, autocast
from smallobj.prediction.feeding import Batch, Failed, Feeding, Opened, cut, feed
from smallobj.prediction.forward import Forward
from smallobj.tta import MERGES, Boxes, View, distinct_looks, gather, merge_candidates

NMS_IOU = 0.5
MERGE = "wbf"
MAX_BOXES = 300
CANDIDATES = "candidates"
KEEPS = ("boxes", CANDIDATES)
_BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How images are looked at and what is kept. Raises InputError naming the field."""

    views: tuple[View, ...] = (View(),)
    batch_size: int | None = None  # patches a forward pass; None: found while predicting
    nms_iou: float = NMS_IOU  # of two boxes of a class that overlap more, one stays
    merge: str = MERGE  # how views become one answer, one of MERGES
    keep: str = "boxes"  # one of KEEPS; candidates: before suppression and merging, uncapped
    max_boxes: int = MAX_BOXES  # best boxes kept an image
    precision: str = "auto"  # one of PRECISIONS; auto: bf16 on a GPU that has it, else fp32
    max_megapixels: float = 400.0  # larger images are refused by their header

    def __post_init__(self) -> None:
        if not self.views:
            raise InputError("at least one view is needed", field="views")
        for name in ("batch_size", "max_boxes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError("must be at least 1", field=name, value=value)
        if not 0 < self.nms_iou <= 1:
            raise InputError("must lie in 0 to 1", field="nms_iou", value=self.nms_iou)
        if not self.max_megapixels > 0:
            raise InputError("must be above 0", field="max_megapixels", value=self.max_megapixels)
        for name, known in (("precision", PRECISIONS), ("merge", MERGES), ("keep", KEEPS)):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"must be one of {', '.join(known)}", field=name, value=value)


class Seen(NamedTuple):
    """What was found in one image, best first, or candidates by view; or why it is unreadable."""

    image: int  # position in the list of images
    width: int  # pixels, upright; 0 where it could not be read
    height: int
    boxes: Boxes
    error: InputError | None = None
    view: NDArray[np.int32] | None = None  # [K], of candidates: position of the view


def predict(
    detector: Detector,
    paths: Sequence[ImageSource],
    ids: Sequence[str],
    *,
    classes: Classes,
    views: Sequence[View] = (View(),),
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    nms_iou: float = NMS_IOU,
    max_boxes: int = MAX_BOXES,
    merge: str = MERGE,
    keep: str = "boxes",
    precision: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> BoxTable:
    """What a detector finds in the images at `paths`, in memory; rows of an image best first.

    keep="candidates": all boxes before suppression and merging, their views as sources.

    ids: one a path, different. device: the detector is moved there; None: it stays where it is.
    The detector's mode (training or not) is left as it was. on_progress(done, total) is called
    after every image. Raises InputError for an image that cannot be read, ValueError where ids or
    classes do not fit.
    """
    if len(ids) != len(paths):
        raise ValueError(f"{len(ids)} ids for {len(paths)} images")
    if len(classes) != detector.config.num_classes:
        raise ValueError(f"{len(classes)} classes for {detector.config.num_classes} of the model")
    if device is not None:
        detector.to(device)
    config = PredictConfig(
        views=tuple(views),
        batch_size=batch_size,
        nms_iou=nms_iou,
        max_boxes=max_boxes,
        merge=merge,
        keep=keep,
        precision=precision,
    )
    found: dict[int, Seen] = {}
    for seen in stream(detector, paths, config):
        if seen.error is not None:
            raise seen.error
        found[seen.image] = seen
        if on_progress is not None:
            on_progress(len(found), len(paths))
    sources = [Source("", view.name) for view in config.views] if keep == CANDIDATES else []
    return as_table([found[i] for i in range(len(paths))], ids, classes, sources)


def as_table(
    found: Sequence[Seen],
    ids: Sequence[str],
    classes: Classes,
    sources: Sequence[Source] = (),
) -> BoxTable:
    """A table of what was found in the images `ids`, in that order; sources: of candidates."""
    images = Images.of(ids, [(seen.width, seen.height) for seen in found])
    boxes = [Boxes.empty(), *(seen.boxes for seen in found)]
    counts = [len(seen.boxes.score) for seen in found]
    return BoxTable(
        images=images,
        classes=classes,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        xyxy=np.concatenate([b.xyxy for b in boxes]),
        label=np.concatenate([b.label for b in boxes]),
        score=np.concatenate([b.score for b in boxes]),
        source=_sources(found) if sources else None,
        sources=tuple(sources),
    )


def _sources(found: Sequence[Seen]) -> NDArray[np.int32]:
    views = [np.empty(0, np.int32)]
    for seen in found:
        assert seen.view is not None
        views.append(seen.view)
    return np.concatenate(views)


def stream(
    detector: Detector,
    paths: Iterable[ImageSource],
    config: PredictConfig,
    *,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[Seen]:
    """What is found in each image, as soon as all its patches were seen; memory stays flat.

    Images come about in their order. Close the generator (or exhaust it) to stop its threads.
    A batch for which memory does not suffice is halved, and so are those after it; on_note is told
    so once. Raises InputError where memory does not suffice for a single patch.
    """
    feeding = _feeding(detector, config)
    return _stream(detector, feed(paths, feeding), config, feeding.batches, on_note)


def stream_images(
    detector: Detector, images: Sequence[Tensor], config: PredictConfig
) -> Iterator[Seen]:
    """As `stream`, of upright images [3, H, W] uint8 that are in memory."""
    feeding = _feeding(detector, config)
    return _stream(detector, cut(enumerate(images), feeding), config, feeding.batches)


def _feeding(detector: Detector, config: PredictConfig) -> Feeding:
    gpu = detector.mean.device.type == "cuda"
    return Feeding(
        views=config.views,
        batches=BatchSizes(config.batch_size, gpu=gpu),
        stride=detector.stride,
        neutral=neutral_colour(detector),
        pinned=gpu,
        max_megapixels=config.max_megapixels,
    )


def _stream(
    detector: Detector,
    parts: Iterator[Opened | Failed | Batch],
    config: PredictConfig,
    batches: BatchSizes,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[Seen]:
    precision = autocast(detector.mean.device, config.precision)
    forward = Forward(detector, batches, precision, on_note)
    open_images: dict[int, _Open] = {}
    events = in_background(parts, ahead=_BATCHES_AHEAD)
    with evaluating(detector):
        try:
            for event in events:
                if isinstance(event, Failed):
                    yield Seen(event.image, 0, 0, Boxes.empty(), event.error)
                elif isinstance(event, Opened):
                    open_images[event.image] = _Open(event)
                else:
                    yield from _take(event, forward(event.images), open_images, config)
        finally:
            events.close()  # type: ignore[attr-defined]  # it is a generator
    assert not open_images


class _Open:
    """An image some of whose patches were not seen yet."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.found = [[Boxes.empty() for _ in patches] for patches in opened.looks]
        self.left = sum(map(len, opened.looks))

    def seen(self, config: PredictConfig) -> Seen:
        image, width, height, looks = self.opened
        candidates = gather(looks, self.found, width=width, height=height)
        if config.keep == CANDIDATES:
            of_look = np.array([*distinct_looks(config.views, width, height).values()], np.int32)
            return Seen(image, width, height, candidates.boxes, view=of_look[candidates.view])
        boxes = merge_candidates(
            looks,
            candidates,
            nms_iou=config.nms_iou,
            max_boxes=config.max_boxes,
            method=config.merge,
        )
        return Seen(image, width, height, boxes)


def _take(
    batch: Batch, found: list[Boxes], open_images: dict[int, _Open], config: PredictConfig
) -> Iterator[Seen]:
    for place, boxes in zip(batch.places, found, strict=True):
        image = open_images[place.image]
        image.found[place.view][place.patch] = boxes
        image.left -= 1
        if not image.left:
            yield open_images.pop(place.image).seen(config)


def neutral_colour(detector: Detector) -> tuple[int, int, int]:
    """The mean of the detector's training images, which it normalises to about nothing; RGB."""
    red, green, blue = (int(v) for v in detector.mean.flatten().round().tolist())
    return red, green, blue


@contextmanager
def evaluating(detector: Detector) -> Iterator[None]:
    """A detector in evaluation mode, and back in what it was in."""
    modes = [(module, module.training) for module in detector.modules()]
    detector.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
