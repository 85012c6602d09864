"""text_word_drop: the text with words left out, UniSRec's second copy of every item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from seqmm.features.encoders.text import Encoder
from seqmm.features.extractors.text import Texts
from seqmm.features.readers.item_text import Recipe, word_drop
from seqmm.features.readers.texts import text_reader
from seqmm.features.shared_options import TextEncoderOptions, text_encoder
from seqmm.features.tools import Tools
from seqmm.options import option
from seqmm.registry import register


@dataclass(frozen=True)
class TextWordDropOptions(TextEncoderOptions):
    """Options of text_word_drop."""

    word_drop: float = option(0.15, "Probability of leaving a word of the text out.", least=0, below=1)

    def reads(self) -> tuple[str, ...]:
        """See :class:`seqmm.features.shared_options.TextEncoderOptions`."""
        return "text_recipe", "text_columns", "seed"


@register
class TextWordDrop(Texts):
    """A vector of the item's text with words left out (UniSRec's second copy).

    Args:
        encoder: of texts.
        have: columns of the items table.
        recipe: plain, mmrec or unisrec (:mod:`seqmm.features.readers.item_text`).
        fields: columns of ``plain``.
        dropped: probability of leaving a word out.
        seed: of the words left out.
    """

    name: ClassVar[str] = "text_word_drop"
    options_class: ClassVar[type[Any]] = TextWordDropOptions

    def __init__(
        self,
        encoder: Encoder,
        have: Sequence[str],
        recipe: Recipe = "plain",
        fields: Sequence[str] | None = None,
        dropped: float = 0.15,
        seed: int = 0,
    ):
        columns, text_of = text_reader(have, recipe, fields)

        def read(row: dict[str, Any]) -> list[str]:
            text = text_of(row)
            return [word_drop(text, dropped, seed)] if text else []

        how = f"{recipe}: {', '.join(columns)}; words dropped with p = {dropped}, seed {seed}"
        super().__init__("dense", encoder, columns, read, unit="item", text=how)

    @classmethod
    def make(cls, options: TextWordDropOptions, tools: Tools) -> TextWordDrop:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        recipe, fields = options.text_recipe, options.text_columns
        return cls(text_encoder(options, tools), tools.columns, recipe, fields, options.word_drop, options.seed)
