"""The engine: images decoded, cut, batched, run and merged; runs that grow on disk."""

from smallobj.prediction.candidates import merge_kept
from smallobj.prediction.device import PRECISIONS, autocast, choose_device, choose_precision
from smallobj.prediction.engine import (
    CANDIDATES,
    KEEPS,
    MAX_BOXES,
    NMS_IOU,
    PredictConfig,
    Seen,
    as_table,
    predict,
    stream,
)
from smallobj.prediction.inputs import ImageFiles, Skipped, find_images, find_part
from smallobj.prediction.latency import threads_of
from smallobj.prediction.names import escaped, one_line, printable
from smallobj.prediction.opening import open_model
from smallobj.prediction.part import part_path
from smallobj.prediction.run import Summary, check_out, predict_run, tta_spec, views_of
from smallobj.prediction.segment import ClassTile, class_tiles
from smallobj.prediction.writing import skipped_path

__all__ = [
    "CANDIDATES",
    "KEEPS",
    "MAX_BOXES",
    "NMS_IOU",
    "PRECISIONS",
    "ClassTile",
    "ImageFiles",
    "PredictConfig",
    "Seen",
    "Skipped",
    "Summary",
    "as_table",
    "autocast",
    "check_out",
    "choose_device",
    "choose_precision",
    "class_tiles",
    "escaped",
    "find_images",
    "find_part",
    "merge_kept",
    "one_line",
    "open_model",
    "part_path",
    "predict",
    "predict_run",
    "printable",
    "skipped_path",
    "stream",
    "threads_of",
    "tta_spec",
    "views_of",
]
