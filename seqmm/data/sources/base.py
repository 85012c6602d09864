"""What a data source is: a class that reads one kind of files, with its options and what the card must say of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from seqmm.data.filtering import Log
from seqmm.data.readers.columns import items_of, log_of
from seqmm.data.readers.frames import columns_of, describe, frame_of
from seqmm.data.readers.roles import ColumnNames, roles_of
from seqmm.data.readers.table import read_items, read_log
from seqmm.files import installed_folder
from seqmm.names import Protocol, TimeUnit
from seqmm.options import Options
from seqmm.registry import SOURCES, Registry

if TYPE_CHECKING:
    import polars as pl

Table = Any
"""A data frame of pandas or polars, a table of pyarrow, a split of a dataset of ``datasets``, a dict of columns, a list
of dicts, or the path of a file."""


@dataclass(frozen=True)
class SourceData:
    """What a source reads.

    >>> import numpy as np
    >>> import seqmm
    >>> from seqmm.data.filtering import Log
    >>> log = Log(np.array([0, 0, 1]), np.array([0, 1, 1]), ["ann", "bob"], ["tea", "jam"], source="memory")
    >>> seqmm.SourceData(log).info
    {}
    """

    log: Log
    """The interactions."""
    items: pl.DataFrame | None = None
    """What is known of the items: ``id`` and any other columns, text or lists of texts."""
    features: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    """Vectors that are there already: name -> (file, what made them)."""
    id_column: str | None = None
    """Column of the item ids in files of vectors that are tables, beside the usual names."""
    images: tuple[Path, ...] = ()
    """Folders or tar files of the items' images."""
    info: Mapping[str, object] = field(default_factory=dict)
    """More for the card; goes before what the class says of licence, citation and origin."""
    protocols: tuple[Protocol, ...] | None = None
    """How to split unless told otherwise; None = what the log allows (:func:`sensible_protocols`)."""
    k_core: int | None = None
    """Unless told otherwise; None = 0 for the protocol given and 5 for the others."""
    drop_untrained: bool = False
    """With split labels: whether users without a train interaction are dropped, unless told otherwise."""

    @classmethod
    def of(
        cls,
        interactions: Table,
        items: Table | None = None,
        *,
        time_unit: TimeUnit = "auto",
        time_format: str | None = None,
        rename: Mapping[str, str] | None = None,
        lists: Mapping[str, str] | None = None,
        **columns: Unpack[ColumnNames],
    ) -> SourceData:
        """From tables in memory, or from files of them.

        Args:
            interactions: one row an interaction.
            items: one row an item; the ids are in the column that is ``item`` in both tables.
            time_unit: of numeric times; told by their size if not given.
            time_format: how dates are written, where the year is not first: ``%m/%d/%Y``.
            rename: new name -> items column.
            lists: items column -> separator at which its text is cut into a list.
            columns: which column of the interactions is what.

        Raises:
            TypeError: something that is no table.
            ValueError: a missing column, a value that is no time, no complete row.
        """
        key = columns.get("item", "item_id")
        return cls(
            _log(interactions, time_unit, time_format, **columns),
            None if items is None else _items(items, key=key, rename=rename, lists=lists),
            id_column=key,
        )


def _log(table: Table, time_unit: TimeUnit, time_format: str | None, **columns: Unpack[ColumnNames]) -> Log:
    if isinstance(table, str | Path):
        return read_log(Path(table), time_unit=time_unit, time_format=time_format, **columns)
    where = f"the interactions ({describe(table)})"
    roles = roles_of(columns_of(table), where, **columns)
    frame = frame_of(table, list(roles.values()))
    return log_of(frame, roles, where, source=describe(table), time_unit=time_unit, time_format=time_format)


def _items(table: Table, **columns: Any) -> pl.DataFrame:
    if isinstance(table, str | Path):
        return read_items(Path(table), **columns)
    return items_of(frame_of(table), f"the items ({describe(table)})", **columns)


class Source(ABC):
    """Reads interactions, and if there are any items, from one kind of files.

    A subclass sets ``name`` and ``options_class``, writes :meth:`read`, and is registered (:func:`seqmm.register`). The
    first line of its docstring is what ``prepare.py --help`` shows; its options become flags.

    >>> import numpy as np
    >>> import seqmm
    >>> from seqmm.data.filtering import Log
    >>> @seqmm.register
    ... class Toy(seqmm.Source):
    ...     "Everybody had everything."
    ...
    ...     name = "toy"
    ...     licence = "CC0-1.0"
    ...
    ...     def read(self):
    ...         user, item = np.divmod(np.arange(12), 3)
    ...         return seqmm.SourceData(Log(user, item, list("abcd"), list("xyz"), position=item, source="toy"))
    >>> len(Toy(seqmm.Options()).read().log)
    12
    """

    registry: ClassVar[Registry] = SOURCES
    name: ClassVar[str]
    options_class: ClassVar[type[Options]] = Options
    licence: ClassVar[str] = ""
    """Under which the data may be used."""
    citation: ClassVar[str] = ""
    """What to cite."""
    homepage: ClassVar[str] = ""
    """Where the data come from."""
    tags: ClassVar[tuple[str, ...]] = ()
    """Columns of the items that become tag features unless told otherwise, where they are there."""

    def __init__(self, options: Any):
        self.options = options

    @abstractmethod
    def read(self) -> SourceData:
        """Reads everything.

        Raises:
            FileNotFoundError, ValueError: naming file, row and value.
        """

    def corpus_name(self) -> str:
        """The corpus' name unless told otherwise."""
        return self.name

    def about(self) -> str:
        """Markdown for the card, below what seqmm writes itself."""
        return ""

    def info(self) -> dict[str, object]:
        """What the card says of the data wherever they are read from."""
        about = {"licence": self.licence, "citation": self.citation, "from": self.homepage}
        return {key: text for key, text in about.items() if text}


def sensible_protocols(log: Log) -> tuple[Protocol, ...]:
    """The protocols a log allows that keep all its users: its own labels, or else by order and at random."""
    if log.label is not None:
        return ("given",)
    return ("ratio",) if log.timestamp is None and log.position is None else ("leave_one_out", "ratio")


def about_in(folder: str, heading: str = "## What is in it") -> str:
    """The part from a heading of the README.md of a folder of ``tokenized/``."""
    text = (installed_folder("tokenized") / folder / "README.md").read_text(encoding="utf-8")
    return text[text.index(heading) :]


def stem(file: str | Path) -> str:
    """A file's name down to its first dot."""
    return Path(file).name.split(".")[0]


def named_paths(values: Sequence[Path] | None, default: Path) -> tuple[Path, ...]:
    """Paths that were given, or else a default one if it is there."""
    if values is not None:
        return tuple(values)
    return (default,) if default.is_dir() else ()
