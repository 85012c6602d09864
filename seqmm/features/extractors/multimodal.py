"""An item's image and text through a multimodal language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmm.features.encoders.multimodal import Product
from seqmm.features.encoders.text import Encoder
from seqmm.features.extractors.text import encoded
from seqmm.features.pca import Pca
from seqmm.features.readers.images import frames
from seqmm.features.readers.item_text import (
    item_text,
)
from seqmm.features.shards import Found

if TYPE_CHECKING:
    from seqmm.data.item_images import ImageFiles
    from seqmm.features.encoders.multimodal import FusedCaption, FusedEncoder
    from seqmm.features.shards import Transform


PRODUCT = ("title", "description", "price", "brand")
"""Columns a multimodal language model is told of."""

BLOCK = 32
"""Items whose images are in memory at a time."""


class _Products:
    """Items as a multimodal language model reads them: fields and, where there is one, an image."""

    transform: Transform | None = None

    def __init__(self, have: Sequence[str], files: ImageFiles | None):
        self.columns = tuple(column for column in PRODUCT if column in have)
        if not self.columns:
            raise ValueError(f"the items table has none of {', '.join(PRODUCT)}; it has: {', '.join(have)}")
        self.files = files
        self.source = {"text": ", ".join(self.columns), "images": "none" if files is None else files.digest()}

    def blocks(
        self, rows: list[dict[str, Any]], advance: Callable[[int], object]
    ) -> Iterator[tuple[list[Product], list[str]]]:
        """``(products, notes)``, :data:`BLOCK` items at a time."""
        for start in range(0, len(rows), BLOCK):
            block, notes = [], []
            for row in rows[start : start + BLOCK]:
                fields = {column: item_text({column: row[column]}, "plain", (column,)) for column in self.columns}
                images, problems = ([], []) if self.files is None else frames(self.files, row["id"], 1)
                block.append(Product(**fields, image=images[0] if images else None))
                lost = f"broken image: {'; '.join(problems)}" if problems else "no image"
                note = "" if images or self.files is None else lost
                notes.append("no text, no image" if block[-1].empty and not problems else note)
            yield block, notes
            advance(len(block))


class Fused(_Products):
    """A vector an item: its image and text through a multimodal language model (USERec), then PCA.

    Args:
        encoder: the model.
        have: columns of the items table.
        files: images by item id; None = texts alone.
        dim: width after PCA (USERec: 768); None = no PCA.
    """

    kind: Literal["dense"] = "dense"

    def __init__(self, encoder: FusedEncoder, have: Sequence[str], files: ImageFiles | None, dim: int | None = 768):
        super().__init__(have, files)
        self.encoder, self.dim, self.transform = encoder, encoder.dim, None if dim is None else Pca(dim)
        self.provenance = {**encoder.provenance, "unit": "item"}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        found = []
        for products, notes in self.blocks(rows, advance):
            vectors = iter(self.encoder([product for product in products if not product.empty]))
            for product, note in zip(products, notes, strict=True):
                vector = np.zeros((0, self.dim), np.float32) if product.empty else next(vectors)[None]
                found.append(Found(vector, note))
        return found


class Captions(_Products):
    """A vector an item: what a multimodal language model says of it, through a text encoder.

    Args:
        writer: the model.
        encoder: of texts.
        have: columns of the items table.
        files: images by item id; None = texts alone.
    """

    kind: Literal["dense"] = "dense"

    def __init__(self, writer: FusedCaption, encoder: Encoder, have: Sequence[str], files: ImageFiles | None):
        super().__init__(have, files)
        self.writer, self.encoder, self.dim = writer, encoder, encoder.dim
        self.provenance = {**encoder.provenance, **writer.provenance, "unit": "item"}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        captions: list[str] = []
        notes: list[str] = []
        for products, said in self.blocks(rows, advance):
            answers = iter(self.writer([product for product in products if not product.empty]))
            for product, note in zip(products, said, strict=True):
                captions.append("" if product.empty else next(answers))
                notes.append(note if captions[-1] or product.empty else "no caption")
        found = encoded([[text] if text else [] for text in captions], self.encoder, lambda count: None, "")
        return [
            Found(part.vectors, note, [text] if text else [])
            for part, note, text in zip(found, notes, captions, strict=True)
        ]
