"""Interactions as columns, and rows of varying length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COUNT = 10_000_000
"""Whole columns of smaller times, without a unit, are a count (1, 2, 3 …; a year; the number of a day): what comes
first is clear, what day it was is not. As seconds they would be the first weeks of 1970."""


@dataclass(frozen=True)
class Ragged:
    """Rows of varying length: row ``r`` is ``values[offsets[r] : offsets[r + 1]]`` (CSR without weights)."""

    offsets: np.ndarray  # [rows + 1] int64
    values: np.ndarray  # [N] or [N, d]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """``[rows]`` int64."""
        return np.diff(self.offsets)

    @classmethod
    def from_pairs(cls, rows: np.ndarray, values: np.ndarray, num_rows: int) -> Ragged:
        """Groups ``values`` by ``rows``; the order inside a row is the order given."""
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=num_rows)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), values[order])


@dataclass(frozen=True)
class Interactions:
    """Columns of equal length, sorted by (user, position).

    ``position`` is the 0-based rank of the row in its user's whole history (all splits together), so histories across
    splits can be put in order. ``timestamp`` is in seconds, -1 where a row has none, None where no row has one.
    """

    user: np.ndarray  # int64
    item: np.ndarray  # int64
    position: np.ndarray  # int64
    timestamp: np.ndarray | None = None  # int64

    def __len__(self) -> int:
        return len(self.user)
