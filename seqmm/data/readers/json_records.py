"""Records in JSON: a list of objects, an object of objects, what pandas writes, or an object a line, whatever it is
called."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.data.readers.cells import well_formed
from seqmm.data.readers.content import bare_name, content_of, lines
from seqmm.parsing import parse_json

if TYPE_CHECKING:
    import polars as pl

ENDINGS = (".json", ".jsonl", ".ndjson")


def is_json(file: Path) -> bool:
    """Whether a file's name says JSON, packed or not."""
    return bare_name(file).endswith(ENDINGS)


def json_values(file: Path) -> Iterator[tuple[str, Any]]:
    """``(where, value)`` of each value in a file: the whole, or one a line, which a .json may hold as well.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON with its line, a key that is there twice.
    """
    if not bare_name(file).endswith(".json"):
        yield from _by_line(file)
        return
    try:
        whole = parsed(content_of(file).decode("utf-8"), str(file))
    except ValueError as error:
        if isinstance(error.__cause__, json.JSONDecodeError) and error.__cause__.msg == "Extra data":
            yield from _by_line(file)
            return
        raise
    yield str(file), whole


def _by_line(file: Path) -> Iterator[tuple[str, Any]]:
    for number, line in lines(file, f"read {file.name}"):
        where = f"{file}, line {number}"
        yield where, parsed(line, where)


def parsed(text: str, where: str) -> Any:
    """A value in JSON.

    Raises:
        ValueError: broken JSON, a key that is there twice, too deep; beginning with ``where``.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error}); correct it") from (error.__cause__ or error)


def json_frame(file: Path, key: str, numbers: Sequence[str] = ()) -> pl.DataFrame:
    """A table in JSON; cells are text or lists of texts; null and NaN are empty.

    Args:
        file: a list of objects, an object of objects by ``key``, an object of columns or with columns and data, as
            pandas writes them, or an object a line.
        key: the column of the ids.
        numbers: columns that stay numbers if all their cells are.

    Raises:
        FileNotFoundError, ValueError: as :func:`json_values`; something that is no table.
    """
    import polars as pl

    records = _records(file, list(json_values(file)), key)
    columns: dict[str, list[Any]] = {}
    for row, record in enumerate(records):
        for name, value in record.items():
            columns.setdefault(name, [None] * row).append(value)
        for cells in columns.values():
            if len(cells) == row:
                cells.append(None)
    series = []
    for name, cells in columns.items():
        try:
            series.append(_series(name, cells, name in numbers))
        except (pl.exceptions.PolarsError, TypeError) as error:
            raise ValueError(f"{file}: a column must be text in every row or a list in every row ({name!r})") from error
    return pl.DataFrame(series)


def _records(file: Path, values: list[tuple[str, Any]], key: str) -> list[dict[str, Any]]:
    if not values:
        raise ValueError(f"{file} is empty; expected JSON")
    whole = values[0][1]
    if len(values) == 1 and isinstance(whole, list):
        values = [(f"{file}: record {number}", record) for number, record in enumerate(whole, 1)]
    elif len(values) == 1 and isinstance(whole, dict) and _is_split(whole):
        values = [(str(file), dict(zip(whole["columns"], row, strict=True))) for row in whole["data"]]
    elif len(values) == 1 and isinstance(whole, dict) and isinstance(whole.get(key), dict):  # columns of rows
        rows = dict.fromkeys(row for column in whole.values() if isinstance(column, dict) for row in column)
        values = [(str(file), {name: column.get(row) for name, column in whole.items()}) for row in rows]
    elif len(values) == 1 and isinstance(whole, dict) and key not in whole:
        values = [
            (f"{file}: record {name!r}", {key: name} | fields if isinstance(fields, dict) else fields)
            for name, fields in whole.items()
        ]
    for where, record in values:
        if not isinstance(record, dict):
            raise ValueError(
                f"{where} is not an object of columns; expected a list of {{column: text}}, {{id: {{column: text}}}}, "
                "or one object a line"
            )
    return [record for _, record in values]


def _is_split(whole: Mapping[str, Any]) -> bool:
    """Whether an object is a table as pandas writes it with orient="split"."""
    columns, data = whole.get("columns"), whole.get("data")
    return (
        isinstance(columns, list)
        and isinstance(data, list)
        and all(isinstance(row, list) and len(row) == len(columns) for row in data)
    )


def _series(name: str, cells: list[Any], as_numbers: bool) -> pl.Series:
    import polars as pl

    there = [None if _missing(cell) else cell for cell in cells]
    kinds = {type(cell) for cell in there if cell is not None}
    if as_numbers and kinds and kinds <= {int, float}:
        try:
            return pl.Series(name, there, pl.Float64 if float in kinds else pl.Int64)
        except (OverflowError, TypeError, pl.exceptions.PolarsError):
            pass  # whole numbers that no column of numbers holds: text
    if as_numbers and (kinds == {bool} or dict in kinds):
        return pl.Series(name, there)  # for who reads ids to refuse
    return pl.Series(name, [_cell(cell) for cell in there])


def _cell(value: object) -> str | list[str] | None:
    """Text, or a list of texts."""
    if isinstance(value, list):
        return [well_formed(str(part)) for part in value if not _missing(part)]
    return None if _missing(value) else well_formed(str(value))


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
