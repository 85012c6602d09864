"""TSV, CSV and parquet files (plain or .gz) with a column map; items tables also as JSON."""

from __future__ import annotations

import csv
import difflib
import gzip
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from seqmm.data.filtering import Log
from seqmm.data.splits import LABELS
from seqmm.names import TimeUnit

if TYPE_CHECKING:
    import polars as pl


TABLES = (".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl")


@overload
def find_table(folder: Path, name: str) -> Path: ...


@overload
def find_table(folder: Path, name: str, required: bool) -> Path | None: ...


def find_table(folder: Path, name: str, required: bool = True) -> Path | None:
    """The table of that name in a folder, of whatever kind it is.

    Raises:
        FileNotFoundError: no such folder, or a table that is required is not there.
        ValueError: there are two.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    found = [
        file for file in files
        if Path(file.lower().removesuffix(".gz")).suffix in TABLES
        and file.lower().removesuffix(".gz").rpartition(".")[0] == name
    ]  # fmt: skip
    if len(found) > 1:
        raise ValueError(f"{folder} has {' and '.join(found)}; say which (--{name})")
    if not found and required:
        raise FileNotFoundError(
            f"{folder} has no {name}.csv (or {', '.join(TABLES[1:])}, .gz); it has: "
            f"{', '.join(files[:10]) or 'no file'}. Name the table (--{name})"
        )
    return folder / found[0] if found else None


LATEST = 100_000_000_000
"""Seconds of the year 5138: anything above is milliseconds."""

RAW_TEXT = ("description", "features", "text")
"""Columns kept as the source has them, with markup and line breaks, for :mod:`seqmm.features.readers.item_text`; all
other text is cleaned to one line."""


def read_log(
    file: Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    timestamp: str | None = None,
    position: str | None = None,
    split: str | None = None,
    time_unit: TimeUnit = "s",
    header: Sequence[str] | None = None,
) -> Log:
    """Reads interactions; columns that are not named are ignored, so are values of a rating.

    Rows without user or item are left out, and without a time unless there is a position column.

    Args:
        file: .csv, .tsv, .txt, .inter (tabs), .parquet; text files may end in .gz. A header without the separator of
            its kind but with semicolons, tabs or commas says what it is separated by.
        user: column of the user ids.
        item: column of the item ids.
        timestamp: column of the times: numbers, ISO dates, or a parquet date type. None = "timestamp" if there is one.
        position: column of the place in the user's history (already chronological). None = "position" if there is one.
        split: column of split labels: 0, 1, 2 or train, validation, test. None = "split" if there is one.
        time_unit: of numeric times.
        header: column names of a text file without a header line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, an unparsable value (with its row, counted from 1 without the header).
    """
    import polars as pl

    have = list(header) if header else column_names(file)
    timestamp, position, split = (
        name or (default if default in have else None)
        for name, default in ((timestamp, "timestamp"), (position, "position"), (split, "split"))
    )
    roles = {"user": user, "item": item, "timestamp": timestamp, "position": position, "split": split}
    for role, name in roles.items():
        if name is not None:
            _require(name, have, file, f"--{role}")
    wanted = [name for name in roles.values() if name is not None]
    frame = read_table(file, wanted, header=header).with_columns(pl.col(user, item).map_batches(text_ids, pl.String))
    rows = pl.Series("row", np.arange(1, len(frame) + 1, dtype=np.int32))
    complete = frame[user].is_not_null() & frame[item].is_not_null()
    if timestamp and not position:
        complete = complete & frame[timestamp].is_not_null()
    incomplete = int((~complete).sum())
    if incomplete:
        frame, rows = frame.filter(complete), rows.filter(complete)
    if frame.is_empty():
        raise ValueError(f"{file} holds no complete row (columns {', '.join(wanted)})")
    user_code, user_ids = encode(frame[user])
    item_code, item_ids = encode(frame[item])
    return Log(
        user_code,
        item_code,
        user_ids,
        item_ids,
        timestamp=None if timestamp is None else seconds(frame[timestamp], rows, file, time_unit),
        position=None if position is None else _integers(frame[position], rows, file),
        label=None if split is None else _labels(frame[split], rows, file),
        source=file.name,
        incomplete=incomplete,
    )


def read_items(
    file: Path, *, key: str, rename: Mapping[str, str] | None = None, lists: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Reads an items table: ``id`` and every other column, as text; every row, also a second one of an id.

    Args:
        file: as for :func:`read_log`, or .json (an object of objects by id, or a list of objects), or .jsonl.
        key: the column of the item ids; for .json the key of the object.
        rename: new name -> column, to bring columns to the names seqmm knows: title, description, brand, categories,
            images.
        lists: column (new name) -> separator: cut it into a list of strings.

    Raises:
        FileNotFoundError, ValueError: no such file, a missing column, broken JSON.
    """
    import polars as pl

    if file.name.removesuffix(".gz").endswith((".json", ".jsonl")):
        frame = _items_from_json(file, key)
    else:
        frame = read_table(file, None)
        if key in frame.columns:
            frame = frame.with_columns(pl.col(key).map_batches(text_ids, pl.String))
        for name, kind in frame.schema.items():
            if kind == pl.Binary or isinstance(kind, pl.Array):
                raise ValueError(
                    f"{file}: column {name!r} holds {kind}, which is no text; leave it out of the table, or give "
                    "vectors as a feature set (--feature name=file)"
                )
        frame = frame.with_columns(pl.exclude(pl.String, pl.List).cast(pl.String))
    names = {old: new for new, old in (rename or {}).items()}
    for renaming in (names, {} if key == "id" else {key: "id"}):
        for old, new in renaming.items():
            _require(old, frame.columns, file, "--item" if old == key else "--rename")
            if new in frame.columns:
                raise ValueError(
                    f"{file} has a column {new!r} already, so {old!r} cannot take that name; rename it first"
                )
        frame = frame.rename(renaming)
    _require("id", frame.columns, file)
    for column, separator in (lists or {}).items():
        _require(column, frame.columns, file, "--lists")
        words = pl.col(column).fill_null("").str.split(separator)
        frame = frame.with_columns(words.list.eval(pl.element().str.strip_chars().filter(pl.element() != "")))
    text = [name for name, kind in frame.schema.items() if kind == pl.String and name not in ("id", *RAW_TEXT)]
    cleaned = [frame[name].map_elements(clean, return_dtype=pl.String, skip_nulls=True) for name in text]
    return frame.with_columns(*cleaned)


def clean(text: str) -> str:
    """Unescapes HTML entities and collapses white space."""
    return " ".join(html.unescape(text).split())


def well_formed(text: str) -> str:
    """The text with halves of a cut emoji replaced, which JSON may hold and no file can ("\\ud83c" alone)."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def text_ids(ids: pl.Series) -> pl.Series:
    """Ids as text, whatever they are: "007" stays; whole floats, which a table with gaps has, lose their ".0"."""
    import polars as pl

    if ids.dtype.is_float() and ((ids == ids.floor()) & (ids.abs() < 2**53)).all():
        ids = ids.cast(pl.Int64)
    return ids.cast(pl.String)


def lines(file: Path, label: str) -> Iterator[tuple[int, str]]:
    """(1-based number, text) of the non-empty lines of a text file or .gz, with a progress bar over its bytes."""
    from tqdm import tqdm

    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    with (
        file.open("rb") as raw,
        gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else nullcontext(raw) as stream,
        tqdm(total=file.stat().st_size, desc=label, unit="B", unit_scale=True, leave=False, disable=None) as bar,
    ):
        try:
            for number, line in enumerate(stream, 1):
                if number % 4096 == 0:
                    bar.update(raw.tell() - bar.n)
                if line.strip():
                    yield number, line.decode("utf-8")
        except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read to its end ({error}); it is damaged, fetch it again") from error
        bar.update(raw.tell() - bar.n)


def column_names(file: Path) -> list[str]:
    """Names in the header of a table.

    Raises:
        FileNotFoundError, ValueError: no such file, an empty one, an unknown kind of file.
    """
    return _header(file)[0]


def _header(file: Path) -> tuple[list[str], str, int]:
    """Names in a table's header, its separator, and the number of empty lines before it."""
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    if file.suffix == ".parquet":
        import polars as pl

        try:
            return list(pl.read_parquet_schema(file)), "", 0
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{file} cannot be read as a table: {str(error).splitlines()[0]}") from error
    usual = _separator(file)
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8-sig") as stream:
            empty, line = 0, stream.readline()
            while line.isspace():
                empty, line = empty + 1, stream.readline()
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(file)) from error
    separator = next((mark for mark in (usual, ";", "\t", ",") if mark in line), usual)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
    if not any(names):
        raise ValueError(f"{file} is empty; expected a header line")
    return names, separator, empty


def _too_wide(file: Path, header: list[str], separator: str) -> str | None:
    """What is wrong with the first row that has more cells than the header; None if there is none."""
    if file.suffix == ".parquet":
        return None
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8-sig", errors="replace", newline="") as stream:
        reader = csv.reader(
            stream, delimiter=separator, quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
        )
        try:
            wide = next((row for row in reader if len(row) > len(header)), None)
        except csv.Error:
            return None
        if wide is None:
            return None
        hint = "" if separator == "\t" else f"; quote a text that holds {separator!r}"
        return (
            f"line {reader.line_num} has {len(wide)} cells, the header {len(header)} "
            f"({separator.join(wide)[:60]!r}){hint}"
        )


def _not_utf8(file: Path) -> str:
    return f"{file} is not UTF-8 text; save it as UTF-8 (spreadsheets call it 'CSV UTF-8')"


def read_table(file: Path, columns: Sequence[str] | None, *, header: Sequence[str] | None = None) -> pl.DataFrame:
    """A table's columns (None = all), text files as strings with "" as null.

    Raises:
        FileNotFoundError, ValueError: as :func:`column_names`; a column that is not there, or there twice; rows of
            another width; text that is not UTF-8.
    """
    import polars as pl

    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    have, separator, empty = (list(header), _separator(file), 0) if header else _header(file)
    wanted = have if columns is None else list(dict.fromkeys(columns))
    for column in wanted:
        _require(column, have, file)
        if have.count(column) > 1:
            raise ValueError(f"{file} has {have.count(column)} columns {column!r}; rename all but one of them")
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file, columns=wanted)
        places = sorted(have.index(column) for column in wanted)
        frame = pl.read_csv(
            file,
            separator=separator,
            has_header=header is None,
            skip_lines=empty,
            columns=places,
            infer_schema=False,
            quote_char=None if separator == "\t" else '"',
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        said = str(error).splitlines()[0]
        if "utf-8" in said.lower() or "utf8" in said.lower():
            raise ValueError(_not_utf8(file)) from error
        raise ValueError(f"{file} cannot be read as a table: {_too_wide(file, have, separator) or said}") from error
    frame.columns = [have[place] for place in places]  # without the white space around them
    return frame.select(wanted)


def encode(ids: pl.Series) -> tuple[np.ndarray, list[str]]:
    """Codes and ids in source order: by value if all ids are plain integers, else by first appearance."""
    import polars as pl

    ids = ids.cast(pl.String)
    names = ids.unique(maintain_order=True)
    numbers = names.cast(pl.Int64, strict=False)
    if not numbers.has_nulls() and (numbers.cast(pl.String) == names).all():
        names = names.gather(numbers.arg_sort())
    return ids.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int32), names.to_list()


def seconds(values: pl.Series, rows: pl.Series, file: Path, unit: TimeUnit) -> np.ndarray:
    """``[n]`` int64 seconds, -1 for null.

    Raises:
        ValueError: naming file, row and value of the first that is no time.
    """
    import polars as pl

    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.epoch("s").fill_null(-1).to_numpy().copy()
    numbers = values.cast(pl.Float64, strict=False)
    broken = values.is_not_null() & (numbers.is_null() | ~numbers.is_finite().fill_null(True))
    if broken.any() and values.dtype == pl.String:
        dates = values.filter(broken).str.to_datetime(strict=False, time_unit="us", time_zone="UTC").dt.epoch("s")
        if dates.has_nulls():
            _refuse(
                values.filter(broken), dates.is_null(), rows.filter(broken), file, "a time (seconds or an ISO date)"
            )
        known = np.full(len(values), np.nan)
        known[broken.to_numpy()] = dates.to_numpy()
        known[~broken.to_numpy()] = numbers.filter(~broken).to_numpy() / (1000 if unit == "ms" else 1)
        numbers = pl.Series(known, nan_to_null=True)
    elif broken.any():
        _refuse(values, broken, rows, file, "a time")
    elif unit == "ms":
        numbers = numbers / 1000
    late = (numbers > LATEST).fill_null(False)
    if late.any():
        _refuse(values, late, rows, file, "a time in seconds; are these milliseconds? (--time-unit ms)")
    negative = (numbers < 0).fill_null(False)
    if negative.any():
        _refuse(values, negative, rows, file, "a time after 1970")
    return numbers.floor().cast(pl.Int64).fill_null(-1).to_numpy().copy()


def _integers(values: pl.Series, rows: pl.Series, file: Path) -> np.ndarray:
    import polars as pl

    numbers = values.cast(pl.Int64, strict=False)
    if numbers.has_nulls():
        _refuse(values, numbers.is_null(), rows, file, "a position (an integer)")
    return numbers.to_numpy().copy()


def _labels(values: pl.Series, rows: pl.Series, file: Path) -> np.ndarray:
    import polars as pl

    words = values.cast(pl.String).str.to_lowercase()
    labels = words.replace_strict(LABELS, default=None, return_dtype=pl.Int8)
    if labels.has_nulls():
        _refuse(values, labels.is_null(), rows, file, f"a split label ({', '.join(LABELS)})")
    return labels.to_numpy().copy()


def _refuse(values: pl.Series, wrong: pl.Series, rows: pl.Series, file: Path, expected: str) -> None:
    count = int(wrong.sum())
    first = wrong.arg_max() or 0
    raise ValueError(
        f"{file}, row {rows[first]}, column {values.name!r}: {values[first]!r} is not {expected} "
        f"({count} such row{'s' if count > 1 else ''}); correct or remove {'them' if count > 1 else 'it'}"
    )


def _require(column: str, have: Sequence[str], file: Path, flag: str | None = None) -> None:
    if column not in have:
        near = difflib.get_close_matches(column, have, n=1)
        remedy = f"Name the right one with {flag}" if flag else "Name the right one"
        if near:
            remedy += f", {near[0]}?"
        raise ValueError(f"{file} has no column {column!r}; it has: {', '.join(have)}. {remedy}")


def _separator(file: Path) -> str:
    suffix = Path(file.name.removesuffix(".gz")).suffix
    if suffix.lower() not in (".csv", ".tsv", ".txt", ".inter", ".item"):
        raise ValueError(
            f"{file}: unknown kind of table {suffix!r}; known: .csv, .tsv, .txt and RecBole's .inter, .item (tabs), "
            "each also .gz, .parquet"
        )
    return "," if suffix.lower() == ".csv" else "\t"


def _items_from_json(file: Path, key: str) -> pl.DataFrame:
    import polars as pl

    try:
        if file.name.removesuffix(".gz").endswith(".jsonl"):
            records = []
            for number, line in lines(file, f"read {file.name}"):
                try:
                    records.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error
        else:
            text = "".join(line for _, line in lines(file, f"read {file.name}"))
            whole: Any = json.loads(text, object_pairs_hook=_once_each)
            records = whole if isinstance(whole, list) else [{key: name} | fields for name, fields in whole.items()]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is not an items table in JSON ({error}); expected {{id: {{column: text}}}} or a list of objects"
        ) from error
    wrong = next((number for number, record in enumerate(records, 1) if not isinstance(record, dict)), None)
    if wrong is not None:
        raise ValueError(f"{file}: record {wrong} is not an object of columns; expected {{column: text}}")
    cells = [{name: _cell(cell) for name, cell in record.items()} for record in records]
    try:
        return pl.DataFrame(cells, infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise ValueError(f"{file}: a column must be text in every row or a list in every row ({error})") from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a key that is there twice is refused, where json keeps the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _cell(value: object) -> str | list[str] | None:
    """Text, or a list of texts."""
    if isinstance(value, list):
        return [well_formed(str(part)) for part in value]
    return None if value is None else well_formed(str(value))
