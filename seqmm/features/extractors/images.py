"""Images of an item through an image encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from seqmm.features.encoders.images import encode_images
from seqmm.features.shards import Found

if TYPE_CHECKING:
    from seqmm.data.item_images import ImageFiles
    from seqmm.features.encoders.images import ImageEncoder
    from seqmm.features.shards import Transform


class Images:
    """One vector an item: its image's, or the mean of its images' or frames'.

    Args:
        encoder: of images.
        files: images by item id.
        limit: images or frames read of an item, evenly spaced where there are more.
        transform: PCA.
    """

    kind: Literal["dense"] = "dense"
    columns: tuple[str, ...] = ()

    def __init__(self, encoder: ImageEncoder, files: ImageFiles, limit: int = 1, transform: Transform | None = None):
        self.encoder, self.files, self.limit, self.transform, self.dim = encoder, files, limit, transform, encoder.dim
        self.provenance = {**encoder.provenance, "unit": "item" if limit == 1 else f"mean of at most {limit} images"}
        self.source = {"images": files.digest()}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        ids = [row["id"] for row in rows]
        vectors, notes = encode_images(self.encoder, self.dim, self.files, ids, limit=self.limit, advance=advance)
        means = [part.mean(0, keepdims=True) if len(part) else part for part in vectors]
        return [Found(mean, note) for mean, note in zip(means, notes, strict=True)]
