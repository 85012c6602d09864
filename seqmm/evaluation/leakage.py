"""Probes that read labels out of how a corpus was numbered or written. They learn nothing: what they score is leaked.

On the public Amazon files a user's index grows with the smallest item he ever touched, test items included, so users
with near indices share test items; a positional encoding of the index reads the same. Ties in time leak where they are
written in ascending item id: the held-out last item is then the largest of its day. :mod:`seqmm.data` permutes ids and
shuffles ties, ``index_order: source`` and ``tie_order: source`` keep the leaks to show them.

Measured on Amazon Baby (``given``), R@20: index order .157 in source order, .021 permuted; positional encoding .112 and
.002; popularity .049 in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Interactions
from seqmm.evaluation.evaluator import Batch, Scorer


def index_order(corpus: Corpus, window: int = 25) -> Scorer:
    """Scores a user's items by the sum of the train rows of the ``± window`` nearest user indices.

    For :meth:`Evaluator.evaluate <seqmm.evaluation.evaluator.Evaluator.evaluate>`. (The user's own row is masked.)
    """
    rows = _train_matrix(corpus)

    def begin(batch: Batch) -> Callable[[slice], Tensor]:
        user = batch["user"].cpu().numpy()
        neighbour = user[:, None] + np.delete(np.arange(-window, window + 1), window)  # [B, 2 window]
        row, place = ((neighbour >= 0) & (neighbour < corpus.num_users)).nonzero()
        chosen = (np.ones(len(row), dtype=np.float32), (row, neighbour[row, place]))
        near = sp.csr_matrix(chosen, shape=(len(user), corpus.num_users)) @ rows  # [B, num_items] sparse
        return lambda items: torch.from_numpy(near[:, items].toarray()).to(batch["user"].device)

    return begin


def positional_encoding(corpus: Corpus, dim: int = 64) -> Scorer:
    """Scores by the sinusoidal encoding of the user's index, untrained and propagated once to the items.

    An item is the sum of its train users' encodings; the score is the cosine, which knows nothing of popularity.
    """
    angle = np.arange(corpus.num_users)[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)  # [U, dim / 2] in float64
    user = np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(corpus.num_users, dim).astype(np.float32)
    users = torch.from_numpy(user)
    items = torch.nn.functional.normalize(torch.from_numpy(_train_matrix(corpus).T @ user))  # [I, dim]

    def begin(batch: Batch) -> Callable[[slice], Tensor]:
        query = users[batch["user"].cpu()]  # [B, dim]
        return lambda block: (query @ items[block].T).to(batch["user"].device)

    return begin


PROBES: dict[str, Callable[[Corpus], Scorer]] = {
    "probe: index order": index_order,
    "probe: positional encoding": positional_encoding,
}


def renumbered(corpus: Corpus, seed: int = 0) -> Corpus:
    """The corpus with its users in another, random order: what a probe scores on it is no leak of the numbering."""
    new = np.random.default_rng(seed).permutation(corpus.num_users)
    splits = {}
    for name, part in corpus.splits.items():
        order = np.lexsort((part.position, new[part.user]))
        time = None if part.timestamp is None else part.timestamp[order]
        splits[name] = Interactions(new[part.user][order], part.item[order], part.position[order], time)
    ids = tuple(corpus.user_ids[user] for user in np.argsort(new)) if corpus.user_ids else ()
    return replace(corpus, splits=splits, user_ids=ids)


@dataclass(frozen=True)
class Ties:
    """What ties in time tell of the held-out last items."""

    share: float
    """Neighbouring interactions of a user at the same time, of all neighbouring interactions."""
    users: int
    """Users whose last interaction ties with another one."""
    largest: float
    """Share of them whose last item has the largest source index of its tie group."""
    chance: float
    """The same if ties were in random order: the mean of 1 / size of the group."""

    @property
    def score(self) -> float:
        """0 = ties tell nothing, 1 = they tell the held-out item whenever there is a tie."""
        return (self.largest - self.chance) / (1 - self.chance) if self.users else 0.0


def ties(corpus: Corpus, source_index: np.ndarray | None = None) -> Ties:
    """Looks at each user's last interaction and those of the same time.

    Args:
        corpus: with timestamps; rows without one (-1) tie with nothing.
        source_index: ``[num_items]`` order of the items in the source (the column of that name of a prepared corpus'
            items table); None if the corpus was prepared with ``index_order: source``.

    Raises:
        ValueError: without timestamps, or without a source index where ids were permuted.
    """
    parts = corpus.splits.values()
    if any(part.timestamp is None for part in parts):
        raise ValueError(f"corpus {corpus.name!r} has no timestamps, so nothing ties")
    if source_index is None:
        if corpus.info.get("index_order") != "source":
            raise ValueError(f"corpus {corpus.name!r} has permuted ids: give the source_index of its items table")
        source_index = np.arange(corpus.num_items)
    user, item, position, time = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("user", "item", "position", "timestamp")
    )
    order = np.lexsort((position, user))
    user, item, time = user[order], item[order], time[order]
    known = (user[1:] == user[:-1]) & (time[1:] != -1) & (time[:-1] != -1)  # [N - 1]
    tied = known & (time[1:] == time[:-1])
    share = float(tied.sum() / max(known.sum(), 1))
    group = np.concatenate([[0], np.cumsum(~tied)])  # [N] consecutive rows of one user and time
    last = np.flatnonzero(np.append(user[1:] != user[:-1], True))
    size = np.bincount(group)[group[last]]
    largest = np.zeros(group[-1] + 1, dtype=np.int64)
    np.maximum.at(largest, group, source_index[item])
    last, size = last[size > 1], size[size > 1]
    found = source_index[item[last]] == largest[group[last]]
    users = len(last)
    return Ties(share, users, float(found.mean()) if users else 0.0, float((1 / size).mean()) if users else 0.0)


def _train_matrix(corpus: Corpus) -> sp.csr_matrix:
    train = corpus.splits["train"]
    ones = np.ones(len(train), dtype=np.float32)
    return sp.csr_matrix((ones, (train.user, train.item)), shape=(corpus.num_users, corpus.num_items))
