"""Tables as real people have them, through the door of prepare: read as they are, or refused with what to do."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import seqmm
from seqmm.data.readers.cells import list_of, text_ids
from seqmm.data.readers.table import column_names, find_table, read_items, read_log, read_table
from seqmm.data.readers.vectors import read_vectors
from seqmm.evaluation.list_files import read_lists, read_pairs
from tests.conftest import REPOSITORY

CASES = REPOSITORY / "tests" / "cases" / "tables"
ITEMS = [f"i{n}" for n in range(20)]
BASE = (CASES / "base.csv").read_text().splitlines()


def prepared(interactions, items=None, **options):
    options = {"k_core": 0, "protocol": "ratio", "index_order": "source"} | options
    return seqmm.prepare_corpus(interactions, items, **options)


def rows_of(corpus):
    return sum(len(part) for part in corpus.splits.values())


def write(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def base(extra: str = "review", cells: dict[int, str] | None = None, mark: str = ",") -> str:
    """The 320 interactions with one more column, some of its cells as given (by line, the header's is 1)."""
    cells = {1: extra} | (cells or {})
    return "".join(
        mark.join([*line.split(","), cells.get(number, "fine")]) + "\n" for number, line in enumerate(BASE, 1)
    )


# -- quotes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quote_in_unread_column.csv", "quote_stray_once.csv", "C_mac.csv", "W_sep.csv"])
def test_every_row_of_an_odd_table_is_read(name):
    log, expected = read_log(CASES / name), read_log(CASES / "base.csv")
    assert (log.user_ids, log.item_ids) == (expected.user_ids, expected.item_ids)
    assert np.array_equal(log.user, expected.user) and np.array_equal(log.item, expected.item)
    assert np.array_equal(log.timestamp, expected.timestamp) and log.incomplete == 0
    assert rows_of(prepared(CASES / name)) == 320


def test_inch_marks_in_titles():
    corpus = prepared(CASES / "base.csv", CASES / "quote_items_titles.csv")
    titles = dict(zip(corpus.item_ids, corpus.titles, strict=True))
    assert titles["i4"] == titles["i9"] == 'Monitor 15" wide' and titles["i19"] == "Thing 19"


@pytest.mark.parametrize(
    "cells",
    [
        {7: '15" screen', 90: 'said "ok" no'},
        {7: '"great', 200: 'good"'},  # opens in one row, closes in another: both are rows
        {7: '"great'},
        {7: 'great"', 8: '"great'},
        {7: '"very" good'},
        {321: '"last'},
        {2: '"first', 3: '"second', 4: 'third"'},
        {7: '""', 9: '"""', 11: '""""'},
        {1: '"re""view"', 7: '"a, ""b""', 9: '"a\nb"'} | {7: '"a, ""b"""'},
    ],
)
@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_quotes_where_nobody_looks(tmp_path, cells, mark):
    log = read_log(write(tmp_path / "a.csv", base(cells=cells, mark=mark)))
    expected = read_log(CASES / "base.csv")
    assert np.array_equal(log.user, expected.user) and np.array_equal(log.timestamp, expected.timestamp)
    assert log.item_ids == expected.item_ids and log.incomplete == 0


@pytest.mark.parametrize("text", ['id\tt\n1\t"a\n2\tb\n3\tc"\n', 'id\tt\tu\n1\t"a\tx\n2\tb\ty\n3\tc"\tz\n'])
def test_rows_between_two_stray_quotes_of_a_short_table(tmp_path, text):
    for mark in "\t,":
        table = read_table(write(tmp_path / "a.csv", text.replace("\t", mark)), None)
        assert table["id"].to_list() == ["1", "2", "3"] and table["t"].to_list() == ['"a', "b", 'c"']
    lines = 'item_id,about\ni1,"soft\nred, 9\nblue"\n'
    assert read_table(write(tmp_path / "a.csv", lines), None).rows() == [("i1", "soft\nred, 9\nblue")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"id", "t"\n"1", "a, b"\n', "has blanks between separators and quotes"),
        ('id,t\n1, "a"\n2, "b"\n', "has blanks between separators and quotes .'1, \"a\"'.*; remove the blanks"),
        ("id,t\n1,'a, b'\n2,'c, d'\n", "line 2 has 3 cells, the header 2"),
        ("id,t\n1,a, b\n2,c, d\n", "line 2 has 3 cells, the header 2"),
    ],
)
def test_other_ways_of_quoting_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / "a.csv", text), None)


@pytest.mark.parametrize("value", [True, {"a": 1}, [1]])
def test_json_that_names_nobody(tmp_path, value):
    line = json.dumps({"user_id": value, "item_id": "x", "timestamp": 1_600_000_000})
    with pytest.raises(ValueError, match=r"a\.jsonl: column 'user_id' holds .*, which names nobody"):
        read_log(write(tmp_path / "a.jsonl", line + "\n"))


def test_rows_between_two_stray_quotes_are_said(tmp_path, caplog):
    read_log(write(tmp_path / "a.csv", base(cells={7: '"great', 200: 'good"'})))
    assert "a.csv, line 7: a quote opens the cell of column 'review'" in caplog.text


@pytest.mark.parametrize(
    ("cells", "value"),
    [
        ({7: '"say \\"hi\\""'}, 'say "hi"'),
        ({7: '"say \\"hi, you\\""', 9: '"C:\\\\d"'}, 'say "hi, you"'),
        ({7: '"two\nlines, ""one"" cell"'}, 'two\nlines, "one" cell'),
        ({7: '"two\r\nlines"'}, "two\r\nlines"),
        ({7: 'a "b" c'}, 'a "b" c'),
        ({7: ' "b"'}, ' "b"'),
        ({7: '"b" c'}, '"b" c'),
        ({7: '"'}, '"'),
        ({7: '""'}, None),
        ({7: "it's"}, "it's"),
    ],
)
def test_what_a_quoted_cell_holds(tmp_path, cells, value):
    table = read_table(write(tmp_path / "a.csv", base(cells=cells)), None)
    assert table["review"][5] == value and len(table) == 320
    assert table["review"].to_list()[8:] == ["fine"] * 312 and table["timestamp"].null_count() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('item_id,title\ni1,"a, b\ni2,c\n', "line 2, column 'title': '\"a' begins with a quote that is not closed"),
        ('item_id,title\ni1,a\ni2,"say "hi", you"\n', "line 3, column 'title': '\"say \"hi\"' begins with a quote"),
        ("item_id,title\ni1,a\n\ni2,b,c\n", "line 4 has 3 cells, the header 2 .'i2,b,c'.; quote a text that holds ','"),
        ("item_id,title,brand\ni1,a,b\ni2,a\n", "line 3 has 2 cells, the header 3 .'i2,a'.; complete or remove"),
        ('item_id,title,brand\ni1,"a\nb",c\ni2,a\n', "line 4 has 2 cells, the header 3 .'i2,a'.; complete or remove"),
        ('"item_id","title"\n"i1","a"\n"i2"\n', "line 3 has 1 cells, the header 2"),
        ("item_id\ttitle\ni1\ta\tb\n", r"line 2 has 3 cells, the header 2 .'i1\\ta\\tb'."),
    ],
)
def test_rows_of_another_width_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"a\.csv cannot be read as a table: {message}"):
        read_items(write(tmp_path / "a.csv", text), key="item_id")


def test_quoted_tsv():
    items = read_items(CASES / "tsv_quoted_items.tsv", key="item_id")
    assert items["id"].to_list() == ITEMS
    about = {row["id"]: row for row in items.rows(named=True)}
    assert about["i2"]["title"] == 'The "Best" mug'
    assert (about["i4"]["brand"], about["i4"]["description"]) == ("B0", "soft\nand\tlight")


def test_tsv_as_r_and_pandas_write_it(tmp_path):
    whole = '"user_id"\t"item_id"\t"timestamp"\n' + "".join(f'"u{n % 3}"\t"a\t{n}"\t{n}\n' for n in range(9))
    log = read_log(write(tmp_path / "a.tsv", whole))
    assert log.user_ids == ["u0", "u1", "u2"] and log.item_ids[8] == "a\t8"
    named = '"user_id"\t"item_id"\t"timestamp"\n' + "".join(f'"{n}"\t"u{n % 3}"\t"i{n}"\t{n}\n' for n in range(1, 9))
    log = read_log(write(tmp_path / "b.tsv", named))  # R: row names, and no name above them
    assert log.user_ids == ["u1", "u2", "u0"] and log.item_ids[0] == "i1" and len(log) == 8


def test_tsv_without_any_quoting(tmp_path):
    text = 'item_id\ttitle\tbrand\ni1\t"Heroes"\tA\ni2\t"Best" mug\tB\ni3\t12" disc\tC\ni4\t"Open\tD\n'
    items = read_items(write(tmp_path / "a.tsv", text), key="item_id")
    assert items["title"].to_list() == ['"Heroes"', '"Best" mug', '12" disc', '"Open']
    quoted = text + 'i5\t"a\ttab"\tE\n'  # one cell needs its quotes: all are quotes where they can be
    items = read_items(write(tmp_path / "b.tsv", quoted), key="item_id")
    assert items["title"].to_list() == ["Heroes", '"Best" mug', '12" disc', '"Open', "a tab"]


def test_tsv_whose_ids_are_all_quoted(tmp_path):
    text = 'user_id\titem_id\ttimestamp\treview\n"u1"\t"i1"\t1\t15" tv\n"u2"\t"i2"\t2\tfine\n'
    assert read_log(write(tmp_path / "a.tsv", text)).user_ids == ["u1", "u2"]


def test_the_header_follows_the_rules_of_the_rows(tmp_path):
    text = 'item_id;"title; or ""name""";"two\nlines"\ni1;a;b\n'
    assert column_names(write(tmp_path / "a.csv", text)) == ["item_id", 'title; or "name"', "two\nlines"]
    table = read_table(tmp_path / "a.csv", None)
    assert table.rows() == [("i1", "a", "b")]


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("a.tsv", "item_id\ttitle, or name\ni1\ta, b\n", "a, b"),
        ("a.csv", "item_id\ttitle, or name\ni1\ta\ni2\tb\n", "a"),
        ("a.csv", "item_id;title,x\ni1;1,5\ni2;b\n", "1,5"),
        ("a.csv", "item_id|title\ni1|a\n", "a"),
        ("a.csv", "item_id::title\ni1::a:b\n", "a:b"),
        ("a.dat", "item_id::title\ni1::a\n", "a"),
        ("a.csv", '"sep=|"\r\nitem_id|title\r\ni1|a,b\r\n', "a,b"),
        ("a.txt", "SEP=,\nitem_id,title\ni1,a\n", "a"),
    ],
)
def test_separators(tmp_path, name, text, title):
    table = read_table(write(tmp_path / name, text), None)
    assert table.row(0) == ("i1", title)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_empty_lines(tmp_path, end):
    text = "\ufeffuser_id,item_id,timestamp\n1,2,3\n\n1,3,4\n,,\n \n1,4,5\n\n".replace("\n", end)
    log = read_log(write(tmp_path / "a.csv", text))
    assert log.item_ids == ["2", "3", "4"] and log.timestamp.tolist() == [3, 4, 5] and log.incomplete == 4


def test_line_ends_of_old_macs_around_line_feeds_in_cells(tmp_path):
    table = read_table(write(tmp_path / "a.csv", b'item_id,title\ri1,"two\nlines"\ri2,b'), None)
    assert table.rows() == [("i1", "two\nlines"), ("i2", "b")]


def test_a_header_longer_than_what_is_looked_at(tmp_path):
    names = ["item_id", *(f"a quite long name of a number in a vector {n:05}" for n in range(20_000))]
    row = ",".join(["i1", *(["0.5"] * 20_000)])
    file = write(tmp_path / "a.csv", ",".join(names) + "\n" + row + "\n")
    assert column_names(file) == names
    assert read_table(file, names[:2] + names[-1:]).row(0) == ("i1", "0.5", "0.5")


def test_no_column_of_that_name(tmp_path):
    with pytest.raises(ValueError, match=r"names before the first if these are none$"):
        read_log(write(tmp_path / "a.csv", "ann,tea\nbob,jam\n"))
    with pytest.raises(ValueError, match="Is it separated by something else than commas"):
        read_log(write(tmp_path / "a.csv", "ann tea\nbob jam\n"))


@pytest.mark.parametrize(
    "text",
    [BASE[1] + "\n" + BASE[2], "1::1193::5::978300760\n1::661::3::978302109", "an,tea,2021-03-01\nbob,jam,2021-03-02"],
)
def test_no_header(tmp_path, text):
    with pytest.raises(ValueError, match=r"its first line looks like data, not names: .*write a line"):
        read_log(write(tmp_path / "a.csv", text + "\n"))
    with pytest.raises(ValueError, match="first line looks like data"):
        read_log(CASES / "N.csv")


# -- a table against an independent parser -----------------------------------------------------------------------------


def test_rows_and_cells_equal_those_of_an_independent_parser(tmp_path):
    """Sound quoting, 5,000 rows: every cell as Python's csv has it."""
    rng = np.random.default_rng(0)
    parts = np.array(["a", 'b "c"', "d,e", "f\ng", '"', '""', "", "h\r\ni", "ü"])
    rows = rng.choice(parts, (5000, 4)).tolist()
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([["id", "x", "y", "z"], *rows])
    table = read_table(write(tmp_path / "a.csv", stream.getvalue()), None)
    expected = list(csv.reader(io.StringIO(stream.getvalue(), newline=""), strict=True))[1:]
    assert [[cell or "" for cell in row] for row in table.rows()] == expected


# -- ids and what is missing -------------------------------------------------------------------------------------------


def test_nan_is_no_user():
    log = read_log(CASES / "user_NaN.parquet")
    assert (len(log), log.incomplete) == (480, 30) and "NaN" not in log.user_ids and log.user_ids[:2] == ["0", "1"]


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "N/A", "NULL", "null", "None", "<NA>", "\\N", "#N/A"])
def test_words_for_nothing(tmp_path, word, capsys):
    log = read_log(write(tmp_path / "a.csv", f"user_id,item_id,timestamp\n1,2,3\n{word},2,4\n1,{word},4\n"))
    assert (len(log), log.incomplete, log.user_ids, log.item_ids) == (1, 2, ["1"], ["2"])
    assert log.notes == tuple(f"column {name!r}: {word!r} (1 rows) taken as missing" for name in ("user_id", "item_id"))
    items = read_items(
        write(tmp_path / "i.csv", f"item_id,title,brand\n1,{word},a\n2,b,{word}\n{word},c,d\n"), key="item_id"
    )
    assert items.rows() == [("1", None, "a"), ("2", "b", None), (None, "c", "d")]


@pytest.mark.parametrize("blank", [" ", "\u3000", "  \u00a0"])
def test_white_space_names_nobody(tmp_path, blank):
    log = read_log(write(tmp_path / "a.csv", f"user_id,item_id,timestamp\n1,2,3\n{blank},2,4\n1,{blank},4\n"))
    assert (len(log), log.incomplete, log.user_ids, log.item_ids) == (1, 2, ["1"], ["2"])


def test_prepare_says_which_words_were_taken_as_missing(tmp_path):
    text = "\n".join(BASE) + "\nNA,i1,5,1600025431\nnull,i2,5,1600025431\n"
    corpus = prepared(write(tmp_path / "a.csv", text))
    assert corpus.info["rows_incomplete"] == 2
    assert corpus.info["reading"] == "column 'user_id': 'NA' (1 rows), 'null' (1 rows) taken as missing"


def test_nan_in_json_lines():
    items = read_items(CASES / "nan_items.jsonl", key="item_id")
    assert items["title"].to_list()[:2] == [None, "Thing 1"] and items["price"].null_count() == 20
    assert items["brand"].to_list()[:2] == ["Acme", None]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("['Action', 'G0']", ["Action", "G0"]),
        ('["Action", "G0"]', ["Action", "G0"]),
        ("['Action' 'G0']", ["Action", "G0"]),
        ("('Action',)", ["Action"]),
        ("{'Action', \"It's\"}", ["Action", "It's"]),
        ("['a\\'b', None, nan, 3]", ["a'b", "3"]),
        ("[]", []),
        ("['a', ['b']]", None),
        ("[REC]", None),
        ("['a', open('x')]", None),
        ("[" * 100_000, None),
    ],
)
def test_lists_written_as_text(cell, expected):
    assert list_of(cell) == expected


def test_a_column_of_lists_written_as_text(tmp_path, caplog):
    corpus = prepared(CASES / "base.csv", CASES / "list_cells_items.csv", tags=["categories"])
    assert {"Action", "G0", "G1", "G2", "G3"} == set(corpus.features["categories"].vocabulary)
    numpy_cells = "item_id\tgenres\n1\t['a' 'b']\n2\t\n3\t[]\n"
    assert read_items(write(tmp_path / "a.tsv", numpy_cells), key="item_id")["genres"].to_list() == [["a", "b"], [], []]
    mixed = "item_id\tgenres\n1\t['a', 'b']\n2\t['c']\n3\tlost\n"
    assert read_items(write(tmp_path / "b.tsv", mixed), key="item_id")["genres"].to_list()[2] == "lost"
    assert "b.tsv: cells of column 'genres' look like lists (['a', 'b']) and some are none" in caplog.text


def test_lists_of_parquet_stay_lists(tmp_path):
    pl.DataFrame({"item_id": ["1"], "genres": [["a", "nan", None]]}).write_parquet(tmp_path / "a.parquet")
    items = read_items(tmp_path / "a.parquet", key="item_id", lists={"genres": "|"})
    assert items["genres"].to_list() == [["a"]]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pl.Series([["u0"]] * 2), r"List\(String\)"),
        (pl.Series([{"a": 1}] * 2), "Struct"),
        (pl.Series([True, False]), "Boolean"),
        (pl.Series([1, 2]).cast(pl.Duration("us")), "Duration"),
        (pl.Series([1, 2]).cast(pl.Datetime("us")), "Datetime"),
        (pl.Series([b"\xff", b"a"]), "Binary"),
    ],
)
def test_types_that_name_nobody(tmp_path, column, kind):
    for role in ("user_id", "item_id"):
        frame = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2]})
        frame.with_columns(column.alias(role)).write_parquet(tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=rf"a\.parquet: column '{role}' holds {kind}.*, which names nobody"):
            read_log(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"list_user\.parquet: column 'user_id' holds List"):
        read_log(CASES / "list_user.parquet")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([1.0, float("nan"), None]), ["1", None, None]),
        (pl.Series([b"a", b"b", None]), ["a", "b", None]),
        (pl.Series(["a", "NA", ""]), ["a", None, None]),
        (pl.Series(["a", None, "b"], dtype=pl.Categorical), ["a", None, "b"]),
        (pl.Series([2.5, 1.0]), ["2.5", "1.0"]),
        (pl.Series([2**63 - 1, -1]), [str(2**63 - 1), "-1"]),
    ],
)
def test_ids_of_every_type(column, expected):
    assert text_ids(column).to_list() == expected


@pytest.mark.parametrize("cell", ["1.23457E+12", "9e+15", "1,2E+10"])
def test_ids_that_a_spreadsheet_shortened(tmp_path, cell):
    with pytest.raises(ValueError, match=r"a\.csv, row 2, column 'item_id': '.*' is a number that a spreadsheet"):
        read_log(write(tmp_path / "a.csv", f"user_id;item_id\n1;2\n1;{cell}\n"))


def test_floats_that_lost_digits_are_no_ids():
    with pytest.raises(ValueError, match="row 2, column 'user_id': .* has lost its last digits"):
        text_ids(pl.Series("user_id", [1.0, 2.0**53 + 2]))
    with pytest.raises(ValueError, match="row 2, column 'user_id': inf is no id"):
        text_ids(pl.Series("user_id", [1.0, float("inf")]))


# -- index columns -----------------------------------------------------------------------------------------------------


def test_the_index_of_pandas_is_no_vector(tmp_path):
    corpus = prepared(
        CASES / "base.csv", CASES / "base_items.csv", features={"image": CASES / "vectors_with_index.csv"}
    )
    assert corpus.features["image"].dim == 4
    assert "ignored, as it numbers the rows: column 'Unnamed: 0'" in corpus.info["image_vectors"]


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "index", "__index_level_0__"])
def test_columns_that_number_the_rows(tmp_path, name):
    frame = pl.DataFrame({name: [0, 1], "item_id": ["a", "b"], "v0": [0.5, 1.5], "v1": [2.0, 3.0]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    for file in (tmp_path / "a.parquet", tmp_path / "a.csv"):
        values, _, report = read_vectors(file, ["b", "a"])
        assert values.tolist() == [[1.5, 3.0], [0.5, 2.0]] and report.ignored == (name,)
    frame.with_columns(pl.Series(name, [0.3, 0.1])).write_csv(tmp_path / "b.csv")
    if name == "index":
        assert read_vectors(tmp_path / "b.csv", ["a", "b"]).values.shape == (2, 3)
    else:
        with pytest.raises(ValueError, match=f"column '{name}' has no name of its own and does not number the rows"):
            read_vectors(tmp_path / "b.csv", ["a", "b"])


def test_an_index_is_no_column_of_items(tmp_path, caplog):
    text = ",item_id,title,\n0,a,Ah,\n1,b,Be,\n"
    items = read_items(write(tmp_path / "a.csv", text), key="item_id")
    assert (
        items.columns == ["id", "title"] and "column 'Unnamed: 0', 'Unnamed: 3' is taken for row numbers" in caplog.text
    )
    assert len(read_log(write(tmp_path / "b.csv", ",user_id,item_id\n0,1,2\n1,1,3\n"))) == 2


def test_pandas_round_trip(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"item_id": ["a", "b", "c"], "title": ['15" x', None, "two\nlines"]})[::-1]
    frame.to_csv(tmp_path / "a.csv")
    frame.to_csv(tmp_path / "a.tsv", sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.json")
    frame.to_json(tmp_path / "b.json", orient="split")
    frame.to_json(tmp_path / "c.json", orient="records")
    frame.to_json(tmp_path / "d.json", orient="records", lines=True)
    frame.to_json(tmp_path / "e.json", orient="index")
    for file in sorted(tmp_path.iterdir()):
        rows = read_items(file, key="item_id").select("id", "title").rows()
        assert rows == [("c", "two lines"), ("b", None), ("a", '15" x')], file.name


# -- kinds of files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["S_bom.jsonl", "S_lines.json"])
def test_json_lines(name):
    items = read_items(CASES / name, key="item_id")
    assert items["id"].to_list() == ITEMS and items["title"][19] == "Thing 19"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson.gz", "a.jsonl.gz"])
def test_interactions_in_json(tmp_path, name):
    lines = [
        {"user_id": 7, "item_id": "x\u2028y", "timestamp": 5, "text": "a\u2028b\u0085c"},
        {"user_id": 8, "item_id": "z", "timestamp": 6.0},
        {"user_id": None, "item_id": "z", "timestamp": 6},
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    file = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    log = read_log(file)
    assert (log.user_ids, log.item_ids) == (["7", "8"], ["x\u2028y", "z"])
    assert log.timestamp.tolist() == [5, 6] and log.incomplete == 1


def test_a_folder_of_parts(tmp_path):
    expected = read_log(CASES / "base.csv")
    assert len(read_log(CASES / "spark_folder.parquet")) == 320
    assert rows_of(prepared(CASES / "spark_folder.parquet")) == 320
    text = tmp_path / "interactions.csv"
    text.mkdir()
    write(text / "_SUCCESS", "")
    write(text / ".part-0.csv.crc", b"\0\1")
    for number, part in enumerate((BASE[1:100], BASE[100:])):
        write(text / f"part-{number}.csv.gz", gzip.compress("\n".join([BASE[0], *part]).encode()))
    log = read_log(find_table(tmp_path, "interactions"))
    assert np.array_equal(log.user, expected.user) and np.array_equal(log.timestamp, expected.timestamp)
    write(text / "part-2.csv.gz", gzip.compress(b"user_id,item_id\n1,2\n", mtime=0))
    with pytest.raises(ValueError, match=r"part-2\.csv\.gz has the columns user_id, item_id, part-0.* each part needs"):
        read_log(text)
    shutil.copy(CASES / "list_user.parquet", text / "part-3.parquet")
    with pytest.raises(ValueError, match="is no table in parts: it holds part-0"):
        read_log(text)
    (tmp_path / "day" / "day=1").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds folders \(day=1\); write it as one table"):
        read_log(tmp_path / "day")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", b"user_id,item_id\n1,2\n", r"a\.csv\.gz is not gzip, which its name says; take the \.gz off"),
        ("a.csv", gzip.compress(b"user_id,item_id\n1,2\n", mtime=0), r"a\.csv is gzip; let its name end in \.gz"),
        ("a.csv", b"PK\x03\x04 workbook", r"a\.csv is a zip archive or a workbook; unpack it, or save"),
        ("a.csv", b"PAR1 and more", r"a\.csv is parquet; let its name end in \.parquet"),
        ("a.csv", b"user_id,item_id\n1,\x00\n", r"a\.csv is not UTF-8 text.*line 2 holds a zero byte"),
        ("a.csv.gz", gzip.compress(b"user_id,item_id\n1,2\n", mtime=0)[:-9], "damaged or cut short, fetch it again"),
        ("a.csv.gz", b"", "is empty; expected a header line"),
        ("a.parquet", b"user_id,item_id\n1,2\n", r"a\.parquet cannot be read as a table"),
        ("a.jsonl", b'{"user_id": 1}\n{"user', r"a\.jsonl, line 2: not valid JSON"),
        ("a.json", b"[" * 100_000, r"a\.json: .*nested too deep|a\.json: not valid JSON"),
        ("a.json", b"[1, 2]", r"a\.json: record 1 is not an object of columns"),
        ("a.json", b"", r"a\.json"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_log(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_truncated_files():
    with pytest.raises(ValueError, match=r"truncated\.csv\.gz cannot be read to its end") as caught:
        prepared(CASES / "truncated.csv.gz")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"truncated\.npz is not a readable \.npz file of numbers") as caught:
        read_vectors(CASES / "truncated.npz", ITEMS)
    assert "\n" not in str(caught.value)


def test_a_packed_file_that_unpacks_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("seqmm.data.readers.content.UNPACKED", 1 << 20)
    file = write(tmp_path / "a.csv.gz", gzip.compress(b"user_id,item_id\n" + b"1,2\n" * 5_000_000))
    with pytest.raises(ValueError, match="unpacks to more than 200 times its size"):
        read_log(file)


def test_truth_lists_go_through_the_same_reader(tmp_path):
    quoted = 'user_id,item_id,rank,note\n1,a,1,15" tv\n1,b,2,"x\ny"\n2,c,1,"open\n'
    assert read_lists(write(tmp_path / "a.csv", quoted)) == {"1": ["a", "b"], "2": ["c"]}
    assert read_pairs(tmp_path / "a.csv") == {"1": ["a", "b"], "2": ["c"]}
    with pytest.raises(ValueError, match=r"row 1: the user \(column 'user_id'\) is missing"):
        read_pairs(write(tmp_path / "b.csv", "user_id,item_id\nNA,2\n"))
    assert read_lists(write(tmp_path / "c.json", '{"user": "1", "items": [2]}\n{"user": "2", "items": [3]}\n')) == {
        "1": ["2"],
        "2": ["3"],
    }
    with pytest.raises(ValueError, match="None in the list of user '1' is no item"):
        read_lists(write(tmp_path / "d.jsonl", '{"1": [null]}\n'))
