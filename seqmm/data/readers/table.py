"""Tables of every kind, one way in: text (plain or .gz), parquet, JSON, and folders of parts, with a column map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from seqmm.data.filtering import Log
from seqmm.data.readers.claims import check_parquet
from seqmm.data.readers.columns import items_of, log_of
from seqmm.data.readers.content import bare_name
from seqmm.data.readers.delimited import KINDS, read_text, text_columns
from seqmm.data.readers.json_records import ENDINGS, is_json, json_frame
from seqmm.data.readers.roles import ColumnNames, require, roles_of
from seqmm.names import TimeUnit

if TYPE_CHECKING:
    import polars as pl


TABLES = (*KINDS, ".parquet", *ENDINGS)


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
    files = sorted(file.name for file in folder.iterdir() if file.is_file() or file.suffix.lower() in TABLES)
    found = [
        file for file in files
        if Path(bare_name(Path(file))).suffix in TABLES and bare_name(Path(file)).rpartition(".")[0] == name
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
    file: Path,
    *,
    header: Sequence[str] | None = None,
    time_unit: TimeUnit = "auto",
    time_format: str | None = None,
    **columns: Unpack[ColumnNames],
) -> Log:
    """Reads interactions; columns that are not named are ignored, so are values of a rating.

    Args:
        file: .csv, .tsv, .txt, .inter (tabs), .parquet, .json, .jsonl, or a folder of parts of one kind; text files may
            end in .gz. A header without the separator of its kind but with semicolons, tabs, commas, "|" or "::" says
            what it is separated by.
        header: column names of a text file without a header line.
        time_unit: of numeric times.
        time_format: how dates are written, where the year is not first.
        columns: names of the columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, an unparsable value (with its row, counted from 1 without the header).
    """
    if is_json(file) and not file.is_dir():
        named = [name for name in columns.values() if isinstance(name, str)]
        frame = json_frame(file, columns.get("item", "item_id"), ("user_id", "item_id", "timestamp", *named))
        roles = roles_of(frame.columns, file, **columns)
    else:
        roles = roles_of(list(header) if header else column_names(file), file, **columns)
        frame = read_table(file, list(roles.values()), header=header)
    return log_of(frame, roles, file, source=file.name, time_unit=time_unit, time_format=time_format)


def read_items(
    file: Path, *, key: str, rename: Mapping[str, str] | None = None, lists: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Reads an items table: ``id`` and every other column, as text; every row, also a second one of an id.

    Args:
        file: as for :func:`read_log`; a .json may also be an object of objects by id.
        key: the column of the item ids; for .json the key of the object.
        rename: see :func:`~seqmm.data.readers.columns.items_of`.
        lists: see there.

    Raises:
        FileNotFoundError, ValueError: no such file, a missing column, broken JSON.
    """
    frame = json_frame(file, key, (key,)) if is_json(file) and not file.is_dir() else read_table(file, None)
    return items_of(frame, file, key=key, rename=rename, lists=lists)


def column_names(file: Path) -> list[str]:
    """Names in the header of a table.

    Raises:
        FileNotFoundError, ValueError: no such file, an empty one, an unknown kind of file.
    """
    if file.is_dir():
        return column_names(_parts(file)[0])
    if not file.exists():
        raise FileNotFoundError(f"no file {file}")
    kind = _kind(file)
    if kind in KINDS:
        return text_columns(file)
    import polars as pl

    if kind in ENDINGS:
        return json_frame(file, "").columns
    try:
        return list(pl.read_parquet_schema(file))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{file} cannot be read as a table: {str(error).splitlines()[0]}") from error


def read_table(file: Path, columns: Sequence[str] | None, *, header: Sequence[str] | None = None) -> pl.DataFrame:
    """A table's columns (None = all), text files as strings with "" as null.

    Raises:
        FileNotFoundError, ValueError: as :func:`column_names`; a column that is not there, or there twice; rows of
            another width; text that is not UTF-8; a text table whose rows are not as many as its line ends say.
    """
    import polars as pl

    if file.is_dir():
        return _read_parts(file, columns)
    have = list(header) if header else column_names(file)
    wanted = have if columns is None else list(dict.fromkeys(columns))
    for column in wanted:
        require(column, have, file, "column")
        if have.count(column) > 1:
            raise ValueError(f"{file} has {have.count(column)} columns {column!r}; rename all but one of them")
    kind = _kind(file)
    if kind in KINDS:
        return read_text(file, wanted, header)
    if kind in ENDINGS:
        return json_frame(file, "", have).select(wanted)
    check_parquet(file, wanted)
    try:
        return pl.read_parquet(file, columns=wanted)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{file} cannot be read as a table: {str(error).splitlines()[0]}") from error


def _kind(file: Path) -> str:
    """How a table's name ends, of :data:`TABLES`."""
    suffix = Path(bare_name(file)).suffix
    if suffix not in TABLES or (suffix == ".parquet" and file.suffix.lower() == ".gz"):
        raise ValueError(
            f"{file}: unknown kind of table {suffix!r}; known: .csv, .tsv, .txt and RecBole's .inter, .item (tabs), "
            ".json, .jsonl, each also .gz, .parquet, and folders of parts"
        )
    return suffix


def _parts(folder: Path) -> list[Path]:
    """The files of a table in parts, as Spark writes it: all but hidden ones and marks such as _SUCCESS.

    Raises:
        ValueError: no part, parts of several kinds, or folders in it.
    """
    there = [file for file in sorted(folder.iterdir()) if not file.name.startswith((".", "_"))]
    inside = [file.name for file in there if file.is_dir()]
    if inside:
        raise ValueError(
            f"{folder} is a table in parts that holds folders ({', '.join(inside[:3])}); write it as one table without "
            "partitions"
        )
    kinds = {_kind(file) for file in there}
    if len(kinds) != 1:
        held = ", ".join(file.name for file in there[:5]) or "nothing"
        raise ValueError(f"{folder} is no table in parts: it holds {held}; expected files of one kind, or name one")
    return there


def _read_parts(folder: Path, columns: Sequence[str] | None) -> pl.DataFrame:
    import polars as pl

    parts = _parts(folder)
    have = column_names(parts[0])
    for part in parts[1:]:
        if sorted(mine := column_names(part)) != sorted(have):
            raise ValueError(
                f"{part} has the columns {', '.join(mine)}, {parts[0].name} has {', '.join(have)}; each part needs the "
                "same ones (and a header line, if it is text)"
            )
    frames = [read_table(part, have if columns is None else columns) for part in parts]
    try:
        return pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"{folder}: its parts differ in the types of columns ({str(error).splitlines()[0]})"
        ) from error
