"""What a view search chooses from: the views to try, and their candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Images, InputError
from smallobj.detectors import Detector
from smallobj.formats import Labels, Repairs, Run, align_runs, match_ids, read_run, read_run_info
from smallobj.formats.align_classes import to_classes
from smallobj.formats.run_info import run_info_path
from smallobj.prediction.candidates import KeptViews
from smallobj.prediction.engine import PredictConfig
from smallobj.prediction.inputs import ImageFiles
from smallobj.prediction.names import printable
from smallobj.prediction.onnx_model import is_onnx
from smallobj.prediction.run import predict_run
from smallobj.prediction.writing import skipped_path
from smallobj.tta import View, view_named
from smallobj.weights.manifest import WEIGHTS, Manifest, run_folder

_SEEN = {"all": "d4", "mirror": "hflip", "none": "identity"}  # by the symmetry of the training
_SCALES = "scale=0.75|1|1.25|1.5"


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewPool:
    """The candidates of a pool of views on labelled images."""

    kept: KeptViews  # on the images and classes of the labels
    places: tuple[int, ...]  # the views to choose from, by their positions in `kept`
    plain: int
    notes: tuple[str, ...]  # what the user is told


def pool_spec(manifest: Manifest) -> str:
    """The views that are tried by default: flips and turns as in training, times four scales.

    Squashed images have no scale: of them flips and turns alone.
    """
    seen = _SEEN[manifest.symmetry]
    return seen if manifest.input == "squash" else f"{seen},{_SCALES}"


def plain_place(views: Sequence[View]) -> int:
    """The position of the plain view: as it is, cut into tiles or squashed or neither.

    Raises InputError where there is none, or no view beside it.
    """
    plain = [number for number, view in enumerate(views) if _is_plain(view)]
    names = "; ".join(view.name for view in views)
    if not plain:
        reason = "the plain view, with which every search begins, is not among them"
        raise InputError(reason, field="views", value=names)
    if len(views) == 1:
        raise InputError("nothing to choose from but the plain view", field="views", value=names)
    return plain[0]


def _is_plain(view: View) -> bool:
    return replace(view, tiling=None, squash_px=None) == View()


def require_classes(manifest: Manifest, labels: Labels, model: Path) -> None:
    """Raise InputError, before anything is predicted, where a class of the model has no label."""
    classes = manifest.classes
    one_each = BoxTable(
        images=Images.of(["any image"]),
        classes=classes,
        offsets=np.array([0, len(classes)]),
        xyxy=np.tile([0.0, 0.0, 1.0, 1.0], (len(classes), 1)),
        label=np.arange(len(classes), dtype=np.int32),
        score=np.zeros(len(classes)),
    )
    run = Run(
        name=manifest.id, path=model, kind="parquet", table=one_each, info=None, repairs=Repairs()
    )
    to_classes(run, labels.table.classes)


def predict_candidates(
    detector: Detector,
    manifest: Manifest,
    files: ImageFiles,
    out: Path,
    config: PredictConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> None:
    """Predict candidates, as the config says, into `out`, a Parquet file.

    Stopped, the same call goes on. Raises InputError where an image cannot be read.
    """
    summary = predict_run(
        detector, manifest, files, out, config, on_progress=on_progress, on_note=on_note
    )
    if summary.skipped:
        image, reason = summary.skipped[0]
        reason = f"{len(summary.skipped)} of the images cannot be read, such as this: {reason}"
        raise InputError(reason, file=printable(skipped_path(out)), item=printable(Path(image)))


def is_current(
    candidates: Path, model: Path, manifest: Manifest, files: ImageFiles, views: Sequence[View]
) -> bool:
    """Whether a file of candidates is of this model, these views and images, and newer than all."""
    from smallobj.formats.parquet_file import open_parquet  # noqa: PLC0415 - loads pyarrow

    try:
        info = read_run_info(run_info_path(candidates))
        about = open_parquet(candidates).about
        made = candidates.stat().st_mtime_ns
        weights = model if is_onnx(model) else run_folder(model) / WEIGHTS
        newest = max(Path(str(one)).stat().st_mtime_ns for one in (weights, *files.paths))
    except (InputError, OSError):
        return False
    return (
        info.candidates
        and (info.model, info.views) == (manifest.id, tuple(view.name for view in views))
        and about is not None
        and set(files.ids) <= set(about.images)
        and newest <= made
    )


def read_pool(
    path: Path, manifest: Manifest, labels: Labels, views: Sequence[View] | None = None
) -> ViewPool:
    """Candidates that `predict --keep candidates` wrote, on the images of the labels.

    views: those to choose from, all that were kept where None. Raises InputError where the file
    holds no candidates or those of another model, lacks a view or an image, or does not fit the
    labels.
    """
    run = read_run(path)
    if run.info is None or not run.info.candidates or run.table.source is None:
        reason = "holds no candidates with their views: predict --keep candidates writes them"
        raise InputError(reason, file=path)
    if run.info.model != manifest.id:
        reason = f"candidates are of another model than {manifest.id}"
        raise InputError(reason, file=path, field="model", value=run.info.model)
    known = tuple(view_named(name) for name in run.info.views)
    pool = known if views is None else tuple(views)
    for view in pool:
        if view not in known:
            reason = f"no such view was kept; kept: {'; '.join(run.info.views)}"
            raise InputError(reason, file=path, field="views", value=view.name)
    plain = pool[plain_place(pool)]
    table, notes = _aligned(run, labels)
    return ViewPool(
        kept=KeptViews(table, run.info.views),
        places=tuple(known.index(view) for view in pool),
        plain=known.index(plain),
        notes=tuple(notes),
    )


def _aligned(run: Run, labels: Labels) -> tuple[BoxTable, list[str]]:
    """The candidates on images and classes of the labels, in sizes as they were predicted."""
    wanted, own = labels.table.images, run.table.images
    index: NDArray[np.int64] = match_ids(
        wanted.ids, own.ids, wanted_file=labels.path, given_file=run.path
    )
    if (index < 0).any():
        missing = wanted.ids[int(np.argmax(index < 0))]
        reason = f"lacks {int((index < 0).sum())} of the {len(wanted)} images of the labels"
        raise InputError(reason, file=run.path, item=missing)
    aligned = align_runs([run], images=wanted, classes=labels.table.classes)
    sized = Images(ids=wanted.ids, width=own.width[index], height=own.height[index])
    return replace(aligned.tables[0], images=sized), aligned.notes
