"""What quotes in a text table mean, record by record, and how many records there are.

A quote opens a cell only at the cell's beginning, and closes it only before a separator or the end of a line (RFC
4180); anywhere else it is text, as in ``15" screen``. Where a record can be read in several ways, its width decides: it
must have as many cells as the header. In this order: as RFC 4180 has it; with quotes escaped by backslashes; line by
line with quotes that close nowhere on their line as text. What has the right width in none of them is refused. Two
readings go by the whole table:

* once a backslash was needed, backslashes escape quotes in every record;
* a table with tabs in which quotes stand as text, and where no quoted cell holds a tab, a line break or a quote, was
  written without quoting: all its quotes are text.

A quoted cell that swallows lines which look like rows themselves is no cell: its quote is text, and a warning says so.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

logger = logging.getLogger(__name__)

BLOCK = 1 << 24
"""Bytes looked at together, at most."""
SMALL = 1 << 16
"""Bytes read record by record where a quote is out of place."""
LONGEST = 1 << 20
"""Bytes of a quoted cell; what is open for longer is not closed."""
SAMPLE = 1000
"""Lines that say what a row looks like."""
SHAPES = 6
"""Ways to write a cell (``a9`` for u33) that a column of ids, numbers or dates has at most."""
SHOWN = 60
"""Characters of a line in an error."""
_QUOTE, _END, _RETURN = 34, 10, 13


class Canonical(NamedTuple):
    """A table's rows as any parser reads them: every record of one width, every quote as RFC 4180 has it."""

    content: bytes
    rows: int
    """Records, counted by their line ends outside of quotes."""
    quoted: bool
    """Whether quotes are quotes; False = there are none, or all are text."""


class _Restart(Exception):
    """Another reading of the quotes goes for the whole table."""


class _Refused(Exception):
    """A record that cannot be read; the message goes behind the file's name."""


@dataclass
class _Block:
    """Records of a part of the table, if all its quotes are as RFC 4180 has them."""

    starts: np.ndarray
    ends: np.ndarray
    """Where each record begins and where its line feed is, in the block."""
    cells: np.ndarray
    spans: np.ndarray
    """Cells and lines of each record."""
    telling: bool
    """Some quoted cell holds a separator, a line break or a quote."""


def canonical(
    content: bytes, start: int, separator: str, names: Sequence[str], file: Path, *, quotes: bool = True
) -> Canonical:
    """The rows of a table whose quotes are sorted out.

    Args:
        content: of the file; lines end in a line feed, the last one, too.
        start: where the rows begin.
        separator: one ASCII character.
        names: of the columns.
        file: for errors.
        quotes: False = all quotes are text.

    Raises:
        ValueError: a row of another width, a quote that closes nowhere; with line, column and value.
    """
    scan = _Scan(content, start, separator.encode(), list(names), file)
    scan.literal = not quotes or scan.next_opening(start, len(content)) < 0
    while True:
        try:
            return scan.run()
        except _Restart:
            continue
        except _Refused as refused:
            raise ValueError(f"{file} cannot be read as a table: {refused}") from None


@dataclass
class _Scan:
    content: bytes
    start: int
    mark: bytes
    names: list[str]
    file: Path
    literal: bool = False
    backslashes: bool = False
    text: bool = field(default=False, init=False)
    """A quote stands as text somewhere."""
    telling: bool = field(default=False, init=False)
    swallowed: list[tuple[int, int]] = field(default_factory=list, init=False)
    """Line and column of each quote that would swallow rows."""
    size: int = field(default=BLOCK, init=False)
    """Bytes of the next block."""

    def __post_init__(self) -> None:
        mark = re.escape(self.mark)
        self.escapes = b'\\"' in self.content
        self.opening = re.compile(rb"[\n" + mark + rb']"')
        self.whole_cell = re.compile(rb'"((?:[^"]|"")*)"' + mark)

    def run(self) -> Canonical:
        """All blocks of the table."""
        self.pieces: list[bytes] = []
        self.rows, self.text, self.telling, self.swallowed, self.taken = 0, False, False, [], self.start
        position = self.start
        while position < len(self.content):
            position = self._plain(position) if self.literal else self._quoted(position)
        if self.text and not self.telling and self.mark == b"\t" and not self._is_quoted():
            self.literal = True
            raise _Restart
        for line, column in self.swallowed[:1]:
            logger.warning(
                "%s, line %d: a quote opens the cell of column %r and is closed lines below, but the lines between are "
                "rows of the table: they were read as rows, the quote as text (%d such). Quote or remove it.",
                self.file, line, self.names[column], len(self.swallowed),
            )  # fmt: skip
        if not self.pieces:
            return Canonical(self.content[self.start :], self.rows, not self.literal)
        self.pieces.append(self.content[self.taken :])
        return Canonical(b"".join(self.pieces), self.rows, not self.literal)

    # -- blocks of lines ----------------------------------------------------------------------------------------------

    def _plain(self, position: int, until: int | None = None) -> int:
        """Lines in which no quote quotes."""
        stop = len(self.content) if until is None else until
        end = stop if stop - position <= BLOCK else self.content.rfind(b"\n", position, position + BLOCK) + 1
        if end <= position:  # a line longer than a block
            end = self.content.index(b"\n", position) + 1
        block = np.frombuffer(self.content, np.uint8, end - position, position)
        ends = np.flatnonzero(block == _END)
        cells = np.diff(np.searchsorted(np.flatnonzero(block == self.mark[0]), ends), prepend=0) + 1
        starts = np.concatenate([[0], ends[:-1] + 1])
        self._accept(position, _Block(starts, ends, cells, np.ones(len(ends), np.int64), False))
        return end

    def _quoted(self, position: int) -> int:
        """Records up to the end of one."""
        if self.content.find(b'"', position, position + BLOCK) < 0:
            return self._plain(position)
        end = min(position + self.size, len(self.content))
        block = self._split(np.frombuffer(self.content, np.uint8, end - position, position))
        if block is not None and self._sound(position, block):
            self.size = min(2 * self.size, BLOCK)
            self.telling |= block.telling
            self._accept(position, block)
            return position + int(block.ends[-1]) + 1
        self.size = max(self.size // 8, SMALL)  # where one quote is out of place, others are
        end = self.content.find(b"\n", min(position + SMALL, len(self.content)) - 1) + 1
        return self._record_by_record(position, end)

    def _split(self, array: np.ndarray) -> _Block | None:
        """The whole records of a block by the parity of its quotes; None if a quote is not where RFC 4180 has it."""
        quotes = np.flatnonzero(array == _QUOTE)
        ends = np.flatnonzero(array == _END)
        outer = ends[(np.searchsorted(quotes, ends) & 1) == 0]
        if not len(outer):
            return None
        quotes = quotes[: np.searchsorted(quotes, outer[-1])]
        ends = ends[: np.searchsorted(ends, outer[-1], "right")]
        opening, closing = quotes[::2], quotes[1::2]
        before = np.where(opening == 0, _END, array[opening - 1])
        after = array[closing + 1]
        then = array[np.minimum(closing + 2, len(array) - 1)]
        sound = (before == self.mark[0]) | (before == _END) | (before == _QUOTE)
        closed = (after == self.mark[0]) | (after == _END) | (after == _QUOTE) | ((after == _RETURN) & (then == _END))
        if not (sound.all() and closed.all()):
            return None
        marks = np.flatnonzero(array[: outer[-1]] == self.mark[0])
        outside = marks[(np.searchsorted(quotes, marks) & 1) == 0]
        cells = np.diff(np.searchsorted(outside, outer), prepend=0) + 1
        spans = np.diff(np.searchsorted(ends, outer), prepend=-1)
        telling = len(outer) != len(ends) or len(outside) != len(marks) or bool((before == _QUOTE).any())
        return _Block(np.concatenate([[0], outer[:-1] + 1]), outer, cells, spans, telling)

    def _sound(self, position: int, block: _Block) -> bool:
        """Whether a block's records have the right width, and none swallows others."""
        if self.backslashes and self.content.find(b'\\"', position, position + int(block.ends[-1])) >= 0:
            return False
        for row in np.flatnonzero(block.cells != len(self.names)):
            if self.content[position + block.starts[row] : position + block.ends[row]].strip():
                return False
        return not any(
            self._swallows(position + int(block.starts[row]), position + int(block.ends[row]))
            for row in np.flatnonzero(block.spans > 1)
        )

    def _accept(self, position: int, block: _Block) -> None:
        """Counts records; an empty line becomes a row of empty cells."""
        self.rows += len(block.ends)
        for row in np.flatnonzero(block.cells != len(self.names)).tolist():
            first, last = position + int(block.starts[row]), position + int(block.ends[row])
            if block.cells[row] > 1 or self.content[first:last].strip():
                raise _Refused(self._wrong_width(first, int(block.cells[row])))
            self._replace(first, last, self.mark * (len(self.names) - 1))

    def _replace(self, first: int, last: int, record: bytes) -> None:
        self.pieces += [self.content[self.taken : first], record]
        self.taken = last

    # -- one record after the other -----------------------------------------------------------------------------------

    def next_opening(self, position: int, until: int) -> int:
        """The first line from here with a quote at the beginning of a cell; -1 if there is none."""
        if self.content[position : position + 1] == b'"':
            return position
        found = self.opening.search(self.content, position, until)
        return -1 if found is None else max(self.content.rfind(b"\n", position, found.end()) + 1, position)

    def _record_by_record(self, position: int, until: int) -> int:
        """Records with quoted cells one by one, lines without any together."""
        while position < until:
            line = self.next_opening(position, until)
            stop = until if line < 0 else min(line, until)
            if stop > position:
                self._text_lines(position, stop)
                position = stop
            if position < until:
                position = self._record(position)
        return position

    def _text_lines(self, first: int, last: int) -> None:
        """Lines in which every quote is text."""
        if self.content.find(b'"', first, last) < 0:
            while first < last:
                first = self._plain(first, last)
            return
        self.text = True
        lines = self.content[first:last].replace(b"\r\n", b"\n")[:-1].split(b"\n")
        self.rows += len(lines)
        for number, line in enumerate(lines):
            if line.count(self.mark) != len(self.names) - 1:
                if line.strip():
                    place = first
                    for _ in range(number):
                        place = self.content.index(b"\n", place) + 1
                    raise _Refused(self._wrong_width(place, line.count(self.mark) + 1))
                lines[number] = self.mark * (len(self.names) - 1)
        quoted = b"\n".join(lines).replace(b'"', b'""')
        quoted = quoted.replace(self.mark, b'"' + self.mark + b'"').replace(b"\n", b'"\n"')
        self._replace(first, last, b'"' + quoted + b'"\n')

    def _record(self, first: int) -> int:
        """One record that begins with this line; where the next one does."""
        width = len(self.names)
        for backslashes in (True, False) if self.backslashes else (False, True):
            if backslashes and not self.escapes:
                continue
            found = self._cells(first, backslashes)
            if found is None or len(found[0]) != width:
                continue
            cells, last = found
            if self.content.find(b"\n", first, last) >= 0 and self._swallows(first, last):
                opened = self._open_cell(first)
                self.swallowed.append((self._line(first), opened))
                break
            if backslashes and not self.backslashes:
                self.backslashes = True
                raise _Restart
            self.rows += 1
            self.telling |= any(mark in cell for cell in cells for mark in (self.mark, b"\n", b'"'))
            if backslashes:
                self._replace(first, last, self._written(cells))
            return last + 1
        last = self.content.index(b"\n", first)
        cells = self._line_cells(first, last)
        if len(cells) != width:
            cells = self.content[first:last].removesuffix(b"\r").split(self.mark)
        if len(cells) != width:
            raise _Refused(self._no_record(first, last, len(cells)))
        self.rows, self.text = self.rows + 1, True
        self._replace(first, last, self._written(cells))
        return last + 1

    def _cells(self, position: int, backslashes: bool) -> tuple[list[bytes], int] | None:
        """A record's cells and where its line feed is; None if a quote is out of place."""
        cells: list[bytes] = []
        while len(cells) < len(self.names):
            if self.content[position] == _QUOTE:
                found = self._quoted_cell(position, backslashes)
                if found is None:
                    return None
                cell, position = found
            else:
                end = self.content.find(b"\n", position)
                mark = self.content.find(self.mark, position, end)
                cell, position = self.content[position : mark if mark >= 0 else end], mark if mark >= 0 else end
                if b'"' in cell:
                    return None
                cell = cell if mark >= 0 else cell.removesuffix(b"\r")
            cells.append(cell)
            if self.content[position] == _END:
                return cells, position
            position += 1
        return None  # more cells than there are columns

    def _quoted_cell(self, position: int, backslashes: bool) -> tuple[bytes, int] | None:
        """What is in a quoted cell, and where the separator or line feed after it is."""
        start = at = position + 1
        while True:
            quote = self.content.find(b'"', at, start + LONGEST)
            if quote < 0:
                return None
            escapes = quote - len(self.content[start:quote].rstrip(b"\\")) - start if backslashes else 0
            if escapes % 2 or self.content[quote + 1] == _QUOTE:
                at = quote + (1 if escapes % 2 else 2)
                continue
            break
        cell = self.content[start:quote]
        cell = re.sub(rb'\\(["\\])|""', lambda m: m[1] or b'"', cell) if backslashes else cell.replace(b'""', b'"')
        after = quote + 1
        if self.content[after : after + 2] == b"\r\n":
            after += 1
        return (cell, after) if self.content[after] in (self.mark[0], _END) else None

    def _line_cells(self, first: int, last: int) -> list[bytes]:
        """A line's cells; a quote that does not close before a separator on this line is text."""
        line = self.content[first:last].removesuffix(b"\r") + self.mark
        cells, position = [], 0
        while position < len(line):
            end = line.index(self.mark, position)
            quoted = self.whole_cell.match(line, position)
            if quoted:
                cells.append(quoted[1].replace(b'""', b'"'))
                position = quoted.end()
            else:
                cells.append(line[position:end])
                position = end + 1
        return cells

    def _written(self, cells: Sequence[bytes]) -> bytes:
        """A record as RFC 4180 has it."""
        return self.mark.join(b'"' + cell.replace(b'"', b'""') + b'"' if cell else b"" for cell in cells)

    # -- rows within a cell -------------------------------------------------------------------------------------------

    def _swallows(self, first: int, last: int) -> bool:
        """Whether the lines of one record are rows themselves, by their width and by how their cells are written."""
        width = len(self.names)
        if width == 1 or self.content.find(self.mark, first, self.content.index(b"\n", first)) < 0:
            return False
        lines = self.content[first:last].split(b"\n")
        if any(line.count(self.mark) != width - 1 for line in lines):
            return False
        shapes = self._column_shapes() or [
            set() if b'"' in cell or b"9" not in _shape(cell) else {_shape(cell)} for cell in lines[0].split(self.mark)
        ]
        if not any(known and all(b"9" in shape for shape in known) for known in shapes):
            return False  # nothing tells a row from a text with separators
        last_cells = (line.rstrip(b"\r").split(self.mark) for line in lines[1:])
        return all(
            not known or _shape(cell) in known
            for cells in last_cells for cell, known in zip(cells, shapes, strict=True)
            if b'"' not in cell
        )  # fmt: skip

    def _column_shapes(self) -> list[set[bytes]]:
        """How each column's cells are written, where it is in few ways, by lines without quotes; [] without any."""
        if not hasattr(self, "shapes"):
            head = self.content[self.start : self.start + (1 << 20)].split(b"\n")[: 4 * SAMPLE]
            rows = [line.rstrip(b"\r").split(self.mark) for line in head if b'"' not in line]
            rows = [cells for cells in rows if len(cells) == len(self.names)][:SAMPLE]
            self.shapes: list[set[bytes]] = [set() for _ in self.names] if len(rows) > 1 else []
            if self.shapes:
                for column, cells in enumerate(zip(*rows, strict=True)):
                    counts = Counter(map(_shape, cells))
                    if len(counts) <= SHAPES and not any(b" " in shape for shape in counts):
                        self.shapes[column] = set(counts)
        return self.shapes

    def _open_cell(self, first: int) -> int:
        """The column of the cell whose quote stays open at the end of the line."""
        cells = self._line_cells(first, self.content.index(b"\n", first))
        return next((place for place, cell in enumerate(cells) if cell.startswith(b'"')), 0)

    # -- errors -------------------------------------------------------------------------------------------------------

    def _line(self, position: int) -> int:
        return self.content.count(b"\n", 0, position) + 1

    def _is_quoted(self) -> bool:
        """Whether the header, or all cells of some column, are in quotes: then quotes are quotes."""
        if b'"' in self.content[: self.start]:
            return True
        head = self.content[self.start : self.start + SMALL].split(b"\n")[:-1]
        rows = [cells for line in head if len(cells := line.rstrip(b"\r").split(self.mark)) == len(self.names)]
        columns = zip(*rows, strict=True)
        return any(
            all(len(c) > 1 and c[:1] == c[-1:] == b'"' for c in column if c) and any(column) for column in columns
        )

    def _shown(self, value: bytes) -> str:
        text = value.decode("utf-8", "replace").replace("\x1f", "::")
        return repr(text[:SHOWN])

    def _wrong_width(self, first: int, cells: int) -> str:
        line = self.content[first : self.content.index(b"\n", first)].rstrip(b"\r")
        mark = self.mark.decode().replace("\x1f", "::")
        hint = f"; quote a text that holds {mark!r}" if cells > len(self.names) else "; complete or remove the row"
        return f"line {self._line(first)} has {cells} cells, the header {len(self.names)} ({self._shown(line)}){hint}"

    def _no_record(self, first: int, last: int, cells: int) -> str:
        """Why a line with quotes is no record: a quote that closes nowhere, or too few or too many cells."""
        found = self._line_cells(first, last)
        opened = next((place for place, cell in enumerate(found) if cell.startswith(b'"')), None)
        if opened is None:
            return self._wrong_width(first, len(found))
        column = repr(self.names[opened]) if opened < len(self.names) else f"number {opened + 1}"
        return (
            f"line {self._line(first)}, column {column}: {self._shown(found[opened])} begins with a quote that is not "
            f"closed before a separator, and without it the line has {cells} cells, the header {len(self.names)}; "
            'write a quote within a quoted text twice ("")'
        )


def _shape(cell: bytes) -> bytes:
    """How a cell is written: u33 as a9, 2024-05-01 as 9-9-9."""
    shape = re.sub(rb"[0-9]+", b"9", cell[:64])
    return re.sub(rb"[A-Za-z\x80-\xff]+", b"a", shape)
