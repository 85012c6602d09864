"""fused: a vector of an item's image and text through a multimodal language model, as in USERec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from seqmm.features.encoders.multimodal import FusedEncoder
from seqmm.features.extractor import Extractor, Found
from seqmm.features.pca import Pca
from seqmm.features.readers.products import ProductReader
from seqmm.features.shared_options import MultimodalModelOptions, conversation, products
from seqmm.features.tools import Tools
from seqmm.names import StatePooling
from seqmm.options import option
from seqmm.registry import register


@dataclass(frozen=True, kw_only=True)
class FusedOptions(MultimodalModelOptions):
    """Options of fused."""

    mllm_layer: int = option(-2, "Hidden layer of the multimodal language model whose states become the vector.")
    mllm_pooling: StatePooling = option(
        "mean", "How a layer's states become one vector: their mean over tokens, or the last token's."
    )
    fused_dim: int | None = option(768, "Width of the fused vectors after PCA; None = no PCA.", least=1)


@register
class Fused(Extractor):
    """A vector of the item's image and text through a multimodal language model (USERec), then PCA.

    Args:
        encoder: the model.
        reader: what it is told of an item.
        dim: width after PCA (USERec: 768); None = no PCA.
    """

    name: ClassVar[str] = "fused"
    options_class: ClassVar[type[Any]] = FusedOptions

    def __init__(self, encoder: FusedEncoder, reader: ProductReader, dim: int | None = 768):
        self.encoder, self.reader, self.dim = encoder, reader, encoder.dim
        self.columns, self.source = reader.columns, reader.source
        self.transform = None if dim is None else Pca(dim)
        self.provenance = {**encoder.provenance, "unit": "item"}

    @classmethod
    def make(cls, options: FusedOptions, tools: Tools) -> Fused:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        layer, pooling = options.mllm_layer, options.mllm_pooling
        encoder = tools.load(FusedEncoder, options.mllm, layer=layer, pooling=pooling, **conversation(options))
        return cls(encoder, products(options, tools), options.fused_dim)

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        found = []
        for block, notes in self.reader.blocks(rows, advance):
            vectors = iter(self.encoder([product for product in block if not product.empty]))
            for product, note in zip(block, notes, strict=True):
                vector = np.zeros((0, self.dim), np.float32) if product.empty else next(vectors)[None]
                found.append(Found(vector, note))
        return found
