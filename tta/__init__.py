"""Views of an image and their patches: images forward, boxes back, and what was found merged."""

from smallobj.tta.merge import Boxes, merge
from smallobj.tta.spec import KNOWN, SETS, parse_views
from smallobj.tta.symmetry import SYMMETRIES, Symmetry
from smallobj.tta.tiling import Tiling, auto_tiling
from smallobj.tta.view import Patch, View, looks

__all__ = [
    "KNOWN",
    "SETS",
    "SYMMETRIES",
    "Boxes",
    "Patch",
    "Symmetry",
    "Tiling",
    "View",
    "auto_tiling",
    "looks",
    "merge",
    "parse_views",
]
