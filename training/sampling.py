"""The samples of a run, the images kept for them and what cuts them, as its settings say."""

from collections.abc import Callable

import torch

from smallobj.boxes import InputError
from smallobj.datasets import (
    DEFAULT_CACHE_GB,
    CropConfig,
    CropLoader,
    DiskCache,
    ImageCache,
    Samples,
    processes_that_fit,
    samples_of,
)
from smallobj.detectors import Detector
from smallobj.prediction import neutral_colour
from smallobj.training.config import TrainConfig
from smallobj.training.data import Tell
from smallobj.training.part import Part

_MOST_WORKERS = 16


def image_cache(config: TrainConfig, tell: Tell) -> ImageCache:
    """Decoded images in memory, and on disk where --cache-dir names a folder."""
    disk = None
    if config.cache_dir is not None:
        limit_gb = DEFAULT_CACHE_GB if config.cache_gb is None else config.cache_gb
        disk = DiskCache(config.cache_dir, limit_gb, tell=tell)
    return ImageCache(
        config.cache_mb,
        max_megapixels=config.max_megapixels,
        squash_px=config.crops.squash_px,
        disk=disk,
    )


def training_samples(
    config: TrainConfig, part: Part, cache: ImageCache, model: Detector
) -> Samples:
    """Samples of labelled images, for this model; raises InputError where there is no box."""
    samples = samples_of(
        part.table,
        part.paths,
        config.crops,
        seed=config.seed,
        cache=cache,
        pad=neutral_colour(model),
    )
    if not len(samples):
        raise InputError("every training box is marked to be ignored", file=config.data)
    return samples


def loader_of(
    config: TrainConfig,
    samples: Samples,
    *,
    on_gpu: bool,
    tell: Tell,
    first_step: int = 0,
    config_at: Callable[[int], CropConfig | None] = lambda step: None,
) -> CropLoader:
    """Batches of a run from a step on, see `CropLoader`; beside a GPU processes cut them.

    tell: is told where shared memory has no room for as many as are wanted.
    """
    workers, processes = 1 if config.workers is None else config.workers, 0
    if on_gpu:
        if config.workers is None:
            workers = max(1, min(_MOST_WORKERS, torch.get_num_threads() - 2))
        processes = processes_that_fit(workers, batch=config.batch, crop_px=config.crops.crop)
        if processes < workers:
            kind = f"{processes} processes" if processes else f"{workers} threads, slower,"
            tell(f"{kind} cut crops: shared memory has no room for {workers} processes")
    return CropLoader(
        samples,
        config.batch,
        workers=processes or workers,
        processes=processes > 0,
        first_step=first_step,
        config_at=config_at,
    )
