"""TSV, CSV and parquet files (plain or .gz) with a column map; items tables also as JSON."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from seqmm.data.filtering import Log
from seqmm.data.readers.columns import ColumnNames, items_of, log_of, require, roles_of, well_formed
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
        raise ValueError(f"{folder} has {' and '.join(found)}; say which ({name})")
    if not found and required:
        raise FileNotFoundError(
            f"{folder} has no {name}.csv (or {', '.join(TABLES[1:])}, .gz); it has: "
            f"{', '.join(files[:10]) or 'no file'}. Name the table ({name})"
        )
    return folder / found[0] if found else None


def read_log(
    file: Path, *, header: Sequence[str] | None = None, time_unit: TimeUnit = "s", **columns: Unpack[ColumnNames]
) -> Log:
    """Reads interactions; columns that are not named are ignored, so are values of a rating.

    Args:
        file: .csv, .tsv, .txt, .inter (tabs), .parquet; text files may end in .gz. A header without the separator of
            its kind but with semicolons, tabs or commas says what it is separated by.
        header: column names of a text file without a header line.
        time_unit: of numeric times.
        columns: names of the columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, an unparsable value (with its row, counted from 1 without the header).
    """
    roles = roles_of(list(header) if header else column_names(file), file, **columns)
    return log_of(
        read_table(file, list(roles.values()), header=header), roles, file, source=file.name, time_unit=time_unit
    )


def read_items(
    file: Path, *, key: str, rename: Mapping[str, str] | None = None, lists: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Reads an items table: ``id`` and every other column, as text; every row, also a second one of an id.

    Args:
        file: as for :func:`read_log`, or .json (an object of objects by id, or a list of objects), or .jsonl.
        key: the column of the item ids; for .json the key of the object.
        rename: see :func:`~seqmm.data.readers.columns.items_of`.
        lists: see there.

    Raises:
        FileNotFoundError, ValueError: no such file, a missing column, broken JSON.
    """
    objects = file.name.removesuffix(".gz").endswith((".json", ".jsonl"))
    frame = _items_from_json(file, key) if objects else read_table(file, None)
    return items_of(frame, file, key=key, rename=rename, lists=lists)


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
        require(column, have, file, "column")
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
