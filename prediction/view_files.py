"""From a trained model and labelled images to the views that pay: predict, time, choose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smallobj.boxes import Array, InputError
from smallobj.datasets import ImageSource
from smallobj.detectors import Detector
from smallobj.formats import Labels
from smallobj.prediction.engine import CANDIDATES, PredictConfig
from smallobj.prediction.inputs import labelled_images
from smallobj.prediction.latency import threads_of
from smallobj.prediction.opening import open_model
from smallobj.prediction.run import AUTO, check_out, views_of
from smallobj.prediction.view_pool import (
    ViewPool,
    is_current,
    plain_place,
    pool_spec,
    predict_candidates,
    read_pool,
    require_classes,
)
from smallobj.prediction.view_result import ViewSearch
from smallobj.prediction.view_search import Tell, ViewPlan, require_judgeable, search_views
from smallobj.prediction.view_times import ViewCosts, time_views
from smallobj.tta import View
from smallobj.weights.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class ViewRequest:
    """What is searched, on what, with which model."""

    model: Path  # a run's folder, or an exported file
    labels: Labels
    out: Path  # of the recipe; candidates are kept beside it
    plan: ViewPlan = field(default_factory=ViewPlan)
    views: str | None = None  # the pool, see parse_views; None: see pool_spec, or all candidates
    tile: str | None = None  # as in views_of; None: auto
    overlap_px: int | None = None
    candidates: Path | None = None  # predicted before; None: they are predicted
    batch_size: int | None = None  # patches a forward pass; None: found while predicting
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None  # of the CPU; None: as many as torch uses

    @property
    def kept(self) -> Path:
        """Where the candidates are: NAME.candidates.parquet beside NAME.toml, unless given."""
        return self.candidates or self.out.with_name(f"{self.out.stem}.candidates.parquet")


class FoundViews(NamedTuple):
    """What a search found for a model."""

    search: ViewSearch
    model: str  # its id


def search_view_files(
    request: ViewRequest,
    *,
    on_progress: Tell | None = None,
    on_note: Callable[[str], None] = lambda _: None,
) -> FoundViews:
    """Predict the candidates of the pool, unless they are there; time every view; search.

    Stopped, the same call goes on where predicting was. on_progress(what, done, total);
    on_note is told what the user should know. Raises InputError, before anything is predicted,
    for what does not fit: labels, classes, views, candidates of another model.
    """
    truth, files = request.labels.table, labelled_images(request.labels)
    require_judgeable(truth, request.plan)
    if request.candidates is None:
        check_out(request.kept, CANDIDATES)
    detector, manifest = open_model(
        request.model, device=request.device, precision=request.precision, threads=request.threads
    )
    require_classes(manifest, request.labels, request.model)
    views = _wanted(request, detector, manifest)
    config = PredictConfig(batch_size=request.batch_size, precision=request.precision)
    with threads_of(request.threads):
        if request.candidates is None and views is not None:
            if is_current(request.kept, request.model, manifest, files, views):
                on_note(f"{request.kept}: candidates of an earlier search are used again")
            else:
                tell = _named(on_progress, "predicting")
                wanted = replace(config, views=views, keep=CANDIDATES)
                predict_candidates(
                    detector,
                    manifest,
                    files,
                    request.kept,
                    wanted,
                    on_progress=tell,
                    on_note=on_note,
                )
        pool = read_pool(request.kept, manifest, request.labels, views)
        for note in pool.notes:
            on_note(note)
        tell = _named(on_progress, "timing")
        seconds = _timed(detector, pool, files.paths, config, tell)
    found = search_views(
        pool.kept,
        truth,
        ViewCosts(pool.kept, seconds, detector.stride),
        request.plan,
        pool=pool.places,
        plain=pool.plain,
        on_progress=on_progress,
    )
    return FoundViews(found, manifest.id)


def _wanted(
    request: ViewRequest, detector: Detector, manifest: Manifest
) -> tuple[View, ...] | None:
    """The views to choose from; None: all whose candidates are given."""
    if request.candidates is not None and request.views is None:
        for name, value in (("tile", request.tile), ("overlap", request.overlap_px)):
            if value is not None:
                reason = "the candidates say their tiles; with --views it says which of them"
                raise InputError(reason, field=name, value=value)
        return None
    views = views_of(
        manifest,
        detector.stride,
        spec=pool_spec(manifest) if request.views is None else request.views,
        tile=AUTO if request.tile is None else request.tile,
        overlap_px=request.overlap_px,
    )
    plain_place(views)
    return views


def _timed(
    detector: Detector,
    pool: ViewPool,
    sources: Sequence[ImageSource],
    config: PredictConfig,
    on_progress: Callable[[int, int], None] | None,
) -> Array:
    """Seconds a pixel of every view kept, [V]; 0 of those that are not to be chosen."""
    seconds = np.zeros(len(pool.kept.views))
    views = [pool.kept.views[place] for place in pool.places]
    seconds[list(pool.places)] = time_views(
        detector, sources, views, config, on_progress=on_progress
    )
    return seconds


def _named(on_progress: Tell | None, what: str) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(what, done, total)
