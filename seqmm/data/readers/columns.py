"""Flags that say which column of a table is what."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seqmm.data.readers.table import read_items, read_log
from seqmm.names import pairs

if TYPE_CHECKING:
    import polars as pl

    from seqmm.data.filtering import Log


@dataclass
class TableArguments:
    """Of files that are tables."""

    user: str = "user_id"
    """Column of the user ids."""
    item: str = "item_id"
    """Column of the item ids, in both tables."""
    timestamp: str | None = None
    """Column of the times (seconds, ISO dates); "timestamp" if there is one."""
    time_unit: Literal["s", "ms"] = "s"
    """Unit of numeric times."""
    position: str | None = None
    """Column of the place in the user's history, already chronological; "position" if there is one."""
    split: str | None = None
    """Column of split labels (0, 1, 2 or train, validation, test); "split" if there is one."""
    rename: tuple[str, ...] = ()
    """Items columns to rename, new=old; known names: title, description, brand, categories, images."""
    lists: tuple[str, ...] = ()
    """Items columns to cut into lists, column=separator (categories='|')."""

    def read_log(self, file: Path) -> Log:
        """The table of interactions; see :func:`seqmm.data.readers.table.read_log`."""
        return read_log(
            file,
            user=self.user,
            item=self.item,
            timestamp=self.timestamp,
            position=self.position,
            split=self.split,
            time_unit=self.time_unit,
        )

    def read_items(self, file: Path) -> pl.DataFrame:
        """The table of items; see :func:`seqmm.data.readers.table.read_items`."""
        rename, lists = pairs(self.rename, "--rename"), pairs(self.lists, "--lists")
        return read_items(file, key=self.item, rename=rename, lists=lists)

    def refuse(self, why: str) -> None:
        """For files that are no tables.

        Raises:
            ValueError: one of the flags was given.
        """
        for field in fields(TableArguments):
            value = getattr(self, field.name)
            if value != field.default:
                shown = value if isinstance(value, str) else " ".join(value)
                raise ValueError(f"--{field.name.replace('_', '-')} {shown}: {why}; leave it out")
