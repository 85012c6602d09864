"""Tables of interactions and items."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.data.filtering import Log
from seqmm.data.readers.columns import ColumnNames
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
    timestamp: str | None = option(None, 'Column of the times (seconds, ISO dates); "timestamp" if there is one.')
    time_unit: TimeUnit = option("s", "Unit of numeric times.")
    position: str | None = option(
        None, 'Column of the place in the user\'s history, already chronological; "position" if there is one.'
    )
    split: str | None = option(
        None, 'Column of split labels (0, 1, 2 or train, validation, test); "split" if there is one.'
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

    def item_columns(self) -> dict[str, Any]:
        """For the readers of items."""
        return {
            "key": self.item,
            "rename": pairs(self.rename, "--rename"),
            "lists": pairs(self.lists, "--lists"),
        }

    def read_log(self, file: Path) -> Log:
        """The table of interactions."""
        return read_log(file, time_unit=self.time_unit, **self.columns())

    def read_items(self, file: Path) -> pl.DataFrame:
        """The table of items."""
        return read_items(file, **self.item_columns())


@dataclass(frozen=True, kw_only=True)
class TableOptions(ColumnOptions):
    """Two tables."""

    interactions: Path = option(MISSING, "Table of interactions: .csv, .tsv, .parquet, also .gz.")
    items: Path | None = option(None, "Table of items, also .json or .jsonl.")


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
