"""captions: a vector of what a multimodal language model says of an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from seqmm.features.encoders.multimodal import FusedCaption
from seqmm.features.encoders.text import Encoder
from seqmm.features.extractor import Extractor, Found
from seqmm.features.extractors.text import encoded
from seqmm.features.readers.products import ProductReader
from seqmm.features.shared_options import (
    MultimodalModelOptions,
    TextEncoderOptions,
    conversation,
    products,
    text_encoder,
)
from seqmm.features.tools import Tools
from seqmm.options import option
from seqmm.registry import register


@dataclass(frozen=True, kw_only=True)
class CaptionsOptions(MultimodalModelOptions, TextEncoderOptions):
    """Options of captions."""

    caption_tokens: int = option(256, "Upper bound of a caption, in tokens.", least=1)


@register
class Captions(Extractor):
    """A vector of what a multimodal language model says of the item, through a text encoder.

    Args:
        writer: the model.
        encoder: of texts.
        reader: what the model is told of an item.
    """

    name: ClassVar[str] = "captions"
    options_class: ClassVar[type[Any]] = CaptionsOptions

    def __init__(self, writer: FusedCaption, encoder: Encoder, reader: ProductReader):
        self.writer, self.encoder, self.reader, self.dim = writer, encoder, reader, encoder.dim
        self.columns, self.source = reader.columns, reader.source
        self.provenance = {**encoder.provenance, **writer.provenance, "unit": "item"}

    @classmethod
    def make(cls, options: CaptionsOptions, tools: Tools) -> Captions:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        tokens = options.caption_tokens
        writer = tools.load(FusedCaption, options.mllm, max_new_tokens=tokens, **conversation(options))
        return cls(writer, text_encoder(options, tools), products(options, tools))

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        captions: list[str] = []
        notes: list[str] = []
        for block, said in self.reader.blocks(rows, advance):
            answers = iter(self.writer([product for product in block if not product.empty]))
            for product, note in zip(block, said, strict=True):
                captions.append("" if product.empty else next(answers))
                notes.append(note if captions[-1] or product.empty else "no caption")
        found = encoded([[text] if text else [] for text in captions], self.encoder, lambda count: None, "")
        return [
            Found(part.vectors, note, [text] if text else [])
            for part, note, text in zip(found, notes, captions, strict=True)
        ]
