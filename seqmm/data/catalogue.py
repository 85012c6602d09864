"""The items table beside a log: what of it fits, its columns, tags and vectors by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmm.data.feature_sets import Features
from seqmm.data.filtering import Log
from seqmm.data.readers.columns import RAW_TEXT
from seqmm.data.readers.markup import clean, has_markup, without_by
from seqmm.data.readers.vectors import ID_COLUMNS, read_vectors
from seqmm.names import DuplicateItems, UnknownItems, counted

if TYPE_CHECKING:
    import polars as pl


def match(
    log: Log, items: pl.DataFrame, duplicate_items: DuplicateItems, unknown_items: UnknownItems
) -> tuple[Log, dict[str, object]]:
    """The log without what ``unknown_items`` drops, and how the items table fits it."""
    import polars as pl

    named, occurring = items["id"].drop_nulls(), pl.Series(log.item_ids, dtype=pl.String).gather(np.unique(log.item))
    counts = named.value_counts()
    twice = named.filter(named.is_in(counts.filter(pl.col("count") > 1)["id"].implode())).unique(maintain_order=True)
    unknown = occurring.filter(~occurring.is_in(named.implode()))
    unused = len(counts) - (len(occurring) - len(unknown))
    record: dict[str, object] = {
        "items_rows": len(items),
        "items_rows_without_id": items["id"].null_count(),
        "items_duplicated": counted(twice.to_list()),
        "items_never_used": unused,
        "items_unknown": counted(unknown.to_list()),
    }
    if len(twice) and duplicate_items == "refuse":
        raise ValueError(
            f"the items table has more than one row of {counted(twice.to_list())}; remove all but one, or keep the "
            "first (`duplicate_items=first`)"
        )
    if len(unknown) and unknown_items == "refuse":
        raise ValueError(
            f"{log.source}: the items table has no row of {counted(unknown.to_list())}, which have interactions; add "
            "them, or set `unknown_items=keep` or `unknown_items=drop`"
        )
    if len(unknown) == len(occurring):
        raise ValueError(
            f"{log.source}: no item of the interactions is in the items table; their ids are "
            f"{counted(unknown.to_list())}, those of the table {counted(named.to_list())}: is that the right column?"
        )
    if unknown_items == "drop":
        known = pl.Series(log.item_ids, dtype=pl.String).is_in(named.implode()).to_numpy()[log.item]
        record["rows_with_unknown_items_dropped"] = int((~known).sum())
        log = log.take(known)
    return log, record


def catalogue_of(items: pl.DataFrame | None, ids: list[str]) -> tuple[dict[str, list[Any]], np.ndarray | None]:
    """Columns of the items table by new item (missing text = ""), and each item's row in the table (-1 = absent)."""
    if items is None:
        return {}, None
    import polars as pl

    for name in ("source_index", "source_row", "_row"):
        if name in items.columns:
            raise ValueError(f"the items table has a column {name!r}, which is written by seqmm itself; rename yours")
    numbered = items.with_row_index("_row").unique("id", keep="first", maintain_order=True)
    joined = pl.DataFrame({"id": ids}).join(numbered, on="id", how="left", maintain_order="left")
    filled = joined.with_columns(
        pl.col(pl.String).fill_null(""), *(pl.col(c).fill_null([]) for c, t in joined.schema.items() if t == pl.List)
    )
    row_of = filled["_row"].cast(pl.Int64).fill_null(-1).to_numpy()
    return {column: filled[column].to_list() for column in filled.columns if column not in ("id", "_row")}, row_of


_NOT_TEXT = (*RAW_TEXT, "images")


def cleaned(catalogue: Mapping[str, list[Any]]) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """The columns with short texts as people would write them, and how many cells of each held something else.

    The one place where markup, entities, scripts and styles leave titles, brands and tags, whatever the source
    (:func:`~seqmm.data.readers.markup.clean`); a brand also loses the "by" that pages set above it, and a category that
    holds markup goes, since it is a piece of the page: the category lists of 2018 end with such. White space does not
    count. Columns of :data:`~seqmm.data.readers.columns.RAW_TEXT` and URLs of images stay.
    """
    columns: dict[str, list[Any]] = dict(catalogue)
    counts: dict[str, int] = {}
    for name, cells in catalogue.items():
        if name not in _NOT_TEXT:
            columns[name] = [_cleaned_cell(name, cell) for cell in cells]
            changed = sum(_spaced(new) != _spaced(old) for new, old in zip(columns[name], cells, strict=True))
            counts |= {name: changed} if changed else {}
    return columns, counts


def _cleaned_cell(column: str, cell: Any) -> Any:
    if isinstance(cell, str):
        return clean(without_by(cell) if column == "brand" else cell)
    if isinstance(cell, list) and all(isinstance(word, str) for word in cell):
        words = [clean(word) for word in cell if not (column == "categories" and has_markup(word))]
        return [word for word in words if word]
    return cell


def _spaced(cell: Any) -> Any:
    """A cell without what white space, and words of nothing else, make of it."""
    if isinstance(cell, str):
        return cell.split()
    return [word for word in map(_spaced, cell) if word] if isinstance(cell, list) else cell


def tag_sets(catalogue: Mapping[str, list[Any]], columns: Sequence[str]) -> dict[str, Features]:
    """Tag features; a vocabulary is in order of frequency, then of the alphabet."""
    sets = {}
    for column in columns:
        if column not in catalogue:
            have = ", ".join(catalogue) or "none"
            raise ValueError(f"tags {column!r}: the items table has no such column; it has: {have}")
        words = [[cell] if isinstance(cell, str) else cell or [] for cell in catalogue[column]]
        words = [list(dict.fromkeys(word for word in row if word)) for row in words]
        count: dict[str, int] = {}
        for row in words:
            for word in row:
                count[word] = count.get(word, 0) + 1
        vocabulary = tuple(sorted(count, key=lambda word: (-count[word], word)))
        index = {word: number for number, word in enumerate(vocabulary)}
        offsets = np.cumsum([0, *(len(row) for row in words)]).astype(np.int64)
        values = np.array([index[word] for row in words for word in row], np.int64)
        sets[column] = Features("tags", values, offsets, vocabulary, {"column": column})
    return sets


def source_rows_of(
    log: Log, ids: list[str], row_of: np.ndarray | None, items: pl.DataFrame | None
) -> tuple[np.ndarray | None, int | None]:
    """The row of each item in a feature file without ids, and how many rows it must have; None = nobody knows."""
    if items is not None:
        return row_of, len(items)
    if not all(number.isdecimal() for number in log.item_ids):
        return None, None
    return np.array([int(number) for number in ids]), max(map(int, log.item_ids)) + 1


def vectors_of_file(
    file: Path, encoder: str, ids: list[str], row_of: np.ndarray | None, rows: int | None, id_column: str | None
) -> tuple[Features, str]:
    """A file's vectors in the order of the corpus' items, and a line about them."""
    columns = dict.fromkeys((*((id_column,) if id_column else ()), *ID_COLUMNS))
    values, missing, report = read_vectors(
        file, ids, row_of, source_rows=rows, in_order=False, id_columns=tuple(columns)
    )
    provenance = {"encoder": encoder}
    if missing.any():
        provenance["missing"] = "mean vector"
    features = Features("dense", values, provenance=provenance, missing=missing if missing.any() else None)
    return features, report.describe(len(ids))
