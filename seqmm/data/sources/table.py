"""Tables of interactions and items."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.data.filtering import Log
from seqmm.data.readers.roles import AUTO, ColumnNames
from seqmm.data.readers.table import read_items, read_log
from seqmm.data.sources.base import Source, SourceData, stem
from seqmm.names import TimeUnit, pairs
from seqmm.options import Options, option
from seqmm.registry import register

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class ColumnOptions(Options):
    """Which column of a table is what."""

    user: str = option("user_id", "Column of the user ids in the table of interactions.")
    item: str = option("item_id", "Column of the item ids, in both tables.")
    timestamp: str | None = option(
        AUTO, 'Column of the times (numbers, dates with the year first); if auto "timestamp", where it is; none.'
    )
    time_unit: TimeUnit = option("auto", "Unit of numeric times since 1970; auto tells it by their size.")
    time_format: str | None = option(
        None, "How dates are written where the year is not first, such as %m/%d/%Y or %d.%m.%Y %H:%M."
    )
    position: str | None = option(
        AUTO,
        "Column of the place in the user's history, already chronological; it breaks ties in time. If auto "
        '"position", where it is; none.',
    )
    split: str | None = option(
        AUTO, 'Column of split labels (0, 1, 2 or train, validation, test); if auto "split", where it is; none.'
    )
    rename: tuple[str, ...] = option(
        (), "Items columns to rename, new=old; known names: title, description, brand, categories, images."
    )
    lists: tuple[str, ...] = option((), "Items columns to cut into lists, column=separator (categories='|').")

    def columns(self) -> ColumnNames:
        """For the readers of interactions."""
        return {
            "user": self.user,
            "item": self.item,
            "timestamp": self.timestamp,
            "position": self.position,
            "split": self.split,
        }

    def times(self) -> dict[str, Any]:
        """For the readers of interactions: how times are written."""
        return {"time_unit": self.time_unit, "time_format": self.time_format}

    def item_columns(self) -> dict[str, Any]:
        """For the readers of items."""
        return {
            "key": self.item,
            "rename": pairs(self.rename, "--rename"),
            "lists": pairs(self.lists, "--lists"),
        }

    def read_log(self, file: Path) -> Log:
        """The table of interactions."""
        return read_log(file, **self.times(), **self.columns())

    def read_items(self, file: Path) -> pl.DataFrame:
        """The table of items."""
        return read_items(file, **self.item_columns())


@dataclass(frozen=True, kw_only=True)
class TableOptions(ColumnOptions):
    """Two tables."""

    interactions: Path = option(
        MISSING, "Table of interactions: .csv, .tsv, .parquet, .jsonl, also .gz, or a folder of parts."
    )
    items: Path | None = option(None, "Table of items, of the same kinds or .json.")


@register
class Table(Source):
    """Reads a table of interactions and, if there is one, a table of items, with columns of any name."""

    name = "table"
    options_class = TableOptions
    options: TableOptions

    def read(self) -> SourceData:
        items = None if self.options.items is None else self.options.read_items(self.options.items)
        return SourceData(self.options.read_log(self.options.interactions), items, id_column=self.options.item)

    def corpus_name(self) -> str:
        return stem(self.options.interactions)
