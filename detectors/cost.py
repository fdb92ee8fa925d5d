"""What a detector costs: parameters, and arithmetic counted without doing it."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from smallobj.boxes import InputError
from smallobj.detectors.registry import build_detector, detector_class


class Cost(NamedTuple):
    """The cost of one size of a detector."""

    size: str
    backbone: str
    parameters: int
    gflops: float  # of one square image; a multiplication and its addition count as two


class Listing(NamedTuple):
    """What is to be known of a detector before it is chosen."""

    name: str
    summary: str  # one line
    licence: str  # of the code it runs on, besides torch and timm
    needs: str  # what pip must install beside smallobj; "": nothing
    sizes: list[Cost]
    error: str  # why it cannot be built here; "": it can


def list_costs(name: str, *, image_px: int = 640) -> Listing:
    """What a detector is and what its sizes cost; where it cannot be built here, why."""
    try:
        kind = detector_class(name)
    except InputError as error:
        return Listing(name, "", "", "", [], str(error))
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    try:
        costs, reason = detector_costs(name, image_px=image_px), ""
    except InputError as error:
        costs, reason = [], str(error)
    return Listing(name, summary, kind.licence, kind.needs, costs, reason)


def detector_costs(name: str, *, image_px: int = 640, num_classes: int = 1) -> list[Cost]:
    """The cost of each size of a registered detector, for a square image.

    image_px is rounded up to a multiple of the detector's stride. Nothing is computed.
    """
    grey = (127.0, 127.0, 127.0)
    costs = []
    for size in detector_class(name).Config.SIZES:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            detector = build_detector(name, num_classes=num_classes, mean=grey, std=grey, size=size)
        side = -(-image_px // detector.stride) * detector.stride
        image = torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            detector.eval().to("meta")(image)
        costs.append(
            Cost(
                size=size,
                backbone=detector.config.backbone,
                parameters=sum(weight.numel() for weight in detector.parameters()),
                gflops=counter.get_total_flops() / 1e9,
            )
        )
    return costs
