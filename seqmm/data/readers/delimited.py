"""Text tables: how one is written (separator, header, line ends), and its columns by the one reader of all text tables.

Header and rows follow the same rules. polars reads the cells; how many rows there are was counted before, by the line
ends outside of quotes (:mod:`seqmm.data.readers.quoting`), and both must agree.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqmm.data.readers.content import HEAD, bare_name, content_of
from seqmm.data.readers.quoting import canonical

if TYPE_CHECKING:
    import polars as pl

TABS = (".tsv", ".txt", ".tab", ".dat", ".data", ".inter", ".item")
KINDS = {".csv": ",", **dict.fromkeys(TABS, "\t"), ".psv": "|"}
"""Endings of text tables -> the separator unless the file says otherwise."""
OTHERS = (";", "\t", ",", "|", "::")
"""Separators that a header without the usual one may have."""
STAND_IN = "\x1f"
"""A separator of two characters is read as this one."""
LINES = 200
"""Lines that say which separator it is."""


@dataclass(frozen=True)
class Dialect:
    """How a text table is written."""

    separator: str
    names: tuple[str, ...]
    """Of the columns; one without a name is ``Unnamed: N``, as pandas calls it."""
    start: int
    """Byte at which the rows begin."""


def text_columns(file: Path) -> list[str]:
    """Names in the header of a text table.

    Raises:
        FileNotFoundError, ValueError: as :func:`~seqmm.data.readers.content.content_of`; an empty table.
    """
    return list(_dialect(_head(_unix(content_of(file, 2 * HEAD), file)), file, None).names)


def read_text(file: Path, columns: Sequence[str] | None, header: Sequence[str] | None = None) -> pl.DataFrame:
    """A text table's columns (None = all) as text, empty cells as null.

    Args:
        file: to read.
        columns: names; each is there once.
        header: names of a table without a header line.

    Raises:
        FileNotFoundError, ValueError: as :func:`text_columns`; a row of another width, a quote that closes nowhere.
    """
    content = _unix(content_of(file), file)
    dialect = _dialect(_head(content), file, header)
    if dialect.separator == "::":
        if STAND_IN.encode() in content:
            raise ValueError(f"{file} is separated by '::' and holds the control character 1F; remove it")
        content = content.replace(b"::", STAND_IN.encode())
        dialect = _dialect(_head(content), file, header, STAND_IN)
    return _parse(content, dialect, file, dialect.names if columns is None else columns)


def parse_plain(content: bytes, file: Path, separator: str, names: Sequence[str]) -> pl.DataFrame:
    """A text's columns by the names given, where there is no header and every quote is text.

    Raises:
        ValueError: a row of another width; the file's name is for that alone.
    """
    return _parse(_unix(content, file), Dialect(separator, tuple(names), 0), file, list(names), quotes=False)


def _parse(content: bytes, dialect: Dialect, file: Path, wanted: Sequence[str], *, quotes: bool = True) -> pl.DataFrame:
    import polars as pl

    names = [str(place) for place in range(len(dialect.names))]
    found = canonical(content, dialect.start, dialect.separator, dialect.names, file, quotes=quotes)
    if not found.rows:
        return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    places = sorted({dialect.names.index(name) for name in wanted})
    try:
        frame = pl.read_csv(
            found.content,
            separator=dialect.separator,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            columns=places,
            quote_char='"' if found.quoted else None,
        )
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{file} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if len(frame) != found.rows:
        raise ValueError(
            f"{file} has {found.rows} rows by its line ends outside of quotes, and {len(frame)} were read; the table "
            "is not read as it is, so it is refused: save it as parquet"
        )
    frame.columns = [dialect.names[place] for place in places]
    empty = [pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in frame.columns]
    return frame.select(empty).select(wanted)


def _unix(content: bytes, file: Path) -> bytes:
    """The text with line feeds as line ends, the last one included; line ends within quotes stay."""
    if b"\r" in content:
        first = re.search(rb"\r\n?|\n", content)
        if first is not None and first[0] == b"\r":
            content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif b'"' not in content:
            content = content.replace(b"\r\n", b"\n")
    if not content.strip():
        raise ValueError(f"{file} is empty; expected a header line")
    return content if content.endswith(b"\n") else content + b"\n"


def _head(content: bytes) -> bytes:
    """The first lines, whole."""
    return content[: content.rfind(b"\n", 0, HEAD) + 1] or content


def _dialect(head: bytes, file: Path, header: Sequence[str] | None, separator: str | None = None) -> Dialect:
    """How a table that begins so is written."""
    usual = KINDS[Path(bare_name(file)).suffix]
    start = 0
    while header is None and start < len(head) and not head[start : head.index(b"\n", start)].strip():
        start = head.index(b"\n", start) + 1
    line = head[start : head.find(b"\n", start) + 1]
    if not line:
        raise ValueError(f"{file} begins with empty lines alone; expected a header line")
    said = re.fullmatch(rb'"?sep=(::|[^\s"]|\t)"?\s*', line, re.IGNORECASE)
    if said:
        separator = separator or said[1].decode("utf-8", "replace")
        start += len(line)
        if separator != "::" and not separator.isascii():
            raise ValueError(f"{file} is separated by {separator!r}; save it with commas, semicolons or tabs")
    if start >= len(head):
        raise ValueError(f"{file} is empty; expected a header line")
    end = head.index(b"\n", start) + 1
    first = _text(head[start : end - 1])
    body = _text(head[end if header is None else start :]).split("\n")
    body = [row for row in body[:LINES] if row.strip()]
    if separator is None:
        order = [mark for mark in dict.fromkeys((usual, *OTHERS)) if mark in first] or [usual]
        width = {mark: len(header or _cells(first, mark)) for mark in order}
        separator = max(order, key=lambda mark: _share(body, mark, width[mark]))  # of equals, the first
    if header is not None:
        return Dialect(separator, tuple(header), start)
    _check_blanks([first, *body], separator, file)
    names = _quoted_header(head, start, separator) or (_cells(first, separator), end)
    named = _with_row_names([name.strip() for name in names[0]], body, separator, '"' in first)
    if not any(named):
        raise ValueError(f"{file} is empty; expected a header line")
    return Dialect(separator, tuple(name or f"Unnamed: {n}" for n, name in enumerate(named)), names[1])


def _text(part: bytes) -> str:
    return part.decode("utf-8", "replace").replace("\r", "")


def _cells(line: str, separator: str) -> list[str]:
    """One line's cells."""
    if len(separator) > 1:
        line, separator = line.replace(separator, STAND_IN), STAND_IN
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a cell of more than 128 kB
        return line.split(separator)


def _share(body: Sequence[str], separator: str, width: int) -> float:
    """How many of the lines have as many cells as the header, or one more (row names)."""
    if not body:
        return 0.0
    widths = [len(_cells(row, separator)) for row in body]
    return max(widths.count(width), 0.99 * widths.count(width + 1)) / len(body)


def _quoted_header(head: bytes, start: int, separator: str) -> tuple[list[str], int] | None:
    """The names of a header whose quoted cells hold line breaks, and where it ends."""
    end = head.index(b"\n", start) + 1
    while head.count(b'"', start, end) % 2 and end < len(head):
        end = head.index(b"\n", end) + 1
    if end == head.index(b"\n", start) + 1 or end == len(head):
        return None
    rows = list(csv.reader([_text(head[start : end - 1])], delimiter=separator)) if len(separator) == 1 else []
    return (rows[0], end) if len(rows) == 1 else None


def _check_blanks(lines: Sequence[str], separator: str, file: Path) -> None:
    """Raises ValueError where most lines have blanks between a separator and a quote: is the quote text?"""
    blank = re.compile(re.escape(separator) + ' +"')
    found = [line for line in lines if blank.search(line)]
    if 2 * len(found) > len(lines):
        raise ValueError(
            f"{file} has blanks between separators and quotes ({found[0][:60]!r}), which makes the quotes part of the "
            "text; remove the blanks"
        )


def _with_row_names(names: list[str], body: Sequence[str], separator: str, quoted: bool) -> list[str]:
    """The names, and one more where every row has a cell more: R's row names, or separators at the rows' ends."""
    rows = [_cells(row, separator) for row in body]
    if not rows or Counter(map(len, rows)).most_common(1)[0][0] != len(names) + 1:
        return names
    if any(len(row) == len(names) for row in rows):
        return names
    whole = [row for row in rows if len(row) == len(names) + 1]
    if all(not row[-1] for row in whole):
        return [*names, ""]
    r_like = quoted or separator == "\t"  # elsewhere each row may hold a text with a separator
    if r_like and [row[0] for row in whole] == [str(n) for n in range(1, len(whole) + 1)]:
        return ["", *names]
    return names
