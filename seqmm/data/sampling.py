"""Negative items, drawn without state and without a Python loop over rows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from seqmm.data.corpus import Corpus
from seqmm.random import derive_seed, hash_ints

BITMAP_BYTES = 1 << 27
"""Up to this size (128 MB) membership is one bit for every (user, item) pair; above it, a search in sorted keys."""


class NegativeSampler:
    """Uniform over the items that occur in train (or all items), without the user's own train items.

    A draw is a pure function of (seed, epoch, row, attempt), so any split of the rows over processes gives the same.

    Args:
        corpus: its train split says what is positive and what can be drawn.
        seed: of the draws.
        every_item: also draw items without a train interaction (MMSSL).

    Raises:
        ValueError: if a user has every item that can be drawn, so that no negative exists.
    """

    def __init__(self, corpus: Corpus, seed: int, *, every_item: bool = False):
        train = corpus.splits["train"]
        self.seed, self.num_items = seed, corpus.num_items
        self.pool = np.arange(corpus.num_items) if every_item else np.unique(train.item)  # [P]
        self._key = np.unique(train.user * self.num_items + train.item)
        full = np.flatnonzero(np.bincount(self._key // self.num_items) == len(self.pool))
        if len(full):
            user = corpus.user_ids[full[0]] if corpus.user_ids else full[0]
            raise ValueError(
                f"corpus {corpus.name!r}: user {user!r} (index {full[0]}) has all {len(self.pool)} items of the train "
                "split, so no negative exists; drop the user or take a corpus with more items"
            )
        self._bits: np.ndarray | None = None
        if corpus.num_users * self.num_items <= 8 * BITMAP_BYTES:
            self._bits = np.zeros(corpus.num_users * self.num_items // 8 + 1, np.uint8)
            np.bitwise_or.at(self._bits, self._key >> 3, np.left_shift(1, self._key & 7).astype(np.uint8))

    def __call__(self, epoch: int, rows: np.ndarray, users: np.ndarray) -> np.ndarray:
        """One negative a row.

        Args:
            epoch: 0-based.
            rows: ``[B]`` row numbers, the counters of the draws.
            users: ``[B]`` whose items are refused.

        Returns:
            ``[B]`` int64 items.
        """
        negative = self._draw(epoch, 0, rows)
        left = np.flatnonzero(self._taken(users, negative))
        attempt = 1
        while len(left):
            negative[left] = self._draw(epoch, attempt, rows[left])
            left = left[self._taken(users[left], negative[left])]
            attempt += 1
        return negative

    def _draw(self, epoch: int, attempt: int, rows: np.ndarray) -> np.ndarray:
        # 32 bits times P, shifted, is uniform in 0..P-1 but for a relative bias of P / 2^32
        bits = hash_ints(_stream(self.seed, epoch, attempt), rows) >> np.uint64(32)
        return self.pool[(bits * np.uint64(len(self.pool)) >> np.uint64(32)).view(np.int64)]

    def _taken(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """``[B]`` bool: whether the pair is in train."""
        key = users * self.num_items + items
        if self._bits is not None:
            return (self._bits[key >> 3] >> (key & 7).astype(np.uint8) & 1).view(bool)
        place = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        return self._key[place] == key


@lru_cache(maxsize=64)
def _stream(seed: int, epoch: int, attempt: int) -> int:
    return derive_seed("negative", seed, epoch, attempt)  # the same for all batches of an epoch: half the time of one
