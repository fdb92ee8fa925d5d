"""Views of an image and their patches: images forward, boxes back, and what was found merged."""

from smallobj.tta.light import Light
from smallobj.tta.merge import (
    MERGES,
    Boxes,
    Candidates,
    gather,
    merge,
    merge_candidates,
    merge_views,
    suppress_boxes,
)
from smallobj.tta.spec import KNOWN, SETS, parse_views, view_named
from smallobj.tta.symmetry import SYMMETRIES, Symmetry
from smallobj.tta.tiling import Tiling, auto_tiling
from smallobj.tta.view import Patch, View, distinct_looks, looks

__all__ = [
    "KNOWN",
    "MERGES",
    "SETS",
    "SYMMETRIES",
    "Boxes",
    "Candidates",
    "Light",
    "Patch",
    "Symmetry",
    "Tiling",
    "View",
    "auto_tiling",
    "distinct_looks",
    "gather",
    "looks",
    "merge",
    "merge_candidates",
    "merge_views",
    "parse_views",
    "suppress_boxes",
    "view_named",
]
