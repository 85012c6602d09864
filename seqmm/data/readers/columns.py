"""What the columns of a table mean: ids, times, places, split labels, texts. The one way from a table to a log."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from seqmm.data.filtering import Log
from seqmm.data.readers.cells import (
    is_index,
    lists_in,
    looks_like_lists,
    text_ids,
    without_missing,
    words_for_missing,
)
from seqmm.data.readers.markup import one_line
from seqmm.data.readers.places import places, split_labels
from seqmm.data.readers.roles import USUAL, Roles, require
from seqmm.data.readers.times import Times, read_times
from seqmm.names import TimeUnit

if TYPE_CHECKING:
    import polars as pl

logger = logging.getLogger(__name__)

RAW_TEXT = ("description", "features", "text")
"""Columns kept as the source has them, with markup and line breaks, for :mod:`seqmm.features.readers.item_text`; all
other text is cleaned to one line (:func:`seqmm.data.catalogue.cleaned`)."""


def log_of(
    frame: pl.DataFrame,
    roles: Roles,
    where: object,
    *,
    source: str,
    time_unit: TimeUnit = "auto",
    time_format: str | None = None,
) -> Log:
    """The interactions in a table.

    Rows without user or item are left out, and without a time unless there is a position column; an id that is a word
    for nothing (:data:`~seqmm.data.readers.cells.MISSING`) is missing, too.

    Args:
        frame: with the columns of the roles, of any type.
        roles: of :func:`roles_of`.
        where: the table, for errors.
        source: its name in the corpus' card.
        time_unit: of numeric times.
        time_format: how dates are written, where the year is not first.

    Raises:
        ValueError: an unparsable value (with its row, counted from 1), no complete row.
    """
    import polars as pl

    user, item = roles["user"], roles["item"]
    notes = tuple(_said_missing(frame[column], where) for column in dict.fromkeys((user, item)))
    frame = frame.with_columns(text_ids(frame[column], where) for column in dict.fromkeys((user, item)))
    rows = pl.Series("row", np.arange(1, len(frame) + 1, dtype=np.int32))
    complete = frame[user].is_not_null() & frame[item].is_not_null()
    if "timestamp" in roles and frame[roles["timestamp"]].dtype.is_float():
        frame = frame.with_columns(pl.col(roles["timestamp"]).fill_nan(None))
    if "timestamp" in roles and "position" not in roles:
        complete = complete & frame[roles["timestamp"]].is_not_null()
    incomplete = int((~complete).sum())
    if incomplete:
        frame, rows = frame.filter(complete), rows.filter(complete)
    if frame.is_empty():
        raise ValueError(f"{where} holds no complete row (columns {', '.join(roles.values())})")
    user_code, user_ids = encode(frame[user])
    item_code, item_ids = encode(frame[item])
    times, order, labels = (frame[roles[role]] if role in roles else None for role in USUAL)
    read = None if times is None else read_times(times, rows, where, time_unit, time_format)
    return Log(
        user_code,
        item_code,
        user_ids,
        item_ids,
        timestamp=None if read is None else read.seconds,
        nanoseconds=None if read is None else read.nanoseconds,
        position=None if order is None else places(order, rows, where),
        label=None if labels is None else split_labels(labels, rows, where),
        source=source,
        incomplete=incomplete,
        notes=tuple(filter(None, notes)),
        said=roles.said() | _said_of_order(roles, read),
    )


def _said_of_order(roles: Roles, times: Times | None) -> dict[str, str]:
    """What the card says of the columns that order the rows."""
    said = {} if times is None else {"times": f"column {roles['timestamp']}, {times.said}"}
    return said | {role: f"column {roles[role]}" for role in ("position",) if role in roles}


def _said_missing(ids: pl.Series, where: object) -> str:
    """What to say of words for a missing id; "" if there is none."""
    found = words_for_missing(ids)
    words = ", ".join(f"{word!r} ({count:,} rows)" for word, count in found.items())
    return f"column {ids.name!r}: {words} taken as missing" if found else ""


def items_of(
    frame: pl.DataFrame,
    where: object,
    *,
    key: str,
    rename: Mapping[str, str] | None = None,
    lists: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """An items table with ``id`` and every other column as text or lists of texts, short texts on one line.

    Words for nothing (:data:`~seqmm.data.readers.cells.MISSING`) are empty, columns of row numbers are left out, and a
    column whose cells are all lists written as text ("['a', 'b']") is one of lists.

    Args:
        frame: as read.
        where: the table, for errors.
        key: the column of the item ids.
        rename: new name -> column, to bring columns to the names seqmm knows: title, description, brand, categories,
            images.
        lists: column (new name) -> separator: cut it into a list of strings.

    Raises:
        ValueError: a missing column, a name that is taken, a column of bytes or vectors.
    """
    import polars as pl

    frame = _without_index(frame, where, {key, *(rename or {}).values()})
    if key in frame.columns:
        frame = frame.with_columns(text_ids(frame[key], where))
    for name, kind in frame.schema.items():
        inner = kind.inner if isinstance(kind, pl.List) else kind
        if inner in (pl.Binary, pl.Object) or isinstance(inner, pl.Array | pl.Struct):
            raise ValueError(
                f"{where}: column {name!r} holds {kind}, which is no text; leave it out of the table, or give "
                "vectors as a feature set (images and sound: files named by item)"
            )
    frame = frame.with_columns(pl.exclude(pl.String, pl.List).cast(pl.String))
    names = {old: new for new, old in (rename or {}).items()}
    for renaming in (names, {} if key == "id" else {key: "id"}):
        for old, new in renaming.items():
            require(old, frame.columns, where, "item" if old == key else "rename")
            if new in frame.columns:
                raise ValueError(
                    f"{where} has a column {new!r} already, so {old!r} cannot take that name; rename it first"
                )
        frame = frame.rename(renaming)
    require("id", frame.columns, where, "item")
    frame = frame.with_columns(_described(frame[name], where, name in (lists or {})) for name in frame.columns)
    for column, separator in (lists or {}).items():
        require(column, frame.columns, where, "lists")
        if frame.schema[column] == pl.String:
            words = pl.col(column).fill_null("").str.split(separator)
            frame = frame.with_columns(words.list.eval(pl.element().str.strip_chars().filter(pl.element() != "")))
    text = [name for name, kind in frame.schema.items() if kind == pl.String and name not in ("id", *RAW_TEXT)]
    cleaned = [frame[name].map_elements(one_line, return_dtype=pl.String, skip_nulls=True) for name in text]
    return frame.with_columns(*cleaned)


def _without_index(frame: pl.DataFrame, where: object, named: Collection[str]) -> pl.DataFrame:
    """Without the columns that only number rows."""
    index = [name for name in frame.columns if is_index(name) and name not in named]
    if any(frame[name].null_count() < len(frame) for name in index):
        logger.warning("%s: column %s is taken for row numbers and left out", where, ", ".join(map(repr, index)))
    return frame.drop(index)


def _described(column: pl.Series, where: object, cut: bool) -> pl.Series:
    """One column of an items table: words for nothing are empty, lists written as text are lists."""
    import polars as pl

    if column.name == "id" or column.dtype not in (pl.String, pl.List(pl.String)):
        return column
    column = without_missing(column)
    if column.dtype != pl.String or column.name == "title":
        return column
    lists = lists_in(column)
    if lists is None and not cut and (likely := looks_like_lists(column)) is not None:
        logger.warning(
            "%s: cells of column %r look like lists (%.60s) and some are none, so each is read as one text; write them "
            "with one separator and cut them there (lists: %s='|')",
            where, column.name, likely, column.name,
        )  # fmt: skip
    return column if lists is None else lists


def encode(ids: pl.Series) -> tuple[np.ndarray, list[str]]:
    """Codes and ids in source order: by value if all ids are plain integers, else by first appearance."""
    import polars as pl

    ids = ids.cast(pl.String)
    names = ids.unique(maintain_order=True)
    numbers = names.cast(pl.Int64, strict=False)
    if not numbers.has_nulls() and (numbers.cast(pl.String) == names).all():
        names = names.gather(numbers.arg_sort())
    return ids.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int32), names.to_list()
