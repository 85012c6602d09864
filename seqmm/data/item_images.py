"""Images by item id."""

from __future__ import annotations

from typing import ClassVar

from seqmm.data.item_files import ItemFiles

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


class ImageFiles(ItemFiles):
    """Images and videos by item id. See :class:`seqmm.data.item_files.ItemFiles`."""

    suffixes: ClassVar[tuple[str, ...]] = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    what: ClassVar[str] = "image"
