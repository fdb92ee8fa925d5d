"""Detectors by name, one file each; import a new one here and it is trained, tested, exported."""

from smallobj.detectors import centernet, faster_rcnn, fcos, retinanet, ssd
from smallobj.detectors.base import Candidates, Detector, DetectorConfig, Target
from smallobj.detectors.loading import describe, detector_of, load_detector
from smallobj.detectors.registry import build_detector, detector_class, list_detectors, register

__all__ = [
    "Candidates",
    "Detector",
    "DetectorConfig",
    "Target",
    "build_detector",
    "centernet",
    "describe",
    "detector_class",
    "detector_of",
    "faster_rcnn",
    "fcos",
    "list_detectors",
    "load_detector",
    "register",
    "retinanet",
    "ssd",
]
