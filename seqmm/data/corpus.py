"""A prepared corpus: interactions under one split protocol, ids, and item features.

A corpus on disk is a Hub dataset repository (README front matter ``configs:``, parquet files): ``items``, ``users``, one
config per split protocol, one per feature set. Graphs and sequences are derived at load, so a split has one source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from seqmm.graph import Graph

SPLITS = ("train", "validation", "test")
PROTOCOLS = ("leave_one_out", "ratio", "temporal", "cold", "given")


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
    splits can be put in order. ``timestamp`` is in seconds, or None where the source has none.
    """

    user: np.ndarray  # int64
    item: np.ndarray  # int64
    position: np.ndarray  # int64
    timestamp: np.ndarray | None = None  # int64

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Features:
    """One feature set of the items, row ``i`` for item ``i``.

    dense: ``values [n, d]``. ragged: ``offsets [n + 1]``, ``values [N, d]``. tags: ``offsets``, ``values [N]`` int64 ids
    into ``vocabulary`` (brands, categories, genres). ``provenance`` says how it was made (encoder, revision, pooling …).
    """

    kind: Literal["dense", "ragged", "tags"]
    values: np.ndarray
    offsets: np.ndarray | None = None
    vocabulary: tuple[str, ...] | None = None
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """Width of a vector; for tags the size of the vocabulary."""
        return len(self.vocabulary or ()) if self.kind == "tags" else int(self.values.shape[1])


@dataclass(frozen=True, eq=False)
class Corpus:
    """What a model, a trainer and an evaluator read. Ids are 0-based and dense; no id is reserved for padding."""

    name: str
    protocol: str
    num_users: int
    num_items: int
    splits: dict[str, Interactions]
    features: dict[str, Features] = field(default_factory=dict)
    user_ids: tuple[str, ...] = ()
    """External ids: ``user_ids[u]`` is the source's name of user ``u``."""
    item_ids: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    """Item titles ("" where the source has none); for people, never read by a model."""
    info: dict[str, object] = field(default_factory=dict)
    """How it was prepared (source, permutation seed, tie order and share, k-core); part of the card, not of the mathematics."""

    def graph(self) -> Graph:
        """The user-item graph of the TRAIN split: nodes are users ``0..U-1``, then items ``U..U+I-1``."""
        from seqmm.graph import Graph

        train = self.splits["train"]
        return Graph.bipartite(train.user, train.item, self.num_users, self.num_items)

    def histories(self, split: str) -> Ragged:
        """What is known of each user BEFORE ``split``, in order: train for validation, train + validation for test.

        ``histories("train")`` is the train split itself: the sequences a model trains on.
        """
        names = {"train": ["train"], "validation": ["train"], "test": ["train", "validation"]}[split]
        return self._cached_rows(tuple(names))

    def targets(self, split: str) -> Ragged:
        """Items of ``split`` by user, in order."""
        return self._cached_rows((split,))

    def _cached_rows(self, names: tuple[str, ...]) -> Ragged:
        if names not in self._rows:
            parts = [self.splits[name] for name in names]
            user = np.concatenate([part.user for part in parts])
            item = np.concatenate([part.item for part in parts])
            position = np.concatenate([part.position for part in parts])
            order = np.lexsort((position, user))
            self._rows[names] = Ragged.from_pairs(user[order], item[order], self.num_users)
        return self._rows[names]

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], Ragged]:
        return {}
