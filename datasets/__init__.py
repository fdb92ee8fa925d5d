"""Images from disk, and the crops a detector learns from."""

from smallobj.datasets.cache import ImageCache
from smallobj.datasets.crops import Crop, CropConfig, Crops
from smallobj.datasets.images import MAX_MEGAPIXELS, ImageSource, image_size, read_image
from smallobj.datasets.loader import Batch, CropLoader
from smallobj.datasets.statistics import ColourStatistics, colour_statistics
from smallobj.datasets.zipped import ZipArchive, ZipMember

__all__ = [
    "MAX_MEGAPIXELS",
    "Batch",
    "ColourStatistics",
    "Crop",
    "CropConfig",
    "CropLoader",
    "Crops",
    "ImageCache",
    "ImageSource",
    "ZipArchive",
    "ZipMember",
    "colour_statistics",
    "image_size",
    "read_image",
]
