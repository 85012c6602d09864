"""An item's fields and image, as a multimodal language model reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from seqmm.data.item_images import ImageFiles
from seqmm.features.encoders.multimodal import Product
from seqmm.features.readers.images import frames
from seqmm.features.readers.item_text import item_text

PRODUCT = ("title", "description", "price", "brand")
"""Columns a multimodal language model is told of."""

BLOCK = 32
"""Items whose images are in memory at a time."""


class ProductReader:
    """Rows of the items table to products: those of :data:`PRODUCT` that are there and, where there is one, an image.

    Args:
        have: columns of the items table.
        files: images by item id; None = texts alone.

    Raises:
        ValueError: the table has none of the columns.
    """

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
