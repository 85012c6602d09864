"""Readers of tables and of Amazon's files, good and bad."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from seqmm.data.readers.amazon import read_metadata, read_reviews
from seqmm.data.readers.table import read_items, read_log


def write(path, text):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def json_lines(path, records):
    return write(path, "".join(json.dumps(record) + "\n" for record in records))


TABLE = "user_id{0}item_id{0}rating{0}timestamp\nbob{0}x{0}5{0}100\nann{0}y{0}1{0}50\nbob{0}y{0}3{0}70\n"


@pytest.mark.parametrize(
    ("name", "separator"), [("a.tsv", "\t"), ("a.csv", ","), ("a.tsv.gz", "\t"), ("a.csv.gz", ",")]
)
def test_tables(tmp_path, name, separator):
    log = read_log(write(tmp_path / name, TABLE.format(separator)))
    assert (log.user_ids, log.item_ids) == (["bob", "ann"], ["x", "y"])  # first appearance
    assert log.user.tolist() == [0, 1, 0] and log.item.tolist() == [0, 1, 1]
    assert log.timestamp.tolist() == [100, 50, 70] and log.position is None and log.label is None


def test_parquet_with_a_date_column(tmp_path):
    times = pl.Series([1_400_000_000, 1_400_086_400]).cast(pl.Int64) * 1000
    frame = pl.DataFrame({"u": [10, 9], "i": [1, 2], "when": times.cast(pl.Datetime("ms"))})
    frame.write_parquet(tmp_path / "a.parquet")
    log = read_log(tmp_path / "a.parquet", user="u", item="i", timestamp="when")
    assert log.user_ids == ["9", "10"] and log.user.tolist() == [1, 0]  # integer ids go by value
    assert log.timestamp.tolist() == [1_400_000_000, 1_400_086_400]


def test_integer_ids_keep_their_order_but_padded_ones_are_names(tmp_path):
    file = write(tmp_path / "a.csv", "user_id,item_id\n10,007\n9,12\n10,12\n")
    log = read_log(file)
    assert log.user_ids == ["9", "10"] and log.item_ids == ["007", "12"]


def test_column_map_labels_positions_and_milliseconds(tmp_path):
    file = write(
        tmp_path / "a.csv", "who,what,at,pos,fold\n1,2,1500000000123,0,train\n1,3,1500000001999,1,Valid\n1,4,,2,2\n"
    )
    log = read_log(file, user="who", item="what", timestamp="at", position="pos", split="fold", time_unit="ms")
    assert log.label.tolist() == [0, 1, 2] and log.position.tolist() == [0, 1, 2]
    assert log.timestamp.tolist() == [1_500_000_000, 1_500_000_001, -1]


def test_iso_dates(tmp_path):
    file = write(tmp_path / "a.csv", "user_id,item_id,timestamp\n1,2,2014-05-13\n1,3,2014-05-14\n")
    assert read_log(file).timestamp.tolist() == [1_399_939_200, 1_400_025_600]


def test_incomplete_rows_are_left_out_and_counted(tmp_path):
    file = write(tmp_path / "a.csv", "user_id,item_id,timestamp\n1,2,5\n,3,6\n1,,7\n1,4,\n")
    log = read_log(file)
    assert len(log) == 1 and log.incomplete == 3


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("user_id,item\n1,2\n", {}, "a.csv has no column 'item_id'; it has: user_id, item"),
        ("user_id,item_id\n1,2\n", {"timestamp": "when"}, "a.csv has no column 'when'"),
        ("user_id,item_id,timestamp\n1,2,5\n1,3,soon\n", {}, "row 2, column 'timestamp': 'soon' is not a time"),
        ("user_id,item_id,timestamp\n,2,5\n1,3,soon\n", {}, "row 2, column 'timestamp': 'soon'"),
        ("user_id,item_id,timestamp\n1,2,1500000000000\n", {"time_unit": "s"}, "row 1.*milliseconds"),
        ("user_id,item_id,timestamp\n1,2,-4\n", {}, "row 1.*'-4'.*after 1970"),
        ("user_id,item_id,timestamp\n1,2,nan\n", {}, "row 1.*'nan'"),
        ("user_id,item_id,position\n1,2,0\n1,3,1.5\n", {}, "row 2, column 'position': '1.5'"),
        ("user_id,item_id,split\n1,2,0\n1,3,holdout\n", {}, "row 2, column 'split': 'holdout' is not a split label"),
        ("user_id,item_id\n,2\n", {}, "no complete row"),
        ("", {}, "a.csv is empty"),
    ],
)
def test_bad_tables(tmp_path, text, columns, message):
    with pytest.raises(ValueError, match=message):
        read_log(write(tmp_path / "a.csv", text), **columns)


def test_missing_file_and_unknown_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv"):
        read_log(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="unknown kind of table '.xls'"):
        read_log(write(tmp_path / "a.xls", "x"))
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_log(write(tmp_path / "a.csv", "user_id,item_id\n1,2,3,4\n"))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.CSV", "a.csv.gz"])
def test_tables_as_people_send_them(tmp_path, name, mark):
    """Byte order mark, CRLF, empty lines, blanks in the header, another separator; ids to the letter."""
    text = "\ufeff\r\n\r\nuser_id, item_id ,timestamp\r\n\r\nu 1,007,5\r\n,,\r\nu2, 08 ,6\r\n\r\n".replace(",", mark)
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    log = read_log(file)
    assert log.user_ids == ["u 1", "u2"] and log.item_ids == ["007", " 08 "]
    assert log.timestamp.tolist() == [5, 6] and log.incomplete == 3


def test_ids_that_went_through_floats(tmp_path):
    """A table with gaps turns integers into floats; the ids do not gain a ".0"."""
    pl.DataFrame({"user_id": [1.0, None, 3.0], "item_id": [2, 2, 5], "timestamp": [1, 2, 3]}).write_parquet(
        tmp_path / "a.parquet"
    )
    log = read_log(tmp_path / "a.parquet")
    assert (log.user_ids, log.item_ids, log.incomplete) == (["1", "3"], ["2", "5"], 1)
    pl.DataFrame({"item_id": [2.0, None], "title": ["a", "b"]}).write_parquet(tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet", key="item_id")["id"].to_list() == ["2", None]
    pl.DataFrame({"item_id": [2.5], "title": ["a"]}).write_parquet(tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet", key="item_id")["id"].to_list() == ["2.5"]


def test_vectors_in_an_items_table_are_no_text(tmp_path):
    for name, column in (
        ("v", pl.Series([[1.0, 2.0]], dtype=pl.Array(pl.Float32, 2))),
        ("photo", pl.Series([b"\xff"])),
    ):
        pl.DataFrame({"item_id": ["a"], name: column}).write_parquet(tmp_path / "i.parquet")
        with pytest.raises(ValueError, match=f"column '{name}' holds .*, which is no text; leave it out of the table"):
            read_items(tmp_path / "i.parquet", key="item_id")


def test_recbole_files(tmp_path):
    file = write(tmp_path / "ml.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t5\n")
    log = read_log(file, user="user_id:token", item="item_id:token", timestamp="timestamp:float")
    assert (log.user_ids, log.item_ids, log.timestamp.tolist()) == (["1"], ["2"], [5])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id,item_id\n1,café\n".encode("latin-1"), "is not UTF-8 text; save it as UTF-8"),
        (b"user_id,item_id\n" + b"1,2\n" * 5000 + b"1,caf\xe9\n", "is not UTF-8 text; save it as UTF-8"),
        ("user_id,item_id\n1,2\n".encode("utf-16"), "is not UTF-8 text"),
        (
            b'user_id,item_id\n1,2\n1,"a\nb"\n1,x,y\n',
            "line 5 has 3 cells, the header 2 .'1,x,y'.; quote a text that holds ','",
        ),
        (b"user_id,item_id,user_id\n1,2,3\n", "has 2 columns 'user_id'; rename all but one"),
        (b"\n\n \n", "is empty; expected a header line"),
        (b"user_id/item_id\n1/2\n", "has no column 'user_id'; it has: user_id/item_id"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.csv.*{message}"):
        read_log(tmp_path / "a.csv")


def test_long_texts_stay_as_they_are(tmp_path):
    """Markup and line breaks are what sentences are cut by; a title is one line."""
    file = tmp_path / "items.csv"
    file.write_text(
        'item_id,title,description\n1,"two\nlines &amp; more","<p>One.</p>\nTwo &amp; three"\n1,again,\n,lost,x\n'
    )
    items = read_items(file, key="item_id")
    assert items.rows() == [
        ("1", "two lines & more", "<p>One.</p>\nTwo &amp; three"),
        ("1", "again", None),  # what is wrong with ids is for prepare() to count
        (None, "lost", "x"),
    ]


def test_items_table(tmp_path):
    file = write(tmp_path / "items.tsv", 'movie\tname\tgenres\n1\tTom &amp; "Jerry\t A|B|\n2\t\t\n')
    items = read_items(file, key="movie", rename={"title": "name"}, lists={"genres": "|"})
    assert items["id"].to_list() == ["1", "2"]
    assert items["title"].to_list() == ['Tom & "Jerry', None]
    assert items["genres"].to_list() == [["A", "B"], []]
    with pytest.raises(ValueError, match="has no column 'nix'"):
        read_items(file, key="nix")
    with pytest.raises(ValueError, match="has a column 'genres' already, so 'name' cannot take that name"):
        read_items(file, key="movie", rename={"genres": "name"})
    renamed = read_items(file, key="item_id", rename={"item_id": "movie"})
    assert renamed["id"].to_list() == ["1", "2"]


def test_items_in_json(tmp_path):
    by_id = write(tmp_path / "items.json", json.dumps({"7": {"title": "A  b"}, "8": {"title": "C", "brand": "D"}}))
    items = read_items(by_id, key="item_id")
    assert items.rows() == [("7", "A b", None), ("8", "C", "D")]
    lines = json_lines(tmp_path / "items.jsonl.gz", [{"item_id": 7, "title": "A"}, {"item_id": 8, "title": "B"}])
    assert read_items(lines, key="item_id").rows() == [("7", "A"), ("8", "B")]
    mixed = json_lines(tmp_path / "mixed.jsonl", [{"item_id": 7, "tags": "A"}, {"item_id": 8, "tags": ["B"]}])
    with pytest.raises(ValueError, match="text in every row or a list in every row"):
        read_items(mixed, key="item_id")
    nested = json_lines(tmp_path / "nested.jsonl", [{"item_id": 7, "about": {"a": 1}, "tags": ["x", 2]}])
    assert read_items(nested, key="item_id").rows() == [("7", "{'a': 1}", ["x", "2"])]
    with pytest.raises(ValueError, match=r"bad\.json: not valid JSON"):
        read_items(write(tmp_path / "bad.json", "{"), key="item_id")
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2: not valid JSON"):
        read_items(write(tmp_path / "bad.jsonl", '{"item_id": 1}\n{"item_id": 2\n'), key="item_id")
    with pytest.raises(ValueError, match=r"not valid JSON \(the key '7' is there twice; keep one\)"):
        read_items(write(tmp_path / "twice.json", '{"7": {"title": "A"}, "7": {"title": "B"}}'), key="item_id")
    with pytest.raises(ValueError, match="record 2 is not an object of columns"):
        read_items(write(tmp_path / "list.json", '[{"item_id": 1}, 2]'), key="item_id")
    listed = write(
        tmp_path / "ok.json", '[{"item_id": 1, "title": "A \\ud83c cut"}, {"item_id": 1, "title": "\\ud83c\\udfa7"}]'
    )
    assert read_items(listed, key="item_id").rows() == [("1", "A \ufffd cut"), ("1", "\U0001f3a7")]


def test_reviews_2014_and_2018(tmp_path):
    record = {"reviewerID": "A", "asin": "X", "overall": 5.0, "unixReviewTime": 1_400_000_000}
    for year in (2014, 2018):
        log = read_reviews(json_lines(tmp_path / "r.json.gz", [record, record | {"asin": "Y"}]), year)
        assert (log.user_ids, log.item_ids, log.timestamp.tolist()) == (["A"], ["X", "Y"], [1_400_000_000] * 2)


def test_ratings_only(tmp_path):
    old = read_reviews(write(tmp_path / "a.csv", "A,X,5.0,1400000000\nB,X,4.0,1500000000\n"), 2014)
    new = read_reviews(write(tmp_path / "b.csv.gz", "X,A,5.0,1400000000\nX,B,4.0,1500000000\n"), 2018)
    last = read_reviews(
        write(tmp_path / "c.csv", "user_id,parent_asin,rating,timestamp\nA,X,5,1400000000999\nB,X,4,1500000000000\n"),
        2023,
    )
    for log in (old, new, last):
        assert (log.user_ids, log.item_ids) == (["A", "B"], ["X"])
        assert log.timestamp.tolist() == [1_400_000_000, 1_500_000_000]


def test_reviews_2023(tmp_path):
    record = {
        "rating": 5.0,
        "title": "t",
        "asin": "child",
        "parent_asin": "P",
        "user_id": "U",
        "timestamp": 1588687728923,
    }
    log = read_reviews(json_lines(tmp_path / "r.jsonl", [record]), 2023)
    assert (log.user_ids, log.item_ids, log.timestamp.tolist()) == (["U"], ["P"], [1588687728])


def test_metadata_2023(tmp_path):
    record = {
        "parent_asin": "P",
        "title": "Shovel &amp; spade",
        "features": ["strong", "red"],
        "description": ["One.", "Two."],
        "price": 9.5,
        "images": [{"large": "http://a", "thumb": "t"}, {"large": None}],
        "categories": ["Garden", "Tools"],
        "details": {"Brand": "ACME", "Color": "red"},
    }
    other = {"parent_asin": "Q", "title": None, "images": None, "details": {}}
    file = json_lines(tmp_path / "m.jsonl", [record, other, other | {"parent_asin": "R"}, record])
    rows = read_metadata(file, 2023, ["P", "Q"]).rows(named=True)
    assert rows[0] == {
        "id": "P",
        "title": "Shovel &amp; spade",
        "features": ["strong", "red"],
        "description": "One.\nTwo.",
        "brand": "ACME",
        "categories": ["Garden", "Tools"],
        "price": "9.5",
        "images": ["http://a"],
    }
    assert rows[1]["title"] == "" and rows[1]["images"] == []
    assert len(rows) == 3 and rows[2] == rows[0]  # what is there twice is told, not dropped: prepare() counts it


def test_metadata_2014_and_2018(tmp_path):
    loose = str({"asin": "P", "title": "It's", "brand": "B", "imUrl": "u", "categories": [["a", "b"], ["c"]]}) + "\n"
    row = read_metadata(write(tmp_path / "m.json.gz", loose), 2014, {"P"}).row(0, named=True)
    assert (row["title"], row["categories"], row["images"], row["price"]) == ("It's", ["a", "b"], ["u"], "")
    record = {
        "asin": "P",
        "category": ["a"],
        "description": ["x"],
        "imageURLHighRes": ["h"],
        "feature": ["f"],
        "price": "$1",
    }
    row = read_metadata(json_lines(tmp_path / "n.json", [record]), 2018, {"P"}).row(0, named=True)
    assert (row["categories"], row["description"], row["images"], row["features"]) == (["a"], "x", ["h"], ["f"])


def test_metadata_as_other_copies_have_them(tmp_path):
    """Halves of an emoji, 2018's first release, and the Hub's viewer, which turns a list of objects around."""
    old = {"asin": "P", "image": ["a", "b"], "description": ["x \ud83c", "", "y"], "brand": None, "title": ["A", "B"]}
    row = read_metadata(json_lines(tmp_path / "m.json", [old]), 2018, {"P"}).row(0, named=True)
    assert (row["images"], row["description"], row["brand"], row["title"]) == (["a", "b"], "x \ufffd\ny", "", "A B")
    images = {"hi_res": [None, "h2"], "large": ["l1", "l2"], "thumb": ["t1", "t2"]}
    row = read_metadata(json_lines(tmp_path / "n.json", [{"parent_asin": "P", "images": images}]), 2023, {"P"})
    assert row["images"].to_list() == [["l1", "l2"]]


def test_details_in_a_string(tmp_path):
    rows = [{"parent_asin": name, "details": text} for name, text in (("P", '{"Brand": "ACME"}'), ("Q", ""))]
    assert read_metadata(json_lines(tmp_path / "m.jsonl", rows), 2023, "PQ")["brand"].to_list() == ["ACME", ""]
    for broken in ('{"Brand": ', "[1]"):
        file = json_lines(tmp_path / "n.jsonl", [rows[0], {"parent_asin": "Q", "details": broken}])
        with pytest.raises(ValueError, match=r"n\.jsonl, row 2, field 'details': .*not a JSON object"):
            read_metadata(file, 2023, "PQ")
        assert len(read_metadata(file, 2023, "P")) == 1  # nobody asked for the other


@pytest.mark.parametrize("year", [2014, 2018, 2023])
def test_incomplete_reviews_are_left_out_and_counted(tmp_path, year):
    user, item, time = (
        ("user_id", "parent_asin", "timestamp") if year == 2023 else ("reviewerID", "asin", "unixReviewTime")
    )
    good = {user: "A", item: "X", time: 5000}
    bad = [good | {name: value} for name in (user, item, time) for value in (None, "")]
    log = read_reviews(json_lines(tmp_path / "a.jsonl", [good, *bad, good | {user: "B"}]), year)
    assert (log.user_ids, log.item_ids, len(log), log.incomplete) == (["A", "B"], ["X"], 2, 6)
    with pytest.raises(ValueError, match="holds no review with user, item and time"):
        read_reviews(json_lines(tmp_path / "b.jsonl", bad), year)


@pytest.mark.parametrize(
    ("year", "time", "message"),
    [
        (2014, 1_400_000_000_000, "is not a time in seconds; .* of another year"),
        (2018, -5, "is not a time after 1970"),
        (2018, float("inf"), "is not a time"),
        (2023, -5000, "is not a time after 1970"),
        (2023, 1_400_000_000_000_000_000, "is not a time in milliseconds"),
    ],
)
def test_impossible_times_of_reviews(tmp_path, year, time, message):
    row = {"user_id": "A", "parent_asin": "X", "timestamp": 1} | {"reviewerID": "A", "asin": "X", "unixReviewTime": 1}
    late = row | {"timestamp": time, "unixReviewTime": time}
    with pytest.raises(ValueError, match=rf"a\.jsonl, row 2, field '.*': {time} {message}"):
        read_reviews(json_lines(tmp_path / "a.jsonl", [row, late]), year)


def test_bad_reviews(tmp_path):
    good = {"reviewerID": "A", "asin": "X", "unixReviewTime": 1}
    with pytest.raises(ValueError, match=r"row 2: no field 'asin'.*2014"):
        read_reviews(json_lines(tmp_path / "a.json", [good, {"reviewerID": "A"}]), 2014)
    with pytest.raises(ValueError, match=r"row 2, field 'unixReviewTime': 'soon' is not a time"):
        read_reviews(json_lines(tmp_path / "b.json", [good, good | {"unixReviewTime": "soon"}]), 2014)
    with pytest.raises(ValueError, match=r"c\.json, row 1: not a JSON object"):
        read_reviews(write(tmp_path / "c.json", "{broken\n"), 2014)
    whole = gzip.compress(b"".join(json.dumps(good | {"asin": str(n)}).encode() + b"\n" for n in range(5000)))
    (tmp_path / "d.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"d\.json\.gz cannot be read to its end"):
        read_reviews(tmp_path / "d.json.gz", 2014)
    with pytest.raises(ValueError, match="holds no review"):
        read_reviews(write(tmp_path / "e.json", "\n"), 2014)
    assert np.array_equal(read_reviews(json_lines(tmp_path / "f.json", [good] * 3), 2014).item, [0, 0, 0])
