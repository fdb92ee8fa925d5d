"""The engine: images decoded, cut, batched, run and merged."""

from smallobj.prediction.device import PRECISIONS, autocast, choose_device
from smallobj.prediction.engine import (
    MAX_BOXES,
    NMS_IOU,
    PredictConfig,
    Seen,
    as_table,
    predict,
    stream,
)

__all__ = [
    "MAX_BOXES",
    "NMS_IOU",
    "PRECISIONS",
    "PredictConfig",
    "Seen",
    "as_table",
    "autocast",
    "choose_device",
    "predict",
    "stream",
]
