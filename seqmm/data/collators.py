"""Rows to batches. A collator is pure in (seed, epoch, rows): no state, so any number of ranks or workers agree.

Every batch holds ``row_seed [B]`` int64, a hash of (seed, epoch, row) from which a model draws per-row noise.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.data.sampling import NegativeSampler
from seqmm.names import Targets
from seqmm.random import hash_ints


class Collator(Protocol):
    """What a :class:`~seqmm.models.base.Stage` needs."""

    def __init__(self, corpus: Corpus, seed: int, **options: object) -> None: ...

    def batches(self, epoch: int, size: int) -> list[np.ndarray]:
        """The epoch's GLOBAL batches, each an int64 array of row numbers; the same on every rank."""
        ...

    def num_targets(self, rows: np.ndarray) -> int:
        """Terms of the loss's mean in ``rows``: accumulated batches are weighted by it."""
        ...

    def __call__(self, epoch: int, rows: np.ndarray) -> dict[str, Tensor]:
        """Tensors of ``rows`` (which may be empty: a rank may have no row of a short batch)."""
        ...


def shuffled(num_rows: int, seed: int, epoch: int, size: int) -> list[np.ndarray]:
    """Row numbers in a seeded random order, cut into batches; the last one may be short."""
    order = np.argsort(hash_ints("order", seed, epoch, np.arange(num_rows)), kind="stable")
    return [order[start : start + size] for start in range(0, num_rows, size)]


def row_seeds(seed: int, epoch: int, rows: np.ndarray) -> Tensor:
    """``[B]`` int64."""
    return torch.from_numpy(hash_ints("row", seed, epoch, np.asarray(rows, dtype=np.int64)).view(np.int64))


class PairCollator:
    """A row for every train interaction, each with one sampled negative.

    A batch holds ``user``, ``positive``, ``negative`` and ``row_seed``, all ``[B]`` int64; see
    :class:`~seqmm.data.sampling.NegativeSampler`.

    Args:
        corpus: its train split.
        seed: of the order and the negatives.
        negatives: False leaves ``negative`` out, for losses without one.
    """

    def __init__(self, corpus: Corpus, seed: int, *, negatives: bool = True):
        self.seed = seed
        self._train = corpus.splits["train"]
        self._sampler = NegativeSampler(corpus, seed) if negatives else None
        self._epoch, self._negative = -1, np.zeros(0, np.int64)

    def batches(self, epoch: int, size: int) -> list[np.ndarray]:
        return shuffled(len(self._train), self.seed, epoch, size)

    def num_targets(self, rows: np.ndarray) -> int:
        return len(rows)

    def __call__(self, epoch: int, rows: np.ndarray) -> dict[str, Tensor]:
        batch = {
            "user": torch.from_numpy(self._train.user[rows]),
            "positive": torch.from_numpy(self._train.item[rows]),
            "row_seed": row_seeds(self.seed, epoch, rows),
        }
        if self._sampler is None:
            return batch
        if epoch != self._epoch:  # all rows at once, in user order: a fifth of the time of a draw for each batch
            self._negative = self._sampler(epoch, np.arange(len(self._train)), self._train.user)
            self._epoch = epoch
        return batch | {"negative": torch.from_numpy(self._negative[rows])}


class UserCollator:
    """Rows are the slots of an epoch: a user, one of its train items and one that is not, each drawn uniformly (MMSSL).

    Users are equally frequent, however many items they have. An epoch is a seeded permutation of the users with train
    items, repeated until its slots are filled, so a batch of up to that many rows is a uniform sample of the users
    without replacement, whatever its size. A batch holds what a :class:`PairCollator`'s does; the negative is uniform
    over ALL items but the user's own.

    Args:
        corpus: its train split.
        seed: of the order, the positives and the negatives.
    """

    def __init__(self, corpus: Corpus, seed: int):
        self.seed = seed
        self._train = corpus.histories("train")
        self._users = np.flatnonzero(self._train.lengths)  # [users with train items]
        self._sampler = NegativeSampler(corpus, seed, every_item=True)
        self._epoch, self._order = -1, self._users

    def batches(self, epoch: int, size: int) -> list[np.ndarray]:
        """As many as an epoch of interactions would have, ``floor(n / size) + 1``, all of them full."""
        if not len(self._users):
            return []
        number = len(self._train.values) // size + 1
        return list(np.arange(number * size).reshape(number, size))

    def num_targets(self, rows: np.ndarray) -> int:
        return len(rows)

    def __call__(self, epoch: int, rows: np.ndarray) -> dict[str, Tensor]:
        if epoch != self._epoch:
            self._order = self._users[np.argsort(hash_ints("users", self.seed, epoch, self._users), kind="stable")]
            self._epoch = epoch
        user = self._order[rows % len(self._order)]
        count = self._train.lengths[user].astype(np.uint64)
        bits = hash_ints("positive", self.seed, epoch, rows) >> np.uint64(32)  # 32 bits times a count, shifted: uniform
        place = self._train.offsets[user] + (bits * count >> np.uint64(32)).astype(np.int64)
        return {
            "user": torch.from_numpy(user),
            "positive": torch.from_numpy(self._train.values[place]),
            "negative": torch.from_numpy(self._sampler(epoch, rows, user)),
            "row_seed": row_seeds(self.seed, epoch, rows),
        }


class SequenceCollator:
    """Training windows of users' train sequences, right-padded, in batches of similar length.

    A batch holds ``user [B]``, ``history [B, L]`` (oldest first), ``mask [B, L]`` (True = real), ``target [B, L]`` (the
    item that follows each position), ``target_mask [B, L]`` (True = trained), ``row_seed [B]`` and, if asked for,
    ``negative [B, L, negatives]``. ``targets``:

    - ``"every"``: a user's sequence is cut into windows of ``max_length`` inputs, the last one full; every position of
      a window is trained, so every item but a user's first is a target exactly once an epoch. For a causal model and
      users of at most ``max_length + 1`` items that is the sum over all prefixes, at a fraction of the positions.
    - ``"prefix"``: a row for every (prefix, next item), with the last ``max_length`` items of the prefix; trained at
      its last position.

    Args:
        corpus: read through ``histories("train")``; users with fewer than two train items give no row.
        seed: of the order and the negatives.
        max_length: inputs in a window.
        targets: see above.
        negatives: items drawn for each position (:class:`~seqmm.data.sampling.NegativeSampler`).

    Raises:
        ValueError: for options out of range, or a corpus in which no user has two train items.
    """

    pool = 32
    """Batches that are sorted by length together: large enough for little padding, small enough to stay random."""

    def __init__(
        self,
        corpus: Corpus,
        seed: int,
        *,
        max_length: int = 50,
        targets: Targets = "every",
        negatives: int = 0,
    ):
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        histories = corpus.histories("train")
        inputs = np.maximum(histories.lengths - 1, 0)  # a user's last item is only a target
        if not inputs.any():
            raise ValueError(f"no user of corpus {corpus.name!r} has two train items: there is no sequence to train on")
        prefix = targets == "prefix"
        stride = 1 if prefix else max_length
        windows = -(-inputs // stride)  # [users]
        self.user = np.repeat(np.arange(len(histories)), windows)  # [rows]
        later = np.repeat(np.cumsum(windows), windows) - np.arange(len(self.user)) - 1  # windows after this one
        stop = inputs[self.user] - later * stride  # the last window ends at the last input
        start = np.maximum(stop - max_length, 0)
        self._items = histories.values
        self._start, self._length = histories.offsets[:-1][self.user] + start, stop - start
        self._context = self._length - 1 if prefix else np.zeros_like(start)  # leading positions that are not trained
        self.seed, self.max_length, self.negatives = seed, max_length, negatives
        self._sampler = NegativeSampler(corpus, seed) if negatives else None

    def batches(self, epoch: int, size: int) -> list[np.ndarray]:
        """Rows in seeded order, sorted by length within pools of :attr:`pool` batches; the batches' order is seeded."""
        batches = []
        for rows in shuffled(len(self.user), self.seed, epoch, size * self.pool):
            rows = rows[np.argsort(self._length[rows], kind="stable")]
            batches += [rows[start : start + size] for start in range(0, len(rows), size)]
        return [batches[i] for i in np.argsort(hash_ints("batches", self.seed, epoch, np.arange(len(batches))))]

    def num_targets(self, rows: np.ndarray) -> int:
        return int((self._length - self._context)[rows].sum())

    def __call__(self, epoch: int, rows: np.ndarray) -> dict[str, Tensor]:
        length = self._length[rows]
        column = np.arange(length.max(initial=1))  # [L]
        mask = column < length[:, None]  # [B, L]
        index = np.where(mask, self._start[rows][:, None] + column, 0)
        trained = mask & (column >= self._context[rows][:, None])
        batch = {
            "user": self.user[rows],
            "history": np.where(mask, self._items[index], 0),
            "mask": mask,
            "target": np.where(trained, self._items[index + 1], 0),
            "target_mask": trained,
        }
        if self._sampler is not None:
            place = np.asarray(rows)[:, None, None] * self.max_length + column[:, None]
            place = place * self.negatives + np.arange(self.negatives)  # [B, L, K]
            user = np.broadcast_to(batch["user"][:, None, None], place.shape)
            batch["negative"] = self._sampler(epoch, place.ravel(), user.ravel()).reshape(place.shape)
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        return tensors | {"row_seed": row_seeds(self.seed, epoch, rows)}
