"""image: a vector of an item's image, or the mean of its images' or a video's frames'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from seqmm.data.item_images import ImageFiles
from seqmm.features.encoders.images import ImageEncoder, encode_images
from seqmm.features.extractor import Extractor, Found, Transform
from seqmm.features.pca import Pca
from seqmm.features.shared_options import ImageEncoderOptions, ImageFileOptions, chosen_image_encoder, image_files
from seqmm.features.tools import Tools
from seqmm.options import option
from seqmm.registry import register


@dataclass(frozen=True)
class ImageOptions(ImageEncoderOptions, ImageFileOptions):
    """Options of image."""

    image_limit: int = option(1, "Images of an item, or frames of its video, of which the mean is taken.", least=1)
    image_dim: int | None = option(
        None, "Width of the image vectors after PCA over all items; no PCA if absent.", least=1
    )


@register
class Images(Extractor):
    """A vector of the item's image, or the mean of its images' or frames'.

    Args:
        encoder: of images.
        files: images by item id.
        limit: images or frames read of an item, evenly spaced where there are more.
        transform: PCA.
    """

    name: ClassVar[str] = "image"
    options_class: ClassVar[type[Any]] = ImageOptions

    def __init__(self, encoder: ImageEncoder, files: ImageFiles, limit: int = 1, transform: Transform | None = None):
        self.encoder, self.files, self.limit, self.transform, self.dim = encoder, files, limit, transform, encoder.dim
        self.provenance = {**encoder.provenance, "unit": "item" if limit == 1 else f"mean of at most {limit} images"}
        self.source = {"images": files.digest()}

    @classmethod
    def make(cls, options: ImageOptions, tools: Tools) -> Images:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        transform = None if options.image_dim is None else Pca(options.image_dim)
        files = image_files(options, tools)  # first: it fails sooner than a model loads
        return cls(chosen_image_encoder(options, tools), files, options.image_limit, transform)

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        ids = [row["id"] for row in rows]
        vectors, notes = encode_images(self.encoder, self.dim, self.files, ids, limit=self.limit, advance=advance)
        means = [part.mean(0, keepdims=True) if len(part) else part for part in vectors]
        return [Found(mean, note) for mean, note in zip(means, notes, strict=True)]
