"""Detectors by name, one file each; import a new one here and it is trained, tested, exported."""

from smallobj.detectors import (
    centernet,
    dfine,
    faster_rcnn,
    fcn,
    fcos,
    retinanet,
    rtdetr,
    ssd,
    yolo,
)
from smallobj.detectors.base import Candidates, Detector, DetectorConfig, Target
from smallobj.detectors.loading import describe, detector_of, load_detector
from smallobj.detectors.registry import build_detector, detector_class, list_detectors, register
from smallobj.detectors.segmenter import Segmenter

__all__ = [
    "Candidates",
    "Detector",
    "DetectorConfig",
    "Segmenter",
    "Target",
    "build_detector",
    "centernet",
    "describe",
    "detector_class",
    "detector_of",
    "dfine",
    "faster_rcnn",
    "fcn",
    "fcos",
    "list_detectors",
    "load_detector",
    "register",
    "retinanet",
    "rtdetr",
    "ssd",
    "yolo",
]
