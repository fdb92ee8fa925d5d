"""Images from disk, and the crops or squashed images a detector learns from."""

from smallobj.datasets.ahead import Batch, processes_that_fit
from smallobj.datasets.cache import ImageCache
from smallobj.datasets.config import INPUTS, CropConfig
from smallobj.datasets.crops import Crop, Crops
from smallobj.datasets.disk_cache import DEFAULT_CACHE_GB, DiskCache
from smallobj.datasets.images import MAX_MEGAPIXELS, ImageSource, image_size, read_image
from smallobj.datasets.loader import CropLoader, make_batch
from smallobj.datasets.samples import Samples, samples_of
from smallobj.datasets.squash import Squashed
from smallobj.datasets.statistics import ColourStatistics, colour_statistics
from smallobj.datasets.threads import compute_alone, own_threads
from smallobj.datasets.zipped import ZipArchive, ZipMember

__all__ = [
    "DEFAULT_CACHE_GB",
    "INPUTS",
    "MAX_MEGAPIXELS",
    "Batch",
    "ColourStatistics",
    "Crop",
    "CropConfig",
    "CropLoader",
    "Crops",
    "DiskCache",
    "ImageCache",
    "ImageSource",
    "Samples",
    "Squashed",
    "ZipArchive",
    "ZipMember",
    "colour_statistics",
    "compute_alone",
    "image_size",
    "make_batch",
    "own_threads",
    "processes_that_fit",
    "read_image",
    "samples_of",
]
