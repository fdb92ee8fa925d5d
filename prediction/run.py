"""From a trained model and images to a run on disk, which goes on where it was stopped."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from smallobj.boxes import InputError, check_writable
from smallobj.datasets import ZipMember
from smallobj.detectors import Detector
from smallobj.formats import RunInfo
from smallobj.prediction.engine import CANDIDATES, PredictConfig, stream
from smallobj.prediction.inputs import ImageFiles, Skipped
from smallobj.prediction.names import printable
from smallobj.prediction.part import PartFile, Stamp, part_path
from smallobj.prediction.writing import skipped_path, write_candidates, write_found, write_skipped
from smallobj.tta import Tiling, View, auto_tiling, parse_views
from smallobj.weights.manifest import Manifest

AUTO = "auto"
_TTA = {"all": "flips", "mirror": "hflip"}  # by the flips and turns of the training crops
_ENDINGS = {"boxes": ".json", CANDIDATES: ".parquet"}  # JSON cannot tell views


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a finished run holds."""

    images: int
    boxes: int
    resumed: int  # images that were there from a run stopped before
    skipped: tuple[Skipped, ...]  # images that are left out
    seconds: float  # of predicting, all starts together
    too_many: bool = False  # more were skipped than tolerated
    written: bool = True  # not where no image could be read at all


def tta_spec(manifest: Manifest) -> str:
    """The views of `--tta`: flips that the model saw in training too, four views or two.

    Raises InputError where it was trained without any.
    """
    if manifest.symmetry not in _TTA:
        raise InputError(
            "was trained without flips, so --tta has no view that suits it: name some by --views",
            file=manifest.id,
        )
    return _TTA[manifest.symmetry]


def views_of(
    manifest: Manifest,
    stride: int,
    *,
    spec: str = "identity",
    tile: str = AUTO,
    overlap_px: int | None = None,
) -> tuple[View, ...]:
    """The views of `spec`, see parse_views, cut into tiles that suit the model.

    tile: auto, a side in pixels, or 0 for images in one piece. overlap_px None: the largest
    training object. Of a model trained on squashed images a view is squashed likewise, and takes
    neither tile nor overlap. Raises InputError for what is unknown or cannot be.
    """
    if manifest.input == "squash":
        _check_untiled(manifest, tile, overlap_px)
        return parse_views(spec, squash_px=manifest.train_crop_px)
    if tile != AUTO and not (tile.isascii() and tile.isdigit() and len(tile) < 7):
        raise InputError("auto, 0 or a number of pixels is wanted", field="tile", value=tile)
    if tile != AUTO and int(tile) == 0:
        if overlap_px is not None:
            raise InputError("there is no overlap without tiles", field="overlap", value=overlap_px)
        return parse_views(spec)
    tiling: Tiling = auto_tiling(
        train_crop_px=manifest.train_crop_px,
        largest_object_px=manifest.largest_object_px,
        stride=stride,
        side_px=None if tile == AUTO else int(tile),
        overlap_px=overlap_px,
    )
    return parse_views(spec, tiling=tiling)


def _check_untiled(manifest: Manifest, tile: str, overlap_px: int | None) -> None:
    side = manifest.train_crop_px
    reason = f"was trained on whole images squashed to {side} px; --views only:tile=N tiles them"
    if tile != AUTO:
        raise InputError(reason, file=manifest.id, field="tile", value=tile)
    if overlap_px is not None:
        raise InputError(reason, file=manifest.id, field="overlap", value=overlap_px)


def check_out(out: Path, keep: str = "boxes") -> None:
    """Raise InputError now where `out` could not be written at the end.

    keep: as in PredictConfig. Boxes and candidates need names of their own, as NAME.run.toml
    speaks of one run.
    """
    ending = _ENDINGS[keep]
    if out.suffix != ending:
        what = "run of candidates" if keep == CANDIDATES else "run"
        raise InputError(f"the name of a {what} ends in {ending}", field="out", value=str(out))
    for other in _ENDINGS.values():
        if other != ending and out.with_suffix(other).exists():
            reason = f"{out.stem}{other} is there, which {out.stem}.run.toml speaks of"
            raise InputError(f"{reason}: choose another name", field="out", value=str(out))
    check_writable(out)


def predict_run(
    detector: Detector,
    manifest: Manifest,
    files: ImageFiles,
    out: Path,
    config: PredictConfig,
    *,
    max_bad: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Summary:
    """Predict images and write them as the run `out`, NAME.json with NAME.run.toml.

    Where the config keeps candidates, as NAME.parquet with the view of each box.

    Predictions grow in NAME.part.jsonl; called again with the same settings, what is there is not
    predicted again, unless the image's file was changed. Images that cannot be read are listed in
    NAME.skipped.tsv; the others are written. Where more than `max_bad` are, the summary says
    `too_many`, and the part file stays, so that the same call tries only those again. Where none
    could be read no run is written. on_progress(done, total) counts the images, those of an
    earlier start too; on_note is told where memory is short. The detector's weights are laid out
    channels last.
    """
    check_out(out, config.keep)
    detector.to(memory_format=torch.channels_last)
    settings = _settings(manifest, files, config)
    with PartFile(part_path(out), settings, files.ids, spent=_is_spent(out)) as part:
        _forget_changed(part, files)
        resumed = int(part.done.sum())
        unread = _predict_missing(
            detector, files, config, part=part, on_progress=on_progress, on_note=on_note
        )
        skipped = (*files.refused, *unread)
        images, boxes = int(part.done.sum()), 0
        if images or not skipped:
            info = _info(manifest, files, config, seconds=part.seconds, images=images)
            if config.keep == CANDIDATES:
                boxes = write_candidates(out, part, files.ids, info, config.views)
            else:
                boxes = write_found(out, part, files.ids, info)
        write_skipped(skipped_path(out), skipped)
        if len(skipped) <= max_bad:
            part.remove()
    return Summary(
        images=images,
        boxes=boxes,
        resumed=resumed,
        skipped=skipped,
        seconds=part.seconds,
        too_many=len(skipped) > max_bad,
        written=bool(images or not skipped),
    )


def _info(
    manifest: Manifest, files: ImageFiles, config: PredictConfig, *, seconds: float, images: int
) -> RunInfo:
    candidates = config.keep == CANDIDATES
    return RunInfo(
        model=manifest.id,
        classes=manifest.classes,
        views=tuple(view.name for view in config.views),
        image_set=printable(files.root.resolve()),
        cap=None if candidates else config.max_boxes,
        seconds=round(seconds, 3),
        weight_mb=manifest.weight_mb,
        latency_ms=round(1000 * seconds / max(1, images), 3),
        candidates=candidates,
        nms_iou=config.nms_iou,
        merge=config.merge,
    )


def _predict_missing(
    detector: Detector,
    files: ImageFiles,
    config: PredictConfig,
    *,
    part: PartFile,
    on_progress: Callable[[int, int], None] | None,
    on_note: Callable[[str], None] | None,
) -> list[Skipped]:
    left = np.flatnonzero(~part.done)
    begun = len(files.ids) - len(left)
    stamps: dict[int, Stamp] = {}  # of images on their way

    def sources() -> Iterator[Path | ZipMember]:
        for position, image in enumerate(left.tolist()):
            source = files.paths[image]
            stamps[position] = stamp_of(source)  # before it is read: what is changed then is redone
            yield source

    skipped: list[Skipped] = []
    before = time.perf_counter()
    found = stream(detector, sources(), config, on_note=on_note)
    for done, seen in enumerate(found, begun + 1):
        image, stamp = int(left[seen.image]), stamps.pop(seen.image)
        if seen.error is not None:
            value = "" if seen.error.value is None else f", got {seen.error.value}"
            skipped.append(Skipped(files.ids[image], seen.error.reason + value))
        else:
            now = time.perf_counter()
            part.append(image, seen, now - before, stamp)
            before = now
        if on_progress is not None:
            on_progress(done, len(files.ids))
    return skipped


def stamp_of(source: Path | ZipMember) -> Stamp:
    """What tells a changed file: its size and time, in an archive its checksum; 0, 0: none."""
    if isinstance(source, ZipMember):
        return Stamp(*source.stamp)
    try:
        status = source.stat()
    except OSError:  # reading it says why
        return Stamp(0, 0)
    return Stamp(status.st_size, status.st_mtime_ns)


def _is_spent(out: Path) -> bool:
    """Whether all that the part file holds was written to `out`: some images could not be read."""
    try:
        return out.stat().st_mtime_ns >= part_path(out).stat().st_mtime_ns
    except OSError:
        return False


def _forget_changed(part: PartFile, files: ImageFiles) -> None:
    for image in np.flatnonzero(part.done).tolist():
        if tuple(part.stamps[image].tolist()) != stamp_of(files.paths[image]):
            part.forget(image)


def _settings(manifest: Manifest, files: ImageFiles, config: PredictConfig) -> dict[str, object]:
    return {
        "model": manifest.id,
        "weights": manifest.sha256,
        "images": printable(files.root.resolve()),
        "views": [view.name for view in config.views],
        "nms_iou": config.nms_iou,
        "max_boxes": config.max_boxes,
        "merge": config.merge,
        "keep": config.keep,
        "precision": config.precision,
    }
