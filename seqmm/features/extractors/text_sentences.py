"""text_sentences: a vector for each of an item's first sentences, as MSM4SR reads texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from seqmm.features.encoders.text import Encoder
from seqmm.features.extractors.text import Texts
from seqmm.features.readers.item_text import SENTENCE_FIELDS, item_sentences, sentence_columns
from seqmm.features.readers.sentences import MAX_SENTENCES
from seqmm.features.shared_options import TextEncoderOptions, text_encoder
from seqmm.features.tools import Tools
from seqmm.options import option
from seqmm.registry import register


@dataclass(frozen=True)
class TextSentencesOptions(TextEncoderOptions):
    """Options of text_sentences."""

    sentence_columns: tuple[str, ...] = option(SENTENCE_FIELDS, "Columns cut into sentences, those that are there.")
    max_sentences: int = option(MAX_SENTENCES, "Sentences kept of an item.", least=1)


@register
class TextSentences(Texts):
    """A vector for each of the item's first sentences (MSM4SR).

    Args:
        encoder: of texts.
        have: columns of the items table.
        fields: columns cut into sentences, those that are there.
        limit: sentences kept of an item.
    """

    name: ClassVar[str] = "text_sentences"
    options_class: ClassVar[type[Any]] = TextSentencesOptions

    def __init__(
        self,
        encoder: Encoder,
        have: Sequence[str],
        fields: Sequence[str] = SENTENCE_FIELDS,
        limit: int = MAX_SENTENCES,
    ):
        columns = sentence_columns(have, fields)

        def read(row: dict[str, Any]) -> list[str]:
            return item_sentences(row, columns, limit)

        how = f"first {limit} of {', '.join(columns)}"
        super().__init__("ragged", encoder, columns, read, unit="sentence", text=how)

    @classmethod
    def make(cls, options: TextSentencesOptions, tools: Tools) -> TextSentences:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        return cls(text_encoder(options, tools), tools.columns, options.sentence_columns, options.max_sentences)
