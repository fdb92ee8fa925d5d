"""Which boxes and images of a run are shown."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import InputError
from smallobj.report.judged import KINDS, Judged


def choose_boxes(shown: Judged, *, only: Sequence[str] = (), classes: Sequence[str] = ()) -> Judged:
    """The boxes of the kinds `only` and of the classes named, all where empty; every image stays.

    A wrong or missed box is also shown for the class of the box it overlaps most, so that a mix-up
    of two classes is seen from both sides. Raises InputError for a class that there is not.
    """
    keep = np.ones(len(shown), np.bool_)
    if only:
        keep &= np.isin(shown.kind, [KINDS.index(kind) for kind in only])
    if classes:
        wanted = [_label(shown, name) for name in classes]
        keep &= np.isin(shown.label, wanted) | np.isin(shown.other, wanted)
    return shown.filter_rows(keep)


def choose_images(
    shown: Judged, *, limit: int | None = None, with_boxes: bool = False
) -> NDArray[np.int64]:
    """Positions of the images to draw, in order: the first `limit`, maybe of those with a box."""
    chosen = np.arange(len(shown.images))
    if with_boxes:
        chosen = chosen[np.diff(shown.offsets) > 0]
    return chosen[:limit]


def _label(shown: Judged, name: str) -> int:
    if name not in shown.classes.names:
        known = ", ".join(shown.classes.names[:30])
        raise InputError(f"no such class; known: {known}", field="class", value=name)
    return shown.classes.names.index(name)
