"""Texts of an item through a text encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmm.features.encoders.text import Encoder
from seqmm.features.readers.item_text import (
    SENTENCE_FIELDS,
    Recipe,
    item_sentences,
    item_text,
    sentence_columns,
    text_columns,
    word_drop,
)
from seqmm.features.readers.items import item_columns, item_shards
from seqmm.features.readers.sentences import MAX_SENTENCES
from seqmm.features.shards import Found

if TYPE_CHECKING:
    from seqmm.features.shards import Transform


class Texts:
    """An item's texts through a text encoder: one vector (dense) or one for each string (ragged).

    Args:
        kind: ``dense``: ``read`` gives one string, or none; ``ragged``: any number.
        encoder: of texts.
        columns: of the items table, which ``read`` reads.
        read: row -> strings.
        unit: what a string is (item, sentence, keywords); part of the provenance.
        text: how it is made of the columns; part of the source.
    """

    transform: Transform | None = None

    def __init__(
        self,
        kind: Literal["dense", "ragged"],
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


def text_vectors(
    encoder: Encoder,
    have: Sequence[str],
    recipe: Recipe = "plain",
    fields: Sequence[str] | None = None,
    dropped: float = 0.0,
    seed: int = 0,
) -> Texts:
    """One vector an item, of its text by a named recipe (:mod:`seqmm.features.readers.item_text`).

    Args:
        encoder: of texts.
        have: columns of the items table.
        recipe: plain, mmrec or unisrec.
        fields: columns of ``plain``.
        dropped: probability of leaving a word out (UniSRec's second copy: 0.15).
        seed: of the words left out.
    """
    columns, text_of = _text_reader(have, recipe, fields)

    def read(row: dict[str, Any]) -> list[str]:
        text = text_of(row)
        return [word_drop(text, dropped, seed) if dropped else text] if text else []

    how = f"{recipe}: {', '.join(columns)}" + (f"; words dropped with p = {dropped}, seed {seed}" if dropped else "")
    return Texts("dense", encoder, columns, read, unit="item", text=how)


def text_sentences(
    encoder: Encoder, have: Sequence[str], fields: Sequence[str] = SENTENCE_FIELDS, limit: int = MAX_SENTENCES
) -> Texts:
    """A vector for each of an item's first sentences (MSM4SR)."""
    columns = sentence_columns(have, fields)
    how = f"first {limit} of {', '.join(columns)}"
    return Texts("ragged", encoder, columns, lambda row: item_sentences(row, columns, limit), unit="sentence", text=how)


def all_texts(folder: Path, recipe: Recipe = "plain", fields: Sequence[str] | None = None) -> Iterator[str]:
    """The texts of all items one after the other, those without one left out: for TF-IDF, and for a vocabulary."""
    columns, text_of = _text_reader(item_columns(folder), recipe, fields)
    return filter(None, (text_of(row) for _, rows in item_shards(folder, columns) for row in rows))


def _text_reader(
    have: Sequence[str], recipe: Recipe, fields: Sequence[str] | None
) -> tuple[tuple[str, ...], Callable[[dict[str, Any]], str]]:
    """The columns a recipe reads, and what makes a row's text of them; "" where there is none."""
    columns = text_columns(have, recipe, fields)
    chosen = columns if recipe == "plain" else None

    def text_of(row: dict[str, Any]) -> str:
        text = item_text({column: row[column] for column in columns}, recipe, chosen)
        return text if text.strip() else ""  # of an item with nothing, mmrec's text is blanks

    return columns, text_of


def encoded(
    texts: Sequence[Sequence[str]], encoder: Encoder, advance: Callable[[int], object], absent: str
) -> list[Found]:
    """Each item's strings encoded; ``absent`` notes an item without any."""
    flat = [text for row in texts for text in row]
    vectors = encoder.encode(flat, label=None) if flat else np.zeros((0, encoder.dim), np.float32)
    parts = np.split(vectors, np.cumsum([len(row) for row in texts])[:-1])
    advance(len(texts))
    return [Found(part, "" if row else absent) for part, row in zip(parts, texts, strict=True)]
