"""A Parquet run in outline: one box for each image and class, to be aligned in the run's place.

So the rules by which images and classes are matched stand in one place, `align_runs`, and hold for
a run that is never read whole. A box's score says which image or class it stands for.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats.challenge import labels_of
from smallobj.formats.image_ids import natural_key
from smallobj.formats.parquet_scan import Scan
from smallobj.formats.raw_run import RawRun
from smallobj.formats.repairs import Repairs
from smallobj.formats.run_classes import classes_of_run
from smallobj.formats.run_info import RunInfo
from smallobj.formats.runs import Run

_STEP = 2.0**-40  # a score is a whole number of steps: exact, and below 1 for any number of images


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The run in outline, whose boxes stand for N images, then for C classes."""

    run: Run
    images: int

    def placed(self, aligned: BoxTable) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Where the images went [N], and which label the classes in use got [C], by rising id."""
        assert aligned.score is not None
        meaning = np.round(aligned.score / _STEP).astype(np.int64)
        order = np.argsort(meaning)
        assert (meaning[order] == np.arange(len(self.run.table))).all()
        image = aligned.image_index[order][: self.images]
        return image, aligned.label[order][self.images :]


def outline_of(path: Path, found: Scan, said: Classes | None, info: RunInfo | None) -> Outline:
    """The outline of a scanned run; raises InputError as reading it whole would."""
    count, classes = len(found.ids), len(found.class_ids)
    if not count:
        raise InputError("holds no predictions", file=path)
    rows = count + classes
    known = found.classes or said
    anything = (*found.class_ids, *(() if known is None else known.source_ids), 0)[0]
    raw = RawRun(
        ids=found.ids,
        image_index=np.concatenate([np.arange(count), np.zeros(classes, np.int64)]),
        xyxy=np.tile([0.0, 0.0, 1.0, 1.0], (rows, 1)),
        class_id=np.concatenate([np.full(count, anything), found.class_ids]).astype(np.int64),
        score=np.arange(rows, dtype=np.float64) * _STEP,
        number=np.zeros(rows, np.int64),
        row_field="row {}",
        classes=found.classes,
        numbered=found.numbered,
        sizes=found.sizes,
    )
    class_id, named = classes_of_run(path, raw, said)
    run = Run(
        name=path.stem,
        path=path,
        kind="parquet",
        table=_table(raw, class_id, named),
        info=info,
        repairs=Repairs(),
        numbered=found.numbered or said is not None,
    )
    return Outline(run=run, images=count)


@lru_cache(maxsize=1)  # the runs of an ensemble name the same images
def _natural_order(ids: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array(sorted(range(len(ids)), key=lambda i: natural_key(ids[i])), np.int64)


def _table(raw: RawRun, class_id: NDArray[np.int64], classes: Classes) -> BoxTable:
    assert raw.sizes is not None
    order = _natural_order(tuple(raw.ids))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    images = Images(ids=tuple(raw.ids), width=raw.sizes[:, 0], height=raw.sizes[:, 1])
    return BoxTable.build(
        images=images.take(order),
        classes=classes,
        image_index=position[raw.image_index],
        xyxy=raw.xyxy,
        label=labels_of(class_id, classes),
        score=raw.score,
    )
