"""Split protocols as pure functions: rows in, labels out (0 train, 1 validation, 2 test).

Rows are sorted by (user, position) and ``position`` is the 0-based rank in the user's whole history.
"""

from __future__ import annotations

import numpy as np

from seqmm.data.interactions import Interactions
from seqmm.names import SPLITS
from seqmm.random import hash_ints

LABELS = {"0": 0, "1": 1, "2": 2, "train": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
"""Spellings of a split label in a source file."""


def leave_one_out(user: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Last row of a user = test, the one before = validation; a user with fewer than 3 rows is train only."""
    count = np.bincount(user)[user]
    from_end = np.where(count < 3, 3, count - position)
    return np.select([from_end == 1, from_end == 2], [2, 1], 0).astype(np.int8)


def ratio(user: np.ndarray, seed: int) -> np.ndarray:
    """Per-user random 8:1:1 as in MMRec's preprocessing notebook.

    A user's rows are shuffled; with n < 10 rows: n - 2 train, 1 validation, 1 test; with n >= 10 and h = floor(n / 5):
    n - h train, floor(h / 2) validation, the rest test. A user with fewer than 3 rows is train only.
    """
    order = np.lexsort((hash_ints("ratio", seed, np.arange(len(user))), user))
    count = np.bincount(user)
    rank = np.empty(len(user), np.int64)
    rank[order] = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    n = count[user]
    held = np.select([n < 3, n < 10], [0, 2], n // 5)
    validation = held // 2
    labels = np.where(rank < n - held, 0, np.where(rank < n - held + validation, 1, 2))
    return labels.astype(np.int8)


def temporal(
    timestamp: np.ndarray, validation: float = 0.1, test: float = 0.1, nanoseconds: np.ndarray | None = None
) -> np.ndarray:
    """Cuts at global time quantiles; rows of one moment stay on one side (the later one).

    Args:
        timestamp: seconds.
        validation: share of the rows.
        test: share of the rows.
        nanoseconds: after the whole second; None = 0.
    """
    if nanoseconds is not None:
        timestamp = timestamp * 10**9 + nanoseconds
    ordered = np.sort(timestamp)
    cuts = [ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (1 - validation - test, 1 - test)]
    return np.searchsorted(np.array(cuts), timestamp, side="right").astype(np.int8)


def cold(item: np.ndarray, num_items: int, seed: int, validation: float = 0.1, test: float = 0.1) -> np.ndarray:
    """Holds whole items out: a random share of items is seen in validation only, another in test only."""
    order = np.argsort(hash_ints("cold", seed, np.arange(num_items)), kind="stable")
    of_item = np.zeros(num_items, np.int8)
    num_test, num_validation = round(num_items * test), round(num_items * validation)
    of_item[order[:num_test]] = 2
    of_item[order[num_test : num_test + num_validation]] = 1
    return of_item[item]


def has_train(user: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``[rows]`` bool: whether the row's user has a train row. Rows without one cannot be evaluated."""
    return np.bincount(user[labels == 0], minlength=int(user.max(initial=-1)) + 1)[user] > 0


def split(rows: Interactions, labels: np.ndarray) -> dict[str, Interactions]:
    """``{"train": …, "validation": …, "test": …}`` by label, order kept."""
    parts: dict[str, Interactions] = {}
    for label, name in enumerate(SPLITS):
        keep = labels == label
        timestamp = None if rows.timestamp is None else rows.timestamp[keep]
        parts[name] = Interactions(rows.user[keep], rows.item[keep], rows.position[keep], timestamp)
    return parts
