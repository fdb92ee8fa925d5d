"""Images from disk, and the crops a detector learns from."""

from smallobj.datasets.images import MAX_MEGAPIXELS, image_size, read_image

__all__ = ["MAX_MEGAPIXELS", "image_size", "read_image"]
