"""Fusion of several runs, suppression, and the tuning of both."""

from smallobj.ensemble.config import CONFIDENCE_RULES, FusionConfig
from smallobj.ensemble.fusion import clip_scores, fuse
from smallobj.ensemble.suppression import nms

__all__ = ["CONFIDENCE_RULES", "FusionConfig", "clip_scores", "fuse", "nms"]
