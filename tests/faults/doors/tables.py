"""Tables of interactions and items as people, spreadsheets and programs leave them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.hostile import EITHER, REFUSED, SOUND, Case, Door

USERS, ITEMS, STEPS = 30, 12, 6
START = 1_600_000_000
Row = tuple[str, str, int]
ROWS: list[Row] = [
    (f"u{user}", f"i{(user * (1 + step % 3) + 2 * step) % ITEMS}", START + 60 * step + user % 7)
    for step in range(STEPS)
    for user in range(USERS)
]
"""(user, item, seconds); an item may come twice, of which the first is kept."""


def _histories(rows: list[Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        history = found.setdefault(user, [])
        if item not in history:
            history.append(item)
    return found


def _same(rows: list[Row]) -> Callable[[Path], str | None]:
    """Whether the corpus holds exactly these histories, in this order."""

    def check(folder: Path) -> str | None:
        import numpy as np

        from seqmm.data.loading import load_corpus

        corpus, expected = load_corpus(str(folder / "out")), _histories(rows)
        parts = list(corpus.splits.values())
        user, item, place = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("user", "item", "position")
        )
        found: dict[str, list[str]] = {}
        for row in np.lexsort((place, user)).tolist():
            found.setdefault(corpus.user_ids[user[row]], []).append(corpus.item_ids[item[row]])
        if found.keys() != expected.keys():
            more, less = sorted(found.keys() - expected.keys())[:3], sorted(expected.keys() - found.keys())[:3]
            return f"{len(found)} users, {len(expected)} are right (beside: {more}, lost: {less})"
        wrong = [name for name in expected if found[name] != expected[name]]
        count = sum(map(len, found.values())), sum(map(len, expected.values()))
        if wrong:
            what = f"{len(wrong)} of {len(expected)} histories differ, {count[0]} rows where {count[1]} are right"
            return f"{what}; {wrong[0]!r} has {found[wrong[0]]}, right is {expected[wrong[0]]}"
        return None

    return check


def text(rows: list[Row] = ROWS, mark: str = ",", head: bool = True, **more: Callable[[int], str]) -> str:
    """The table as text; ``more`` are further columns, already as they stand in the file."""
    lines = [mark.join(["user_id", "item_id", "timestamp", *more])] if head else []
    for number, row in enumerate(rows):
        lines.append(mark.join([*map(str, row), *(cell(number) for cell in more.values())]))
    return "\n".join(lines) + "\n"


def _lay(folder: Path) -> None:
    (folder / "clicks.csv").write_text(text())


def _command(file: str, *more: str) -> tuple[str, ...]:
    return ("prepare", "table", "--interactions", file, "--k-core", "0", "--output", "out", *more)


_LEAVE = ("--protocols", "leave_one_out")
INTERACTIONS = Door("interactions", (), _lay, _command("clicks.csv", *_LEAVE), _same(ROWS))


def case(
    name: str,
    file: str,
    content: str | bytes | Callable[[Path], object],
    right: str = SOUND,
    *more: str,
    rows: list[Row] = ROWS,
    names: str | None = None,
) -> Case:
    """The table in another form: a file's content, or what writes it."""

    def spoil(folder: Path) -> None:
        (folder / "clicks.csv").unlink()
        target = folder / file
        if callable(content):
            content(target)
        elif isinstance(content, bytes):
            target.write_bytes(content)
        else:
            target.write_bytes(content.encode())

    arguments = ("--interactions", file, *more)  # the later flag wins
    return Case(INTERACTIONS, name, spoil, right, file if names is None else names, arguments, _same(rows))


def _frame(**columns: Any) -> Callable[[Path], object]:
    """A parquet file; columns as arrow makes them of these."""

    def write(file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        base = {name: [row[place] for row in ROWS] for place, name in enumerate(("user_id", "item_id", "timestamp"))}
        pq.write_table(
            pa.table(base | {name: made() if callable(made) else made for name, made in columns.items()}), file
        )

    return write


def _arrow(values: list[Any], kind: str, *arguments: Any) -> Callable[[], Any]:
    def make() -> Any:
        import pyarrow as pa

        return pa.array(values, getattr(pa, kind)(*arguments))

    return make


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


TIMES = [row[2] for row in ROWS]


def _time(form: Callable[[int], str]) -> str:
    return "user_id,item_id,timestamp\n" + "".join(f"{user},{item},{form(at)}\n" for user, item, at in ROWS)


def _quoted() -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerows([("user_id", "item_id", "timestamp"), *ROWS])
    return stream.getvalue()


def _every(step: int, cell: str, other: str = "fine") -> Callable[[int], str]:
    return lambda number: cell if number % step == 3 else other


def _jsonl(rows: list[Row] = ROWS, **more: Any) -> str:
    return "".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t} | more) + "\n" for u, i, t in rows)


def _parts(folder: Path) -> None:
    folder.mkdir()
    half = len(ROWS) // 2
    for number, rows in enumerate((ROWS[:half], ROWS[half:])):
        (folder / f"part-{number:05d}.csv").write_text(text(rows))
    (folder / "_SUCCESS").write_text("")


def _zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("clicks.csv", text())


_GZ = gzip.compress(text().encode())

FORMS: list[Case] = [
    case("tabs", "c.tsv", text(mark="\t")),
    case("gz", "c.csv.gz", _GZ),
    case("CRLF", "c.csv", text().replace("\n", "\r\n")),
    case("CR alone", "c.csv", text().replace("\n", "\r"), EITHER),
    case("BOM", "c.csv", b"\xef\xbb\xbf" + text().encode()),
    case("BOM and tabs", "c.tsv", b"\xef\xbb\xbf" + text(mark="\t").encode()),
    case("semicolons", "c.csv", text(mark=";")),
    case("sep line", "c.csv", "sep=;\n" + text(mark=";"), EITHER),
    case("sep line of commas", "c.csv", "sep=,\n" + text(), EITHER),
    case("all quoted", "c.csv", _quoted()),
    case("quoted and tabs", "c.tsv", _quoted().replace(",", "\t")),
    case("blank lines before", "c.csv", "\n\n" + text()),
    case("blank lines between", "c.csv", text().replace("\nu7,", "\n\nu7,"), EITHER),
    case("no end of line", "c.csv", text().rstrip("\n")),
    case("white space around names", "c.csv", text().replace("user_id,item_id", " user_id , item_id ")),
    case("no header", "c.csv", text(head=False), REFUSED),
    case("header twice", "c.csv", text().replace("timestamp\n", "timestamp\nuser_id,item_id,timestamp\n"), EITHER),
    case("two columns of one name", "c.csv", text().replace("item_id", "user_id", 1), REFUSED),
    case("header of another width", "c.csv", text().replace("timestamp\n", "timestamp,note\n"), EITHER),
    case("a cell too many", "c.csv", text().replace("\nu3,", "\nu3,x,", 1), REFUSED),
    case(
        "a cell too few", "c.csv", text().replace(f"\nu3,{ROWS[3][1]},", "\nu3,", 1), EITHER, rows=ROWS[:3] + ROWS[4:]
    ),
    case("empty", "c.csv", "", REFUSED),
    case("header alone", "c.csv", "user_id,item_id,timestamp\n", REFUSED),
    case("a folder of that name", "c.csv", lambda file: file.mkdir(), REFUSED),
    case("UTF-16", "c.csv", text().encode("utf-16"), EITHER),
    case("latin-1", "c.csv", text().replace("u3,", "ué,").encode("latin-1"), REFUSED),
    case(
        "NUL bytes",
        "c.csv",
        text().replace("u3,", "u\0,").encode(),
        EITHER,
        rows=[(u.replace("u3", "u\0") if u == "u3" else u, i, t) for u, i, t in ROWS],
    ),
    case("noise", "c.csv", bytes(range(256)) * 40, REFUSED),
    case("a web page", "c.csv", "<!DOCTYPE html>\n<html><body>Not found</body></html>\n", REFUSED),
    case("a zip called csv", "c.csv", _zip, REFUSED),
    case("a gz called csv", "c.csv", _GZ, EITHER),
    case("a csv called gz", "c.csv.gz", text(), EITHER),
    case("gz cut short", "c.csv.gz", _GZ[: len(_GZ) // 2], REFUSED),
    case("gz without its end", "c.csv.gz", _GZ[:-6], REFUSED),
    case("gz with a wrong sum", "c.csv.gz", _GZ[:-8] + b"\0\0\0\0" + _GZ[-4:], REFUSED),
    case(
        "gz in two members",
        "c.csv.gz",
        gzip.compress(text(ROWS[:90]).encode()) + gzip.compress(text(ROWS[90:], head=False).encode()),
    ),
    case("JSON lines", "c.jsonl", _jsonl(), EITHER),
    case("JSON lines with BOM", "c.jsonl", b"\xef\xbb\xbf" + _jsonl().encode(), EITHER),
    case("JSON lines called json", "c.json", _jsonl(), EITHER),
    case("JSON lines cut short", "c.jsonl", _jsonl()[:-9], REFUSED),
    case("JSON lines nested", "c.jsonl", _jsonl() + "[" * 20_000 + "]" * 20_000 + "\n", REFUSED),
    case("a folder of parts", "c.csv", _parts, EITHER),
    case("double colons", "c.dat", text(mark="::", head=False), REFUSED),
    case("csv in a tsv", "c.tsv", text()),
    case("tsv in a csv", "c.csv", text(mark="\t")),
    case("a column that nobody reads, of a million letters", "c.csv", text(note=_every(50, "x" * 1_000_000))),
    case("5,000 columns", "c.csv", text(**{f"c{n}": (lambda number: "0") for n in range(5_000)})),
    # quotes
    case("a quote in a cell nobody reads", "c.csv", text(note=_every(9, '15" screen')), EITHER),
    case("a quote that opens a cell nobody reads", "c.csv", text(note=_every(31, '"half open')), EITHER),
    case("a quote that ends a cell nobody reads", "c.csv", text(note=_every(9, 'the "end"')), EITHER),
    case("backslash quotes", "c.csv", text(note=_every(9, '"said \\"no\\" twice"')), EITHER),
    case("backslash before a comma", "c.csv", text(note=_every(9, '"a \\"b\\", c"')), EITHER),
    case("doubled quotes", "c.csv", text(note=_every(9, '"said ""no"" twice"'))),
    case("line breaks in quotes", "c.csv", text(note=_every(9, '"two\nlines"'))),
    case("commas in quotes", "c.csv", text(note=_every(9, '"a, b, ""c"""'))),
    case("quotes and tabs", "c.tsv", text(mark="\t", note=_every(9, '15" screen')), EITHER),
    case("a quoted tab", "c.tsv", text(mark="\t", note=_every(9, '"a\tb"')), EITHER),
    case("single quotes", "c.csv", text(note=_every(9, "it's 'so'"))),
    case("a quote in the last row", "c.csv", text() + 'u0,i11,1700000000,"\n', REFUSED),
    case(
        "a quote in an id",
        "c.csv",
        text([(u + '"' if u == "u3" else u, i, t) for u, i, t in ROWS]),
        EITHER,
        rows=[(u + '"' if u == "u3" else u, i, t) for u, i, t in ROWS],
    ),
    # times
    case("milliseconds", "c.csv", _time(lambda at: str(1000 * at + at % 7)), SOUND, "--time-unit", "ms"),
    case("microseconds", "c.csv", _time(lambda at: str(1_000_000 * at)), SOUND, "--time-unit", "us"),
    case("nanoseconds", "c.csv", _time(lambda at: str(1_000_000_000 * at)), EITHER, "--time-unit", "ns"),
    case("seconds said to be ms", "c.csv", text(), REFUSED, "--time-unit", "ms"),
    case("milliseconds said to be seconds", "c.csv", _time(lambda at: str(1000 * at)), REFUSED, "--time-unit", "s"),
    case("milliseconds without a word", "c.csv", _time(lambda at: str(1000 * at)), EITHER),
    case("fractions", "c.csv", _time(lambda at: f"{at}.25")),
    case("exponents", "c.csv", _time(lambda at: f"{at / 1e9:.9f}e9"), EITHER),
    case("ISO", "c.csv", _time(lambda at: _moment(at).isoformat())),
    case("ISO with Z", "c.csv", _time(lambda at: _moment(at).strftime("%Y-%m-%dT%H:%M:%SZ"))),
    case("ISO with another zone", "c.csv", _time(lambda at: _moment(at).strftime("%Y-%m-%dT%H:%M:%S+00:00"))),
    case("ISO with milliseconds", "c.csv", _time(lambda at: _moment(at).strftime("%Y-%m-%d %H:%M:%S.250"))),
    case("months or days", "c.csv", _time(lambda at: f"{1 + at % 11}/{1 + at % 5}/2017"), REFUSED),
    case(
        "year first without marks",
        "c.csv",
        _time(lambda at: _moment(at + 86_400 * (at % 60)).strftime("%Y%m%d")),
        REFUSED,
    ),
    case("words for times", "c.csv", _time(lambda at: "yesterday"), REFUSED),
    case("one word among times", "c.csv", text().replace(str(TIMES[40]), "soon"), REFUSED),
    case("infinite times", "c.csv", _time(lambda at: "inf"), REFUSED),
    case("all of 1970", "c.csv", _time(lambda at: str(at - START)), REFUSED),
    case("the year 3000", "c.csv", _time(lambda at: str(at + 30_000_000_000)), REFUSED),
    case("beyond 64 bits", "c.csv", _time(lambda at: str(at) + "0" * 20), REFUSED),
    case(
        "an order column beside days",
        "c.csv",
        "user_id,item_id,timestamp,position\n" + "".join(f"{u},{i},2020-09-13,{t}\n" for u, i, t in ROWS),
        SOUND,
        "--timestamp",
        "timestamp",
        "--position",
        "position",
    ),
    # types
    case("parquet", "c.parquet", _frame()),
    case("parquet of datetimes", "c.parquet", _frame(timestamp=_arrow([1000 * at for at in TIMES], "timestamp", "ms"))),
    case(
        "parquet of datetimes in a zone",
        "c.parquet",
        _frame(timestamp=_arrow([1000 * at for at in TIMES], "timestamp", "ms", "Europe/Berlin")),
    ),
    case(
        "parquet of nanoseconds", "c.parquet", _frame(timestamp=_arrow([10**9 * at for at in TIMES], "timestamp", "ns"))
    ),
    case("parquet of floats", "c.parquet", _frame(timestamp=[float(at) for at in TIMES])),
    case("parquet of texts", "c.parquet", _frame(timestamp=[str(at) for at in TIMES])),
    case("parquet of durations", "c.parquet", _frame(timestamp=_arrow(TIMES, "duration", "s")), REFUSED),
    case("parquet with an index", "c.parquet", _frame(__index_level_0__=list(range(len(ROWS))))),
    case("users are lists", "c.parquet", _frame(user_id=[[row[0]] for row in ROWS]), REFUSED),
    case("users are structs", "c.parquet", _frame(user_id=[{"id": row[0]} for row in ROWS]), REFUSED),
    case(
        "users are true or false",
        "c.parquet",
        _frame(user_id=[row[0] == "u1" for row in ROWS]),
        EITHER,
        rows=[(str(u == "u1").lower(), i, t) for u, i, t in ROWS],
    ),
    case("users are bytes", "c.parquet", _frame(user_id=[row[0].encode() for row in ROWS]), EITHER),
    case(
        "users are categories",
        "c.parquet",
        _frame(user_id=lambda: _arrow([row[0] for row in ROWS], "string")().dictionary_encode()),
    ),
    case(
        "users are whole floats",
        "c.parquet",
        _frame(user_id=[float(row[0][1:]) for row in ROWS]),
        EITHER,
        rows=[(str(int(u[1:])), i, t) for u, i, t in ROWS],
    ),
    case(
        "users are NaN",
        "c.parquet",
        _frame(user_id=[float("nan") if row[0] == "u3" else float(row[0][1:]) for row in ROWS]),
        EITHER,
        rows=[(str(int(u[1:])), i, t) for u, i, t in ROWS if u != "u3"],
    ),
    case(
        "items are broken floats",
        "c.parquet",
        _frame(item_id=[float(row[1][1:]) + 0.5 for row in ROWS]),
        EITHER,
        rows=[(u, str(int(i[1:]) + 0.5), t) for u, i, t in ROWS],
    ),
    case(
        "parquet cut short",
        "c.parquet",
        lambda file: (_frame()(file), file.write_bytes(file.read_bytes()[:-40])),
        REFUSED,
    ),
    case("parquet that is none", "c.parquet", text(), REFUSED),
    case(
        "parquet of noise in its pages",
        "c.parquet",
        lambda file: (_frame()(file), file.write_bytes(b"PAR1" + b"\xa5" * 800 + file.read_bytes()[804:])),
        EITHER,
    ),
]

EMPTY = ["NaN", "nan", "NA", "NULL", "null", "None", "", " ", "#N/A"]
"""Words for nothing: a row with one in place of an id is incomplete, whatever the writer."""
WORDS = {
    "a formula": "=cmd|' /C calc'!A0",
    "a path": "../../../escape",
    "an absolute path": "/etc/passwd",
    "markup": "<script>alert(1)</script>",
    "a heading": "# Heading",
    "YAML": "!!python/object/apply:os.system [touch EXECUTED]",
    "a template": "{{7*7}} ${HOME} $(touch EXECUTED) `touch EXECUTED`",
    "percent signs": "%s%n%d",
    "an escape code": "\x1b[31mred\x1b[0m",
    "a bell": "a\x07b",
    "a line separator": "a\u2028b",
    "right to left": "\u202egnp.exe",
    "zero width": "a\u200bb",
    "an emoji": "👩‍👩‍👧",
    "two forms of é": "e\u0301",
    "leading zeros": "0007",
    "a long id": "x" * 5_000,
    "a plus": "+1",
    "a minus": "-1",
    "at": "@SUM(1)",
    "a backslash": "a\\b",
    "a reserved name": "CON",
    "a number with a point": "1.0",
    "an exponent": "1e5",
    "a date": "2020-01-01",
    "hexadecimal": "0x1F",
    "three dashes": "---",
    "a pipe": "a|b",
}


def _with_word(word: str, column: int) -> list[Row]:
    """The rows with a word as u3's, or i5's, id."""
    old = ("u3", "i5")[column]
    return [tuple(word if cell == old else cell for cell in row) for row in ROWS]  # type: ignore[misc]


def _as_csv(rows: list[Row]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([("user_id", "item_id", "timestamp"), *rows])
    return stream.getvalue()


IDS = [
    case(
        f"{what} is {called}'s id",
        f"c{column}.csv",
        _as_csv(_with_word(word, column)),
        EITHER,
        rows=_with_word(word, column),
    )
    for what, word in WORDS.items()
    for column, called in ((0, "a user"), (1, "an item"))
] + [
    case(
        f"{word!r} for a {called}",
        f"c{column}.csv",
        _as_csv(_with_word(word, column)),
        EITHER,
        rows=[row for row in ROWS if row[column] != ("u3", "i5")[column]],
    )
    for word in EMPTY
    for column, called in ((0, "user"), (1, "item"))
]


# -- items -------------------------------------------------------------------------------------------------------------


def _items(folder: Path) -> None:
    _lay(folder)
    (folder / "items.csv").write_text(items_text())


def items_text(**changed: str) -> str:
    """The table of items; ``changed`` are cells of i5."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("item_id", "title", "brand"))
    for number in range(ITEMS):
        row = {"item_id": f"i{number}", "title": f"Thing {number}", "brand": f"B{number % 3}"}
        writer.writerow((row | (changed if number == 5 else {})).values())
    return stream.getvalue()


def _described(title: str | None = None, brand: tuple[str, ...] | None = None) -> Callable[[Path], str | None]:
    """Whether i5 has this title and these tags, and the others theirs."""

    def check(folder: Path) -> str | None:
        from seqmm.data.loading import load_corpus

        corpus = load_corpus(str(folder / "out"), features=("brand",))
        tags = corpus.features["brand"]
        assert tags.offsets is not None and tags.vocabulary is not None
        for number in range(ITEMS):
            place = corpus.item_ids.index(f"i{number}")
            at = slice(int(tags.offsets[place]), int(tags.offsets[place + 1]))
            found = corpus.titles[place], tuple(tags.vocabulary[tag] for tag in tags.values[at].tolist())
            right = f"Thing {number}", (f"B{number % 3}",)
            if number == 5:
                right = (right[0] if title is None else title, right[1] if brand is None else brand)
            if found != right:
                return f"i{number} is {found!r}, right is {right!r}"
        return None

    return check


ITEM_TABLE = Door(
    "items", (), _items, _command("clicks.csv", *_LEAVE, "--items", "items.csv", "--tags", "brand"), _described()
)


def item_case(
    name: str, content: str | bytes, right: str = EITHER, check: Callable[[Path], str | None] | None = None,
    file: str = "items.csv",
    names: str | None = None,
) -> Case:  # fmt: skip
    """Another table of items."""

    def spoil(folder: Path) -> None:
        (folder / "items.csv").unlink()
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return Case(ITEM_TABLE, name, spoil, right, file if names is None else names, ("--items", file), check)


def _item_records(**changed: Any) -> list[dict[str, Any]]:
    rows = [{"item_id": f"i{n}", "title": f"Thing {n}", "brand": f"B{n % 3}"} for n in range(ITEMS)]
    rows[5] |= changed
    return rows


ITEM_CASES = [
    *(
        item_case(f"{what} is a title", items_text(title=word), check=_described(title=" ".join(word.split())))
        for what, word in WORDS.items()
        if what not in ("an escape code", "a bell", "markup")
    ),
    *(item_case(f"{word!r} for a title", items_text(title=word), check=_described(title="")) for word in EMPTY),
    *(item_case(f"{word!r} for a brand", items_text(brand=word), check=_described(brand=())) for word in EMPTY),
    item_case("quotes in a title", items_text(title='The "Best" mug'), SOUND, _described(title='The "Best" mug')),
    item_case("an inch", items_text().replace("Thing 5", '15" screen'), check=_described(title='15" screen')),
    item_case("a line break in a title", items_text(title="two\nlines"), check=_described(title="two lines")),
    item_case(
        "tabs and quotes",
        items_text(title='The "Best"').replace(",", "\t"),
        check=_described('The "Best"'),
        file="items.tsv",
    ),
    item_case("an item twice", items_text() + "i5,Another,B9\n"),
    item_case("no key", items_text().replace("item_id", "sku"), REFUSED),
    item_case("no row", "item_id,title,brand\n", REFUSED, names=""),
    item_case("BOM", b"\xef\xbb\xbf" + items_text().encode(), SOUND),
    item_case("JSON", json.dumps(_item_records()), SOUND, file="items.json"),
    item_case(
        "JSON of an object", json.dumps({row.pop("item_id"): row for row in _item_records()}), SOUND, file="items.json"
    ),
    item_case("JSON lines", "".join(json.dumps(row) + "\n" for row in _item_records()), SOUND, file="items.jsonl"),
    item_case("JSON lines called json", "".join(json.dumps(row) + "\n" for row in _item_records()), file="items.json"),
    item_case(
        "NaN in JSON",
        json.dumps(_item_records(title=float("nan"), brand=float("nan"))),
        file="items.json",
        check=_described("", ()),
    ),
    item_case(
        "null in JSON", json.dumps(_item_records(title=None, brand=None)), SOUND, _described("", ()), "items.json"
    ),
    item_case(
        "a list in JSON",
        json.dumps(_item_records(brand=["B2", "Bx"])),
        check=_described(brand=("B2", "Bx")),
        file="items.json",
    ),
    item_case(
        "an object in JSON",
        json.dumps(_item_records(brand={"name": "B2"})),
        check=_described(brand=("{'name': 'B2'}",)),
        file="items.json",
    ),
    item_case(
        "a key twice in JSON",
        json.dumps(_item_records()).replace('"title": "Thing 5"', '"title": "x", "title": "y"'),
        REFUSED,
        file="items.json",
    ),
    item_case("JSON nested deep", "[" * 50_000 + "]" * 50_000, REFUSED, file="items.json"),
    item_case("JSON of numbers", "[1, 2]", REFUSED, file="items.json"),
    item_case("JSON of a word", '"items"', REFUSED, file="items.json"),
    item_case(
        "JSON with a lone surrogate",
        json.dumps(_item_records(title="a\ud800b")),
        file="items.json",
        check=_described("a\ufffdb"),
    ),
    item_case(
        "JSON of a large number",
        json.dumps(_item_records(title=10**400)),
        file="items.json",
        check=_described(str(10**400)),
    ),
]
CASES = [*FORMS, *IDS, *ITEM_CASES]
