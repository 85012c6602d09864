"""Quotes at random places in tables of 60,000 rows: every row and cell as an independent parser has them."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmm.data.readers.quoting import canonical
from seqmm.data.readers.table import read_table

NAMES = ["user_id", "item_id", "timestamp", "title", "review"]
TITLES = np.array(["fine", "so good", "a screen", "two, three", "", "tape", "é–"], object)
WHOLE = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)


def table(rng: np.random.Generator, rows: int, mark: str) -> np.ndarray:
    """``[rows, 5]`` cells without quotes or line breaks."""
    users, items = (np.char.add(name, rng.integers(0, n, rows).astype(str)) for name, n in (("u", 5000), ("i", 900)))
    times = (1_600_000_000 + rng.integers(0, 10**7, rows)).astype(str)
    titles = TITLES if mark != "," else np.array([title.replace(",", "") for title in TITLES], object)
    texts = titles[rng.integers(0, len(titles), (rows, 2))]
    return np.column_stack([users.astype(object), items.astype(object), times.astype(object), texts])


def scatter(cells: np.ndarray, rng: np.random.Generator, columns: list[int], many: int) -> None:
    """Puts quotes at random places of random cells: before, behind, within, twice, around."""
    for row, column in zip(rng.integers(0, len(cells), many), rng.choice(columns, many), strict=True):
        cell = cells[row, column]
        place = int(rng.integers(0, len(cell) + 1))
        kind = rng.integers(0, 6)
        if kind == 5:
            cells[row, column] = f'"{cell}"'
        else:
            place = (0, len(cell), place, place, place)[kind]
            cells[row, column] = cell[:place] + ('"' if kind < 4 else '""') + cell[place:]


def written(cells: np.ndarray, mark: str, end: str) -> str:
    return end.join([mark.join(NAMES), *(mark.join(row) for row in cells)]) + end


def read(tmp_path_factory, text: str):
    file = tmp_path_factory.mktemp("quotes") / "a.csv"
    file.write_bytes(text.encode())
    found = [["" if cell is None else cell for cell in row] for row in read_table(file, None).rows()]
    file.unlink()
    return found


def line_by_line(text: str, mark: str, end: str) -> list[list[str]]:
    """The independent parser of tables without line breaks in cells: lines, cut at separators."""
    rows = [line.split(mark) for line in text.split(end)[1:-1]]
    return [
        [c[1:-1].replace('""', '"') if WHOLE.fullmatch(c) else c for c in row] if '"' in str(row) else row
        for row in rows
    ]


def stray(tmp_path_factory, seed: int, rows: int) -> None:
    """Quotes that nobody meant."""
    rng = np.random.default_rng(seed)
    mark, end = rng.choice([",", ";"]), rng.choice(["\n", "\r\n"])
    cells = table(rng, rows, mark)
    scatter(cells, rng, [[3, 4], [4], [0, 1, 3, 4]][seed % 3], int(rng.integers(1, 40)))
    text = written(cells, mark, end)
    assert read(tmp_path_factory, text) == line_by_line(text, mark, end)


def sound(tmp_path_factory, seed: int, rows: int) -> None:
    """Quotes as csv.writer sets them, around separators, line breaks and quotes: against csv, strict."""
    rng = np.random.default_rng(seed)
    mark = str(rng.choice([",", ";", "\t"]))
    cells = table(rng, rows, mark)
    for row, column in zip(rng.integers(0, rows, 300), rng.integers(3, 5, 300), strict=True):
        cells[row, column] = str(rng.choice(['15" tv', "a\nb", f"a{mark}b", '"', 'x ""', f'"a"{mark}\r\n"b"', "\n"]))
    stream = io.StringIO(newline="")
    how = csv.QUOTE_ALL if seed % 4 == 0 else csv.QUOTE_MINIMAL
    csv.writer(stream, delimiter=mark, lineterminator=("\n", "\r\n")[seed % 2], quoting=how).writerows([NAMES, *cells])
    text = stream.getvalue()
    expected = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))[1:]
    assert read(tmp_path_factory, text) == expected


def mixed(tmp_path_factory, seed: int, rows: int) -> None:
    """Sound cells with line breaks, and inch marks elsewhere: against what was written."""
    rng = np.random.default_rng(seed)
    cells = table(rng, rows, ",")
    expected = cells.copy()
    places = rng.choice(rows, 200, replace=False)
    for row in places[:100]:
        expected[row, 4] = 'so\n"good", really'
        cells[row, 4] = '"so\n""good"", really"'
    for row in places[100:]:
        expected[row, 3] = cells[row, 3] = str(rng.choice(['a 15" tv', '5" x 7"', 'the "best"', '"open', 'open "']))
    assert read(tmp_path_factory, written(cells, ",", "\n")) == expected.tolist()


KINDS = [stray, sound, mixed]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=7, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_short_tables(tmp_path_factory, kind, seed):
    kind(tmp_path_factory, seed, 3000)


@pytest.mark.exhaustive  # 200 tables of 60,000 rows a kind, minutes
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_long_tables(tmp_path_factory, kind, seed):
    kind(tmp_path_factory, seed, 60_000)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.text(alphabet='a1", \n\r\\é', max_size=6), min_size=3, max_size=3), min_size=1, max_size=6))
def test_whatever_csv_writes_is_read_back(tmp_path_factory, cells):
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(cells)
    body = stream.getvalue().encode()
    found = canonical(body, 0, ",", ["a", "b", "c"], "a.csv")
    assert (found.rows, found.content) == (len(cells), body)
