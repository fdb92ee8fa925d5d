"""The samples of a run and the images kept for them, as its settings say."""

from smallobj.boxes import InputError
from smallobj.datasets import DEFAULT_CACHE_GB, DiskCache, ImageCache, Samples, samples_of
from smallobj.detectors import Detector
from smallobj.prediction import neutral_colour
from smallobj.training.config import TrainConfig
from smallobj.training.data import Tell
from smallobj.training.part import Part


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
