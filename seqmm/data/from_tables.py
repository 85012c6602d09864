"""From tables in memory, or files of them, to a corpus in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from seqmm.data.corpus import Corpus
from seqmm.data.preparation import Preparation, PreparationValues
from seqmm.data.prepare import prepare
from seqmm.data.readers.roles import AUTO, ColumnNames
from seqmm.data.sources.base import SourceData, Table, sensible_protocols
from seqmm.names import TimeUnit


def prepare_corpus(
    interactions: Table,
    items: Table | None = None,
    *,
    user: str = "user_id",
    item: str = "item_id",
    timestamp: str | None = AUTO,
    position: str | None = AUTO,
    split: str | None = AUTO,
    time_unit: TimeUnit = "auto",
    time_format: str | None = None,
    rename: Mapping[str, str] | None = None,
    lists: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    features: Mapping[str, str | Path] | None = None,
    name: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    **how: Unpack[PreparationValues],
) -> Corpus:
    """Makes a corpus of a table of interactions and, if there is one, a table of items.

    Args:
        interactions: one row an interaction: a data frame of pandas or polars, a table of pyarrow, a split of a dataset
            of ``datasets``, a dict of columns, a list of dicts, or the path of a file.
        items: the same for the items; its column ``title`` becomes the corpus' titles.
        user: column of the user ids, and ``item`` of the item ids, in both tables.
        timestamp: column of the times ("auto" = "timestamp", where it is; None = none); so are ``position``, of places
            in the user's history, which break ties in time, and ``split``, of split labels.
        time_unit: of numeric times ("auto" = by their size); ``time_format``: of dates whose year is not first.
        rename: new name -> items column; ``lists``: items column -> separator at which its text is cut into a list.
        tags: items columns that become tag features; ``features``: name -> file of vectors by id, or a row an item.
        name: of the corpus; that of the output folder, or "corpus".
        output: folder to write, with all columns of the items; ``overwrite`` replaces a corpus that is there.
        how: options of :class:`~seqmm.data.preparation.Preparation`. Unless given, the protocol is ``given`` with split
            labels, ``leave_one_out`` with an order and else ``ratio``, and ``k_core`` is 5, with ``given`` 0.

    Raises:
        TypeError, ValueError: no table; a missing column, a value that is no time, nothing left after the k-core.

    >>> import seqmm
    >>> plays = {"user_id": [1, 1, 1, 2, 2, 2], "item_id": list("abcbca"), "timestamp": [1, 2, 3, 1, 2, 3]}
    >>> seqmm.prepare_corpus(plays, {"item_id": list("abc"), "title": ["Ah", "Be", "Ce"]}, k_core=0).num_items
    3
    """
    names: ColumnNames = {"user": user, "item": item, "timestamp": timestamp, "position": position, "split": split}
    times: dict[str, Any] = {"time_unit": time_unit, "time_format": time_format}
    data = SourceData.of(interactions, items, rename=rename, lists=lists, **times, **names)
    prepared = prepare(
        data.log,
        _usual(data, how),
        name=name or ("corpus" if output is None else Path(output).resolve().name),
        items=data.items,
        tags=tags,
        features={feature: (Path(file), Path(file).name) for feature, file in (features or {}).items()},
        id_column=data.id_column,
    )
    if output is not None:
        prepared.save(output, overwrite=overwrite)
    return prepared.corpus


def _usual(data: SourceData, how: PreparationValues) -> Preparation:
    """The settings, with what is usual for the log."""
    protocol = how.get("protocol", sensible_protocols(data.log)[0])
    usual: PreparationValues = {"protocol": protocol, "k_core": 0 if protocol == "given" else 5}
    return Preparation.from_values({**usual, **how})
