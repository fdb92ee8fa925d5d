"""A batch of patches through the network and back as boxes; in halves where memory is short."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.detectors import Detector
from smallobj.prediction.batching import BatchSizes, out_of_memory
from smallobj.tta import Boxes


class Forward:
    """Runs batches, tells `batches` how long each took, and which of them memory did not hold.

    on_note is told of the first such batch.
    """

    def __init__(
        self,
        detector: Detector,
        batches: BatchSizes,
        precision: AbstractContextManager[object],
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self._detector, self._batches, self._precision = detector, batches, precision
        self._on_note = on_note

    def __call__(self, images: Tensor) -> list[Boxes]:
        """What is found in each patch of a batch uint8 [B, 3, H, W], in pixels of the patch.

        Raises InputError where memory does not suffice for a single patch.
        """
        length, height, width = len(images), images.shape[2], images.shape[3]
        begun = time.perf_counter()
        found = self._tried(images)
        if found is not None:
            self._batches.took((height, width), length, time.perf_counter() - begun)
            return found
        if length == 1:
            raise InputError(
                "memory does not suffice for a single patch: cut smaller ones (--tile)",
                value=f"{width} x {height} px",
            )
        self._batches.failed((height, width), length)
        if self._detector.mean.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._on_note is not None:
            self._on_note(
                f"memory does not suffice for {length} patches of {width} x {height} px at a time:"
                " going on with half as many"
            )
            self._on_note = None
        middle = length // 2
        return self(images[:middle]) + self(images[middle:])

    def _tried(self, images: Tensor) -> list[Boxes] | None:
        """None where memory does not suffice; what the attempt held is free again then."""
        try:
            return self._run(images)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _run(self, patches: Tensor) -> list[Boxes]:
        detector = self._detector
        with torch.inference_mode():
            images = patches.to(detector.mean.device, non_blocking=True)
            with self._precision:
                raw = detector(images)
            height, width = patches.shape[2:]
            candidates = detector.decode(raw, (height, width))
            counts = [len(c.score) for c in candidates]
            # one transfer a batch: each one waits for the device
            xyxy, score, label = (
                torch.cat(column).double() for column in zip(*candidates, strict=True)
            )
            rows = torch.column_stack([xyxy, score, label]).cpu().numpy()
        return [
            Boxes(part[:, :4], part[:, 4].copy(), part[:, 5].astype(np.int32))
            for part in np.split(rows, np.cumsum(counts)[:-1])
        ]
