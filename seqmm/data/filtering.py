"""From a raw log to ordered, dense rows: order, duplicates, k-core, ids. Pure functions on arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from seqmm.names import Duplicates, IndexOrder, TieOrder
from seqmm.random import hash_ints


@dataclass(frozen=True)
class Log:
    """What a reader returns: columns of equal length in the order of the source.

    ``user`` and ``item`` are codes into ``user_ids`` and ``item_ids``, which are in source order: by value for integer
    ids (the numbering of the public files), by first appearance otherwise.
    """

    user: np.ndarray  # int
    item: np.ndarray  # int
    user_ids: list[str]
    item_ids: list[str]
    timestamp: np.ndarray | None = None  # int64 seconds, -1 = unknown
    position: np.ndarray | None = None  # int64 place in the user's history as the source has it, need not be dense
    label: np.ndarray | None = None  # int8: 0 train, 1 validation, 2 test
    source: str = ""
    incomplete: int = 0
    """Rows the reader left out because user, item or (without positions) time were empty."""
    notes: tuple[str, ...] = ()
    """What else the reader has to say, a line each."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Log:
        """Rows by mask or index; the ids stay."""
        timestamp, position, label = (
            None if column is None else column[rows] for column in (self.timestamp, self.position, self.label)
        )
        user, item = self.user[rows], self.item[rows]
        return replace(self, user=user, item=item, timestamp=timestamp, position=position, label=label)


def chronological(log: Log, tie_order: TieOrder, seed: int) -> np.ndarray:
    """Row numbers sorted by user, then time; ties in time by a seeded hash, or as the source has them.

    Time is the timestamp; where a row has none but the source gives positions, that of its neighbour (the row before,
    else after); for a user without any timestamp, and for a source without, the position. Ties matter: the public
    Amazon files write a day's items in ascending id, so the last item is the largest of its tie group.
    """
    rows = np.arange(len(log))
    in_source = rows if log.position is None else log.position
    time = _time(log)
    tie = in_source if tie_order == "source" else hash_ints("ties", seed, rows)
    return np.lexsort((rows, tie, time, log.user))


def tie_share(log: Log) -> float | None:
    """Share of neighbouring rows of a user (``log`` in order) with one timestamp; None without timestamps."""
    if log.timestamp is None:
        return None
    neighbours = (np.diff(log.user) == 0) & (log.timestamp[1:] != -1) & (log.timestamp[:-1] != -1)
    return float((np.diff(log.timestamp)[neighbours] == 0).mean()) if neighbours.any() else 0.0


def _time(log: Log) -> np.ndarray:
    if log.timestamp is None:
        return np.zeros(len(log), np.int64) if log.position is None else log.position
    if log.position is None or not (log.timestamp == -1).any():
        return log.timestamp
    order = np.lexsort((log.position, log.user))
    user, time = log.user[order], log.timestamp[order]
    time = _carried(user, time)
    time = _carried(user[::-1], time[::-1])[::-1]
    filled = np.empty_like(time)
    filled[order] = np.where(time == -1, log.position[order], time)
    return filled


def _carried(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Each -1 becomes the last known time before it of the same user, if there is one."""
    known = np.where(time == -1, 0, np.arange(len(time)))
    source = np.maximum.accumulate(known)
    return np.where(user[source] == user, time[source], -1)


def without_duplicates(log: Log, keep: Duplicates) -> np.ndarray:
    """Mask of the rows to keep of ``log`` (in order): a user's first or last row with an item, or every row."""
    if keep == "keep":
        return np.ones(len(log), bool)
    pair = log.user.astype(np.int64) * len(log.item_ids) + log.item
    mask = np.zeros(len(log), bool)
    if keep == "first":
        mask[np.unique(pair, return_index=True)[1]] = True
    else:
        mask[len(log) - 1 - np.unique(pair[::-1], return_index=True)[1]] = True
    return mask


def k_core(user: np.ndarray, item: np.ndarray, k: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Drops rows whose user or item has fewer than ``k`` of them, again and again until none has.

    Returns:
        Mask of the rows that stay, and for each pass (rows, users, items) left before it.
    """
    keep = np.ones(len(user), bool)
    steps = []
    while True:
        of_user, of_item = np.bincount(user[keep]), np.bincount(item[keep])
        steps.append((int(keep.sum()), int((of_user > 0).sum()), int((of_item > 0).sum())))
        rows = np.flatnonzero(keep)
        poor = (of_user[user[rows]] < k) | (of_item[item[rows]] < k)
        if not poor.any():
            return keep, steps
        keep[rows[poor]] = False


def dense(codes: np.ndarray, order: IndexOrder, seed: int, stream: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the codes that occur from 0, in their order or in a seeded random one.

    Returns:
        The new number of each row, ``[rows]`` int64, and the code of each new number.
    """
    used, index = np.unique(codes, return_inverse=True)
    if order == "source":
        return index, used
    shuffle = np.argsort(hash_ints(stream, seed, np.arange(len(used))), kind="stable")
    number = np.empty(len(used), np.int64)
    number[shuffle] = np.arange(len(used))
    return number[index], used[shuffle]
