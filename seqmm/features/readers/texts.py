"""The texts of a corpus' items, by a named recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqmm.features.readers.item_text import Recipe, item_text, text_columns
from seqmm.features.readers.items import item_columns, item_shards


def text_reader(
    have: Sequence[str], recipe: Recipe = "plain", fields: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Callable[[dict[str, Any]], str]]:
    """The columns a recipe reads, and what makes a row's text of them; "" where there is none.

    Args:
        have: columns of the items table.
        recipe: see :func:`seqmm.features.readers.item_text.item_text`.
        fields: columns of ``plain``.
    """
    columns = text_columns(have, recipe, fields)
    chosen = columns if recipe == "plain" else None

    def text_of(row: dict[str, Any]) -> str:
        text = item_text({column: row[column] for column in columns}, recipe, chosen)
        return text if text.strip() else ""  # of an item with nothing, mmrec's text is blanks

    return columns, text_of


def all_texts(folder: Path, recipe: Recipe = "plain", fields: Sequence[str] | None = None) -> Iterator[str]:
    """The texts of all items one after the other, those without one left out: for TF-IDF, and for a vocabulary."""
    columns, text_of = text_reader(item_columns(folder), recipe, fields)
    return filter(None, (text_of(row) for _, rows in item_shards(folder, columns) for row in rows))
