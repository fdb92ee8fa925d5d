"""From a trained model and images to a run on disk, which goes on where it was stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from smallobj.boxes import InputError, check_writable, write_text
from smallobj.detectors import Detector
from smallobj.formats import RunInfo, write_run
from smallobj.prediction.engine import PredictConfig, as_table, stream
from smallobj.prediction.inputs import ImageFiles, printable
from smallobj.prediction.part import PartFile, part_path
from smallobj.tta import Tiling, View, auto_tiling, parse_views
from smallobj.weights.manifest import Manifest

AUTO = "auto"
_TTA = {"all": "flips", "mirror": "hflip"}  # by the flips and turns of the training crops
_ENDING = ".json"


class Skipped(NamedTuple):
    """An image that could not be read."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a finished run holds."""

    images: int
    boxes: int
    resumed: int  # images that were there from a run stopped before
    skipped: tuple[Skipped, ...]
    seconds: float  # of predicting, all starts together


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
    training object. Raises InputError for what is unknown or cannot be.
    """
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


def check_out(out: Path) -> None:
    """Raise InputError now where `out` could not be written at the end."""
    if out.suffix != _ENDING:
        raise InputError(f"the name of a run ends in {_ENDING}", field="out", value=str(out))
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
) -> Summary:
    """Predict images and write them as the run `out`, NAME.json with NAME.run.toml.

    Predictions grow in NAME.part.jsonl; called again with the same settings, what is there is not
    predicted again. Up to `max_bad` images that cannot be read are left out and listed in
    NAME.skipped.tsv; one more raises InputError and writes no run. on_progress(done, total) counts
    the images, those of an earlier start too. The detector's weights are laid out channels last.
    """
    check_out(out)
    detector.to(memory_format=torch.channels_last)
    with PartFile(part_path(out), _settings(manifest, files, config)) as part:
        resumed = len(part.done.intersection(files.ids))
        skipped = _predict_missing(
            detector, files, out, config, part=part, max_bad=max_bad, on_progress=on_progress
        )
        found, seconds = part.read()
        ids = [image_id for image_id in files.ids if image_id in found]
        table = as_table([found[image_id] for image_id in ids], ids, manifest.classes)
        info = RunInfo(
            model=manifest.id,
            classes=manifest.classes,
            views=tuple(view.name for view in config.views),
            image_set=printable(files.root.resolve()),
            cap=config.max_boxes,
            seconds=round(seconds, 3),
        )
        write_run(out, table, info)
        _write_skipped(out, skipped)
        part.remove()
    return Summary(
        images=len(ids), boxes=len(table), resumed=resumed, skipped=skipped, seconds=seconds
    )


def _predict_missing(
    detector: Detector,
    files: ImageFiles,
    out: Path,
    config: PredictConfig,
    *,
    part: PartFile,
    max_bad: int,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[Skipped, ...]:
    left = [(i, p) for i, p in zip(files.ids, files.paths, strict=True) if i not in part.done]
    begun = len(files.ids) - len(left)
    skipped: list[Skipped] = []
    before = time.perf_counter()
    for done, seen in enumerate(stream(detector, [path for _, path in left], config), begun + 1):
        image_id = left[seen.image][0]
        if seen.error is not None:
            skipped.append(Skipped(image_id, seen.error.reason))
            if len(skipped) > max_bad:
                raise _too_many(seen.error, skipped, out)
        else:
            now = time.perf_counter()
            part.append(image_id, seen, now - before)
            before = now
        if on_progress is not None:
            on_progress(done, len(files.ids))
    return tuple(skipped)


def _too_many(error: InputError, skipped: list[Skipped], out: Path) -> InputError:
    count = "" if len(skipped) == 1 else f"; {len(skipped)} images so far cannot be read"
    return InputError(
        f"{error.reason}{count}; {out} is not written (--max-bad N goes on without N such images)",
        file=printable(Path(str(error.file))),
        value=error.value,
    )


def _settings(manifest: Manifest, files: ImageFiles, config: PredictConfig) -> dict[str, object]:
    return {
        "model": manifest.id,
        "weights": manifest.sha256,
        "images": printable(files.root.resolve()),
        "views": [view.name for view in config.views],
        "nms_iou": config.nms_iou,
        "max_boxes": config.max_boxes,
        "precision": config.precision,
    }


def _write_skipped(out: Path, skipped: tuple[Skipped, ...]) -> None:
    path = out.with_name(f"{out.stem}.skipped.tsv")
    if not skipped:
        path.unlink(missing_ok=True)  # of a run before this one
        return
    rows = [("image", "reason"), *skipped]
    write_text(path, "".join("\t".join(map(_one_field, row)) + "\n" for row in rows))


def _one_field(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
