"""What the cells of a table say of a row's place in its user's history, and of its split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqmm.data.readers.dates import Cells
from seqmm.data.splits import LABELS

if TYPE_CHECKING:
    import polars as pl


def places(values: pl.Series, rows: pl.Series, where: object) -> np.ndarray:
    """``[n]`` int64 places.

    Raises:
        ValueError: naming the table, row and value of the first that is no integer.
    """
    import polars as pl

    text = _whole(values)
    numbers = text.cast(pl.Int64, strict=False)
    if numbers.has_nulls():
        raise Cells(values, rows, where).refused(numbers.is_null(), "a position (an integer)")
    return numbers.to_numpy().copy()


def split_labels(values: pl.Series, rows: pl.Series, where: object) -> np.ndarray:
    """``[n]`` int8 split labels, of the words in :data:`~seqmm.data.splits.LABELS`.

    Raises:
        ValueError: naming the table, row and value of the first that is no label.
    """
    import polars as pl

    words = _whole(values).str.to_lowercase()
    labels = words.replace_strict(LABELS, default=None, return_dtype=pl.Int8)
    if labels.has_nulls():
        raise Cells(values, rows, where).refused(labels.is_null(), f"a split label ({', '.join(LABELS)})")
    return labels.to_numpy().copy()


def _whole(values: pl.Series) -> pl.Series:
    """As text, whole floats (of a table with gaps) without their ".0"."""
    import polars as pl

    return values.cast(pl.String, strict=False).str.strip_chars().str.replace(r"^([+-]?\d+)\.0*$", "${1}")
