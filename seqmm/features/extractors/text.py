"""text: a vector an item, of its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from seqmm.features.encoders.text import Encoder
from seqmm.features.extractor import Extractor, Found
from seqmm.features.readers.item_text import Recipe
from seqmm.features.readers.texts import text_reader
from seqmm.features.shared_options import TextEncoderOptions, text_encoder
from seqmm.features.tools import Tools
from seqmm.names import VectorKind
from seqmm.registry import register


class Texts(Extractor):
    """An item's texts through a text encoder: one vector (dense) or one for each string (ragged).

    Args:
        kind: ``dense``: ``read`` gives one string, or none; ``ragged``: any number.
        encoder: of texts.
        columns: of the items table, which ``read`` reads.
        read: row -> strings.
        unit: what a string is (item, sentence, keywords); part of the provenance.
        text: how it is made of the columns; part of the source.
    """

    def __init__(
        self,
        kind: VectorKind,
        encoder: Encoder,
        columns: Sequence[str],
        read: Callable[[dict[str, Any]], Sequence[str]],
        *,
        unit: str,
        text: str,
    ):
        self.kind, self.encoder, self.columns, self.read, self.dim = kind, encoder, tuple(columns), read, encoder.dim
        self.provenance, self.source = {**encoder.provenance, "unit": unit}, {"text": text}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        return encoded([self.read(row) for row in rows], self.encoder, advance, "no text")


def encoded(
    texts: Sequence[Sequence[str]], encoder: Encoder, advance: Callable[[int], object], absent: str
) -> list[Found]:
    """Each item's strings encoded; ``absent`` notes an item without any."""
    flat = [text for row in texts for text in row]
    vectors = encoder.encode(flat, label=None) if flat else np.zeros((0, encoder.dim), np.float32)
    parts = np.split(vectors, np.cumsum([len(row) for row in texts])[:-1])
    advance(len(texts))
    return [Found(part, "" if row else absent) for part, row in zip(parts, texts, strict=True)]


@dataclass(frozen=True)
class TextOptions(TextEncoderOptions):
    """Options of text."""

    def reads(self) -> tuple[str, ...]:
        """See :class:`seqmm.features.shared_options.TextEncoderOptions`."""
        return "text_recipe", "text_columns"


@register
class Text(Texts):
    """A vector of the item's text.

    Args:
        encoder: of texts.
        have: columns of the items table.
        recipe: plain, mmrec or unisrec (:mod:`seqmm.features.readers.item_text`).
        fields: columns of ``plain``.
    """

    name: ClassVar[str] = "text"
    options_class: ClassVar[type[Any]] = TextOptions

    def __init__(
        self, encoder: Encoder, have: Sequence[str], recipe: Recipe = "plain", fields: Sequence[str] | None = None
    ):
        columns, text_of = text_reader(have, recipe, fields)

        def read(row: dict[str, Any]) -> list[str]:
            text = text_of(row)
            return [text] if text else []

        super().__init__("dense", encoder, columns, read, unit="item", text=f"{recipe}: {', '.join(columns)}")

    @classmethod
    def make(cls, options: TextOptions, tools: Tools) -> Text:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        return cls(text_encoder(options, tools), tools.columns, options.text_recipe, options.text_columns)
