"""An item's row to text: named recipes, sentences, and the copy with dropped words. Plain functions on strings.

=========  =============================================================================================================
plain      title, brand, categories, genres, description, overview and text, whatever is there, HTML stripped, as one
           paragraph
mmrec      the text of MMRec's Amazon features, which the graph half's papers share (FREEDOM, MENTOR, PGL, …)
unisrec    the text of UniSRec's process_amazon.py, which the transferable sequence models share (VQ-Rec, MISSRec, …)
=========  =============================================================================================================
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seqmm.data.readers.markup import strip_html
from seqmm.features.readers.sentences import MAX_SENTENCES, split_sentences
from seqmm.random import hash_uniform

Recipe = Literal["plain", "mmrec", "unisrec"]

PLAIN_FIELDS = ("title", "brand", "categories", "genres", "description", "overview", "text")
SENTENCE_FIELDS = ("title", "description", "tagline", "overview", "text")
KEYWORD_FIELDS = ("genres", "categories", "keywords", "tags")
_USUAL = frozenset({*PLAIN_FIELDS, *SENTENCE_FIELDS, *KEYWORD_FIELDS})
_RECIPE_FIELDS: dict[Recipe, tuple[str, ...]] = {
    "plain": PLAIN_FIELDS,
    "mmrec": ("title", "brand", "categories", "description"),
    "unisrec": ("title", "categories", "brand"),
}

_LONGEST_FIELD = 2000


def text_columns(have: Sequence[str], recipe: Recipe = "plain", fields: Sequence[str] | None = None) -> tuple[str, ...]:
    """Columns of the items table that :func:`item_text` reads.

    Args:
        have: columns of the table.
        recipe: as there.
        fields: as there; each must be in the table. Without, a recipe takes those of its own that are there.

    Raises:
        ValueError: an unknown recipe, fields for another recipe than plain, a column that is not there, none at all.
    """
    if recipe not in _RECIPE_FIELDS:
        raise ValueError(f"unknown text recipe {recipe!r}; known: {', '.join(_RECIPE_FIELDS)}")
    if fields is not None and recipe != "plain":
        raise ValueError(f"the text recipe {recipe!r} has fields of its own ({', '.join(_RECIPE_FIELDS[recipe])}); "
                         "give fields with 'plain' only")  # fmt: skip
    return _present(have, _RECIPE_FIELDS[recipe] if fields is None else fields, fields is not None)


def sentence_columns(have: Sequence[str], fields: Sequence[str] = SENTENCE_FIELDS) -> tuple[str, ...]:
    """Columns of the items table that :func:`item_sentences` reads: those of ``fields`` that are there.

    Raises:
        ValueError: none of them is there, or one that is not among the usual ones (a slip) is not.
    """
    return _present(have, fields, False)


def keyword_columns(have: Sequence[str], fields: Sequence[str] = KEYWORD_FIELDS) -> tuple[str, ...]:
    """Columns of the items table that :func:`item_keywords` reads: those of ``fields`` that are there.

    Raises:
        ValueError: as :func:`sentence_columns`.
    """
    return _present(have, fields, False)


def _present(have: Sequence[str], fields: Sequence[str], all_of_them: bool) -> tuple[str, ...]:
    found = tuple(field for field in fields if field in have)
    lost = [field for field in fields if field not in have and (all_of_them or field not in _USUAL)]
    if lost or not found:
        what = f"column {lost[0]!r}" if lost else f"column of {', '.join(fields)}"
        raise ValueError(f"the items table has no {what}; it has: {', '.join(have)}. Name the columns with the texts")
    return found


def item_text(row: Mapping[str, Any], recipe: Recipe = "plain", fields: Sequence[str] | None = None) -> str:
    """The text of an item; "" (``plain``) where the row has none.

    ``plain``: the fields as clean text (:func:`strip_html`, white space collapsed), joined by ". ", or by a space after
    a field that ends a sentence itself; a list's parts by ", ".

    ``mmrec`` (specs of MMRec's 3feat-encoder notebook): title, brand, each category of the first category path,
    description, every one followed by a space but the last; line breaks become spaces; a missing title, brand or
    description is " ". Nothing is unescaped, stripped or collapsed. Preparing a corpus has cleaned title, brand
    and categories ("AT&amp;T" is "AT&T" in the items table), which the notebook has not.

    ``unisrec`` (process_amazon.py): title, categories, brand joined by spaces. Of each: a list is joined by spaces, a
    dict is written as Python writes it, entities are unescaped, ``"`` and line breaks removed, trailing dots become
    one, and a field of 2,000 characters or more becomes empty. An empty field is "."; an absent one (None) is left out,
    and where all are, or nothing is left, the text is ".".

    Args:
        row: columns of the items table; a value may be a string, a number, a list (of lists), a dict or None.
        recipe: which.
        fields: columns of ``plain``, in order; those it has of :data:`PLAIN_FIELDS` if None.

    Raises:
        ValueError: see :func:`text_columns`.
    """
    columns = text_columns(tuple(row), recipe, fields)
    if recipe == "mmrec":
        return _mmrec(row)
    if recipe == "unisrec":
        parts = [_unisrec_field(row[name]) for name in columns if not _absent(row[name])]
        text = " ".join(parts)
        return text if text.strip() else "."
    text = ""
    for part in filter(None, (_clean(row[name]) for name in columns)):
        text += (" " if _ends_sentence(text) else ". ") + part if text else part
    return text


def item_sentences(
    row: Mapping[str, Any], fields: Sequence[str] = SENTENCE_FIELDS, limit: int | None = MAX_SENTENCES
) -> list[str]:
    """The sentences of an item: its title whole, of every other field what :func:`split_sentences` finds.

    HTML is stripped first; paragraphs, list items and line breaks end a sentence.

    Args:
        row: columns of the items table.
        fields: in order; the usual ones (:data:`PLAIN_FIELDS`, :data:`SENTENCE_FIELDS`) may be absent, others must not.
        limit: keep at most so many; None keeps all.

    Raises:
        ValueError: see :func:`sentence_columns`.
    """
    found: list[str] = []
    for name in sentence_columns(tuple(row), fields):
        if limit is not None and len(found) >= limit:
            break
        left = None if limit is None else limit - len(found)
        if name == "title":
            title = _clean(row[name])
            found += [title] if re.search(r"\w", title) else []
        else:
            found += split_sentences("\n".join(map(strip_html, _strings(row[name]))), left)
    return found if limit is None else found[:limit]


def item_keywords(
    row: Mapping[str, Any], fields: Sequence[str] = KEYWORD_FIELDS, limit: int | None = None
) -> list[str]:
    """The tags of an item as clean text, column by column.

    Args:
        row: columns of the items table; a value may be a string or a list (of lists).
        fields: in order; the usual ones may be absent, others must not.
        limit: keep at most so many; None keeps all.

    Raises:
        ValueError: see :func:`keyword_columns`.
    """
    cleaned = (_clean(tag) for name in keyword_columns(tuple(row), fields) for tag in _strings(row[name]))
    return list(filter(None, cleaned))[:limit]


def word_drop(text: str, p: float, seed: int) -> str:
    """The text with each word left out with probability ``p``: UniSRec's second copy (p = 0.15).

    A draw is a pure function of (seed, text, place of the word): the same for any order of the items, number of
    processes, and numbering. One word always stays, so that no item loses its text (UniSRec may leave none).

    Args:
        text: words separated by white space.
        p: in [0, 1).
        seed: of the copy.

    Raises:
        ValueError: ``p`` is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"word drop with probability {p}: must be at least 0 and below 1")
    words = text.split()
    if not words:
        return text
    key = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "little", signed=True)
    draw = hash_uniform("word drop", seed, key, np.arange(len(words)))  # [words]
    keep = draw >= p
    keep[draw.argmax()] = True
    return " ".join(word for word, kept in zip(words, keep, strict=True) if kept)


# -- parts ------------------------------------------------------------------------------------------------------------


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # NaN: how pandas writes a missing text


def _strings(value: Any) -> list[str]:
    """A value's strings in order, lists flattened, absent ones left out."""
    if _absent(value):
        return []
    if isinstance(value, Mapping):
        return [f"{key}: {part}" for key, inner in value.items() if (part := ", ".join(_strings(inner)))]
    if isinstance(value, (list, tuple)):
        return [part for inner in value for part in _strings(inner)]
    return [str(value)]


def _clean(value: Any) -> str:
    """A value as one line of clean text."""
    text = ""
    for string in _strings(value):
        if part := " ".join(strip_html(string).split()):
            text += (" " if _ends_sentence(text) else ", ") + part if text else part
    return text


def _ends_sentence(text: str) -> bool:
    return text.endswith((".", "!", "?", "…", "。", "！", "？"))


def _mmrec(row: Mapping[str, Any]) -> str:
    title, brand, description = (" ".join(_strings(row.get(name))) or " " for name in ("title", "brand", "description"))
    path = row.get("categories")
    if isinstance(path, (list, tuple)) and path and isinstance(path[0], (list, tuple)):
        path = path[0]  # Amazon 2014 lists several; its reader keeps the first
    categories = "".join(category + " " for category in _strings(path) if category)
    return f"{title} {brand} {categories}{description}".replace("\n", " ")


def _unisrec_field(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    text = re.sub(r'["\n\r]', "", html.unescape(text))
    text = text[:1] + text[1:].rstrip(".") + "."  # the original never looks at the first character: "." becomes ".."
    return "" if len(text) >= _LONGEST_FIELD else text
