"""From a raw log to ordered, dense rows: order, duplicates, k-core, ids. Pure functions on arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
    nanoseconds: np.ndarray | None = None
    """``[rows]`` int64 after the whole second of ``timestamp``: they order the rows and are not stored; None = 0."""
    said: Mapping[str, str] = field(default_factory=dict)
    """What the reader tells of the order, for the card: ``times`` (column, unit, first and last), ``position``,
    ``taken_by_name``, ``not_read``."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Log:
        """Rows by mask or index; the ids stay."""
        names = ("user", "item", "timestamp", "nanoseconds", "position", "label")
        columns = {name: getattr(self, name) for name in names}
        kept: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
        return replace(self, **kept)


def chronological(log: Log, tie_order: TieOrder, seed: int) -> np.ndarray:
    """Row numbers sorted by user, then time; ties by position, then by a seeded hash or as the source has them.

    Time is the timestamp; where a row has none but the source gives positions, that of its neighbour (the row before,
    else after); for a user without any timestamp, and for a source without, the position. Ties matter: the public
    Amazon files write a day's items in ascending id, so the last item is the largest of its tie group.
    """
    rows = np.arange(len(log))
    time, nanoseconds = _time(log)
    tie = rows if tie_order == "source" else hash_ints("ties", seed, rows)
    return np.lexsort((rows, tie, rows * 0 if log.position is None else log.position, nanoseconds, time, log.user))


def order_of(log: Log, tie_order: TieOrder) -> str:
    """What :func:`chronological` sorts by, in words: "timestamp, ties by column position, then by a seeded hash"."""
    by = [] if log.timestamp is None else ["timestamp"]
    by += [] if log.position is None else [log.said.get("position", "position")]
    ties = "as in the source" if tie_order == "source" else "by a seeded hash"
    if not by:
        return f"none (no timestamp, no position); a user's interactions {ties}"
    said = f"{by[0]}, ties by {by[1]}, then {ties}" if len(by) == 2 else f"{by[0]}, ties {ties}"
    if log.timestamp is not None and log.position is not None and (log.timestamp == -1).any():
        said += "; a row without a timestamp has that of the row before it by position"
    return said


def tie_share(log: Log) -> float | None:
    """Share of neighbouring rows of a user (``log`` in order) with one timestamp; None without timestamps."""
    if log.timestamp is None:
        return None
    neighbours = (np.diff(log.user) == 0) & (log.timestamp[1:] != -1) & (log.timestamp[:-1] != -1)
    same = np.diff(log.timestamp) == 0
    if log.nanoseconds is not None:
        same &= np.diff(log.nanoseconds) == 0
    return float(same[neighbours].mean()) if neighbours.any() else 0.0


def digest_of(log: Log) -> str:
    """sha256 (hex) over the rows as they were read: ids, times and places in the source's order, but no split labels.

    Logs of one digest are one source, whatever their files are called.
    """
    digest = hashlib.sha256()
    for ids in (log.user_ids, log.item_ids):
        digest.update("\0".join(ids).encode("utf-8", "surrogatepass") + b"\1")
    nanoseconds = log.nanoseconds if log.nanoseconds is not None and log.nanoseconds.any() else None
    for column in (log.user, log.item, log.timestamp, nanoseconds, log.position):
        digest.update(b"none" if column is None else np.ascontiguousarray(column, dtype="<i8").data)
    return digest.hexdigest()


def _time(log: Log) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each row, and nanoseconds after them; without times, its position as seconds."""
    none = np.zeros(len(log), np.int64)
    if log.timestamp is None:
        return none if log.position is None else log.position, none
    nanoseconds = none if log.nanoseconds is None else log.nanoseconds
    if log.position is None or not (log.timestamp == -1).any():
        return log.timestamp, nanoseconds
    order = np.lexsort((log.position, log.user))
    user, known = log.user[order], log.timestamp[order] != -1
    row = _carried(user, np.where(known, np.arange(len(log)), -1))
    row = _carried(user[::-1], row[::-1])[::-1]
    time, fine = np.empty_like(none), np.empty_like(none)
    time[order] = np.where(row == -1, log.position[order], log.timestamp[order][row])
    fine[order] = np.where(row == -1, 0, nanoseconds[order][row])
    return time, fine


def _carried(user: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Each -1 becomes the last other value before it of the same user, if there is one."""
    known = np.where(row == -1, 0, np.arange(len(row)))
    source = np.maximum.accumulate(known)
    return np.where(user[source] == user, row[source], -1)


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
