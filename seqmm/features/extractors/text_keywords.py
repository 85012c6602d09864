"""text_keywords: a vector of an item's tags as one string, as MSM4SR reads the words of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from seqmm.features.encoders.text import Encoder
from seqmm.features.extractors.text import Texts
from seqmm.features.readers.item_text import KEYWORD_FIELDS, item_keywords, keyword_columns
from seqmm.features.shared_options import TextEncoderOptions, text_encoder
from seqmm.features.tools import Tools
from seqmm.options import option
from seqmm.registry import register

MAX_KEYWORDS = 15
"""Words of an image in MSM4SR's paper, whose place these tags take."""


@dataclass(frozen=True)
class TextKeywordsOptions(TextEncoderOptions):
    """Options of text_keywords."""

    keyword_columns: tuple[str, ...] = option(KEYWORD_FIELDS, "Columns of tags, those that are there.")
    max_keywords: int = option(MAX_KEYWORDS, "Tags kept of an item.", least=1)


@register
class TextKeywords(Texts):
    """A vector of the item's tags as one string: genres, categories, keywords.

    Where there are no images it stands for image_keywords.

    Args:
        encoder: of texts.
        have: columns of the items table.
        fields: columns of tags, those that are there.
        limit: tags kept of an item.
    """

    name: ClassVar[str] = "text_keywords"
    options_class: ClassVar[type[Any]] = TextKeywordsOptions

    def __init__(
        self, encoder: Encoder, have: Sequence[str], fields: Sequence[str] = KEYWORD_FIELDS, limit: int = MAX_KEYWORDS
    ):
        columns = keyword_columns(have, fields)

        def read(row: dict[str, Any]) -> list[str]:
            words = item_keywords(row, columns, limit)
            return [" ".join(words)] if words else []

        how = f"first {limit} of {', '.join(columns)}"
        super().__init__("ragged", encoder, columns, read, unit="keywords", text=how)

    @classmethod
    def make(cls, options: TextKeywordsOptions, tools: Tools) -> TextKeywords:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        return cls(text_encoder(options, tools), tools.columns, options.keyword_columns, options.max_keywords)
