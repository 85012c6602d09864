"""What the cells of a table say of order: times, places and split labels, read exactly or refused by row and value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqmm.data.splits import LABELS
from seqmm.names import TimeUnit

if TYPE_CHECKING:
    import polars as pl

LATEST = 100_000_000_000
"""Seconds of the year 5138: anything above is milliseconds."""


def seconds(values: pl.Series, rows: pl.Series, where: object, unit: TimeUnit) -> np.ndarray:
    """``[n]`` int64 seconds, -1 for null.

    Raises:
        ValueError: naming the table, row and value of the first that is no time.
    """
    import polars as pl

    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.epoch("s").fill_null(-1).to_numpy().copy()
    numbers = values.cast(pl.Float64, strict=False)
    broken = values.is_not_null() & (numbers.is_null() | ~numbers.is_finite().fill_null(True))
    if broken.any() and values.dtype == pl.String:
        dates = values.filter(broken).str.to_datetime(strict=False, time_unit="us", time_zone="UTC").dt.epoch("s")
        if dates.has_nulls():
            _refuse(
                values.filter(broken), dates.is_null(), rows.filter(broken), where, "a time (seconds or an ISO date)"
            )
        known = np.full(len(values), np.nan)
        known[broken.to_numpy()] = dates.to_numpy()
        known[~broken.to_numpy()] = numbers.filter(~broken).to_numpy() / (1000 if unit == "ms" else 1)
        numbers = pl.Series(known, nan_to_null=True)
    elif broken.any():
        _refuse(values, broken, rows, where, "a time")
    elif unit == "ms":
        numbers = numbers / 1000
    late = (numbers > LATEST).fill_null(False)
    if late.any():
        _refuse(values, late, rows, where, "a time in seconds; are these milliseconds? (time unit ms)")
    negative = (numbers < 0).fill_null(False)
    if negative.any():
        _refuse(values, negative, rows, where, "a time after 1970")
    return numbers.floor().cast(pl.Int64).fill_null(-1).to_numpy().copy()


def integers(values: pl.Series, rows: pl.Series, where: object) -> np.ndarray:
    """``[n]`` int64 places.

    Raises:
        ValueError: naming the table, row and value of the first that is no integer.
    """
    import polars as pl

    numbers = values.cast(pl.Int64, strict=False)
    if numbers.has_nulls():
        _refuse(values, numbers.is_null(), rows, where, "a position (an integer)")
    return numbers.to_numpy().copy()


def split_labels(values: pl.Series, rows: pl.Series, where: object) -> np.ndarray:
    """``[n]`` int8 split labels, of the words in :data:`~seqmm.data.splits.LABELS`.

    Raises:
        ValueError: naming the table, row and value of the first that is no label.
    """
    import polars as pl

    words = values.cast(pl.String).str.to_lowercase()
    labels = words.replace_strict(LABELS, default=None, return_dtype=pl.Int8)
    if labels.has_nulls():
        _refuse(values, labels.is_null(), rows, where, f"a split label ({', '.join(LABELS)})")
    return labels.to_numpy().copy()


def _refuse(values: pl.Series, wrong: pl.Series, rows: pl.Series, where: object, expected: str) -> None:
    count = int(wrong.sum())
    first = wrong.arg_max() or 0
    raise ValueError(
        f"{where}, row {rows[first]}, column {values.name!r}: {values[first]!r} is not {expected} "
        f"({count} such row{'s' if count > 1 else ''}); correct or remove {'them' if count > 1 else 'it'}"
    )
