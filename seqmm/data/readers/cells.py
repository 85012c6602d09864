"""What a cell means wherever it comes from: ids, what is missing, lists written as text, columns of row numbers."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MISSING = ("nan", "NaN", "NA", "N/A", "NULL", "null", "None", "<NA>", "NaT", "\\N", "#N/A")
"""Words that pandas, R, databases and spreadsheets write for a missing value; a cell that is one is empty.

That holds for an item titled "None" too: a table cannot tell it from a missing title. Write the title in another way
("none", "None.") to keep it.
"""
INDEX = re.compile(r"Unnamed: \d+(\.\d+)?|Unnamed: \d+_level_\d+|__index_level_\d+__")
"""Columns of row numbers, as pandas names them; a header cell without a name is read as "Unnamed: N"."""
LARGEST = 2**53
"""From here on floating point numbers skip whole ones."""
_SHORTENED = r"^\d([.,]\d+)?[eE]\+\d\d+$"
LONGEST = 1 << 20
"""Characters of a list written as text, at most."""


def is_index(name: str) -> bool:
    """Whether a column's name is one that pandas gives to row numbers."""
    return INDEX.fullmatch(name) is not None


def text_ids(ids: pl.Series, where: object = "the table") -> pl.Series:
    """Ids as text, null where there is none: empty, nothing but white space, NaN, or a word of :data:`MISSING`.

    "007" stays; whole floats, which a table with gaps has, lose their ".0".

    Args:
        ids: a column of text or numbers.
        where: the table, for errors.

    Raises:
        ValueError: a column of a type that names nobody (lists, truth values, times), numbers that have lost digits.
    """
    import polars as pl

    kind = ids.dtype
    if kind == pl.Binary:
        try:
            ids = ids.cast(pl.String)
        except pl.exceptions.PolarsError as error:
            raise _no_ids(ids, where) from error
    elif kind.is_nested() or kind.is_temporal() or kind in (pl.Boolean, pl.Object):
        raise _no_ids(ids, where)
    if isinstance(kind, pl.Decimal) and kind.scale:
        ids = ids.cast(pl.Float64)
    if ids.dtype.is_float():
        ids = ids.fill_nan(None)
        whole = ids.drop_nulls()
        if ((whole == whole.floor()) & whole.is_finite()).all():
            if len(whole) and float(whole.abs().max()) >= LARGEST:  # type: ignore[arg-type]
                row = int((ids.abs() >= LARGEST).fill_null(False).arg_max() or 0)
                raise ValueError(
                    f"{where}, row {row + 1}, column {ids.name!r}: {ids[row]} is a floating point number that has lost "
                    "its last digits; write the ids as whole numbers or as text"
                )
            ids = ids.cast(pl.Int64)
        elif not whole.is_finite().all():
            row = int(ids.is_infinite().fill_null(False).arg_max() or 0)
            raise ValueError(f"{where}, row {row + 1}, column {ids.name!r}: {ids[row]} is no id; correct it")
    text = ids.cast(pl.String)
    if ids.dtype == pl.String and (cut := text.str.contains(_SHORTENED).fill_null(False)).any():
        row = int(cut.arg_max() or 0)
        raise ValueError(
            f"{where}, row {row + 1}, column {ids.name!r}: {text[row]!r} is a number that a spreadsheet has shortened, "
            "so that several ids became one; make the column text there, and save the table again"
        )
    return text.set(((text.str.strip_chars() == "") | text.is_in(MISSING)).fill_null(False), None)


def words_for_missing(ids: pl.Series) -> dict[str, int]:
    """How often each word of :data:`MISSING` is in a column of ids as read."""
    import polars as pl

    if ids.dtype != pl.String:
        return {}
    found = ids.filter(ids.is_in(MISSING)).value_counts(sort=True)
    return dict(found.rows())


def _no_ids(ids: pl.Series, where: object) -> ValueError:
    return ValueError(
        f"{where}: column {ids.name!r} holds {ids.dtype}, which names nobody; give ids as text or whole numbers"
    )


def well_formed(text: str) -> str:
    """The text with halves of a cut emoji replaced, which JSON may hold and no file can ("\ud83c" alone)."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def without_missing(column: pl.Series) -> pl.Series:
    """A column of texts, or of lists of texts, in which the words of :data:`MISSING` are empty."""
    import polars as pl

    if isinstance(column.dtype, pl.List):
        kept = pl.element().filter(pl.element().is_not_null() & ~pl.element().is_in(MISSING))
        return column.list.eval(kept)
    blank = column.is_in(MISSING) | (column.str.strip_chars() == "")
    return column.set(blank.fill_null(False), None)


_LIST = r"^\s*(\[[\s\S]*\]|\([\s\S]*\)|\{[\s\S]*\})\s*$"
_PART = re.compile(r"""\s*(?:[urb]?('(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*")|([^\s,'"\[\](){}]+))(\s*,|\s+|$)""")


def lists_in(column: pl.Series) -> pl.Series | None:
    """A column of text as lists, if every cell that is not empty is a list of texts as Python, numpy or JSON write it.

    Returns:
        The lists; None if some cell is none, or no cell is.
    """
    import polars as pl

    cells = column.drop_nulls()
    if not len(cells) or not cells.str.contains(_LIST).all() or not cells.str.contains(r"""['"]""").any():
        return None
    lists: list[list[str] | None] = []
    for cell in column:
        found = [] if cell is None else list_of(cell)
        if found is None:
            return None
        lists.append(found)
    return pl.Series(column.name, lists, pl.List(pl.String))


def looks_like_lists(column: pl.Series) -> str | None:
    """The first cell that looks like a list of texts, if most cells of a column do."""
    cells = column.drop_nulls()
    likely = cells.str.contains(r"""^\s*[\[(]\s*['"]""")
    return cells.filter(likely)[0] if len(cells) and likely.mean() > 0.5 else None  # type: ignore[operator]


def list_of(text: str) -> list[str] | None:
    """The texts in a list that was written as text; None if it is no list of texts.

    >>> list_of("['Action', 'It\\\\'s']"), list_of("['a' 'b']"), list_of('["a", null]'), list_of("[REC]")
    (['Action', "It's"], ['a', 'b'], ['a'], None)
    """
    if len(text) > LONGEST:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _parts(text.strip()[1:-1])
    return _texts(value) if isinstance(value, list) else None


def _parts(inner: str) -> list[str] | None:
    """Quoted texts, numbers and words for nothing, with commas or (numpy) white space between them."""
    parts: list[Any] = []
    position, inner = 0, inner.strip()
    while position < len(inner):
        match = _PART.match(inner, position)
        if match is None:
            return None
        if match[1] is not None:
            try:
                parts.append(ast.literal_eval(match[1]))
            except (ValueError, SyntaxError):
                return None
        elif match[2] in MISSING:
            parts.append(None)
        elif re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", match[2]):
            parts.append(match[2])
        else:
            return None
        position = match.end()
    return _texts(parts)


def _texts(parts: Sequence[Any]) -> list[str] | None:
    if any(isinstance(part, list | dict) for part in parts):
        return None
    return [str(part) for part in parts if part is not None and str(part).strip() and part == part]
