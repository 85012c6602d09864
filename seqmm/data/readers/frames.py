"""Tables in memory: data frames of pandas and polars, tables of pyarrow, datasets of the library ``datasets``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    import polars as pl

KINDS = (
    "a data frame of pandas or polars, a table of pyarrow, a split of a dataset of datasets (streaming or not), a dict "
    "of columns, a list of dicts, or the path of a file"
)
STREAMED_ROWS = 10_000
"""Rows fetched at a time of a dataset that streams."""


def describe(table: Any) -> str:
    """What a table is, for errors and the card."""
    library = type(table).__module__.partition(".")[0]
    if library == "datasets" and getattr(getattr(table, "info", None), "dataset_name", None):
        return f"dataset {table.info.dataset_name}"
    if library == "builtins":
        return f"a {type(table).__name__}"
    return f"a {type(table).__name__} of {library}"


def columns_of(table: Any) -> list[str]:
    """Names of a table's columns.

    Raises:
        TypeError: it is no table.
        ValueError: it is a dict of several splits; a dataset that streams has no row.
    """
    table = one_split(table)
    return [str(name) for name in _reader(table)[0](table)]


def frame_of(table: Any, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A table's columns (None = all) as a data frame of polars.

    Raises:
        TypeError, ValueError: as :func:`columns_of`; a column of values of several types.
    """
    import polars as pl

    table = one_split(table)
    wanted = columns_of(table) if columns is None else list(dict.fromkeys(columns))
    try:
        return _reader(table)[1](table, wanted)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:  # of pyarrow, too
        said = str(error).splitlines()[0]
        raise ValueError(
            f"{describe(table)} cannot be read ({said}); give each column values of one type, such as text"
        ) from error


def one_split(table: Any) -> Any:
    """A dataset's only split, where its splits are given as a dict.

    Raises:
        ValueError: there are several.
    """
    if type(table).__name__ not in ("DatasetDict", "IterableDatasetDict"):
        return table
    if len(table) != 1:
        raise ValueError(
            f"a {type(table).__name__} of the splits {', '.join(table)}: give one, dataset[{min(table)!r}]"
        )
    return next(iter(table.values()))


_Reader = tuple[Callable[[Any], Any], Callable[[Any, list[str]], "pl.DataFrame"]]


def _reader(table: Any) -> _Reader:
    """How to get a table's column names, and its columns."""
    import polars as pl

    readers: dict[tuple[str, str], _Reader] = {
        ("polars", "DataFrame"): (lambda t: t.columns, lambda t, names: t.select(names)),
        ("polars", "LazyFrame"): (
            lambda t: t.collect_schema().names(),
            lambda t, names: t.select(names).collect(),
        ),
        ("pandas", "DataFrame"): (lambda t: t.columns, lambda t, names: pl.from_pandas(t[names])),
        ("pyarrow", "Table"): (lambda t: t.column_names, lambda t, names: _from_arrow(t.select(names))),
        ("datasets", "Dataset"): (
            lambda t: t.column_names,
            lambda t, names: _from_arrow(t.select_columns(names).with_format("arrow")[:]),
        ),
        ("datasets", "IterableDataset"): (
            _streamed_columns,
            lambda t, names: pl.concat(_streamed(t, names), how="vertical_relaxed"),
        ),
    }
    if isinstance(table, Mapping):
        return (list, lambda t, names: pl.DataFrame({name: t[name] for name in names}))
    if isinstance(table, list) and table and isinstance(table[0], Mapping):
        return (lambda t: t[0], lambda t, names: pl.DataFrame([{name: row.get(name) for name in names} for row in t]))
    kind = (type(table).__module__.partition(".")[0], type(table).__name__)
    if kind not in readers:
        raise TypeError(f"{describe(table)} is no table; give {KINDS}")
    return readers[kind]


def _from_arrow(table: Any) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # a table, not a column
    return frame


def _streamed_columns(table: Any) -> list[str]:
    """Known before the first row only where the files say them."""
    if table.column_names is not None:
        return list(table.column_names)
    first = next(iter(table), None)
    if first is None:
        raise ValueError(f"{describe(table)} has no row")
    return list(first)


def _streamed(table: Any, names: list[str]) -> list[pl.DataFrame]:
    """A stream's rows; other columns are not even fetched where the files allow that."""

    def batches() -> Iterator[pl.DataFrame]:
        with tqdm(desc=f"read {describe(table)}", unit="row", leave=False, disable=None) as bar:
            for batch in table.select_columns(names).with_format("arrow").iter(STREAMED_ROWS):
                bar.update(batch.num_rows)
                yield _from_arrow(batch)

    return list(batches())
