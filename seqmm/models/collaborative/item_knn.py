"""Item-kNN. Sarwar et al., Item-Based Collaborative Filtering Recommendation Algorithms, WWW 2001.

``score(u, j) = sum over items i of u's history that are among j's k nearest of decay ** age(i) * sim(i, j)``, where sim
is the cosine of the items' train users, ``c / (sqrt(n_i n_j) + shrink)``. There are no ratings to
average, so the sum is not divided by the similarities' sum. With ``recent`` and ``decay`` the history's order counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.graphs.build import cooccurrence
from seqmm.models.base import RecommenderConfig
from seqmm.models.collaborative.base import CountingRecommender
from seqmm.models.paper import Paper
from seqmm.options import option
from seqmm.registry import register


class ItemKNNConfig(RecommenderConfig):
    """Plain item-kNN; ``recent: 20`` with ``decay: 0.5`` is the recency variant."""

    model_type = "item_knn"

    num_neighbors: int = option(50, "Nearest items kept of each item (k).", least=1)
    shrink: float = option(
        0.0,
        "Shrinkage that lowers similarities which rest on few users; on sparse data it decides how good this "
        "baseline is.",
        least=0,
    )
    recent: int = option(0, "Latest items of the history that count; 0 = all.", least=0)
    decay: float = option(1.0, "Weight of an item relative to the one after it in the history.", least=0)


@register
class ItemKNN(CountingRecommender):
    """Scores an item by its similarity to what the user had; nothing is trained.

    Needs interactions alone, and serves users it has not seen.
    """

    config_class = ItemKNNConfig
    config: ItemKNNConfig
    paper = Paper(
        title="Item-Based Collaborative Filtering Recommendation Algorithms",
        authors=("Sarwar", "others"),
        venue="WWW",
        year=2001,
    )
    dot_product: ClassVar[bool] = False

    def __init__(self, config: ItemKNNConfig):
        super().__init__(config)

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        train, config = corpus.splits["train"], self.config
        shape = (corpus.num_items, corpus.num_users)
        near = cooccurrence(train.item, train.user, shape, config.num_neighbors, weight="cosine", shrink=config.shrink)
        votes = near.edge_index.flip(0)  # from the neighbour, when it is in a history, to the item
        self._blocks: dict[tuple[int, int], Tensor] = {}
        self.votes = torch.sparse_coo_tensor(votes, near.edge_weight, near.shape, check_invariants=False).coalesce()
        return self

    @property
    def history_length(self) -> int | None:
        return self.config.recent or None

    def tables(self) -> dict[str, Tensor]:
        """``items``: the sparse ``[num_items, num_items]`` matrix of (history item, scored item)."""
        self._blocks = {}
        return {"items": self.votes.to(self.device)}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        """``[B, num_items]``: the scores themselves."""
        return self.score(batch, tables)

    def score(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor], items: slice = slice(None)) -> Tensor:
        """``[B, n]``: dense are the scores of the asked items alone."""
        row, place = batch["mask"].nonzero(as_tuple=True)  # [M] history entries
        age = batch["mask"].sum(1)[row] - 1 - place
        weight = torch.as_tensor(self.config.decay, device=age.device).pow(age)
        entries = torch.stack([row, batch["history"][row, place]])
        shape = (len(batch["user"]), self.config.num_items)
        history = torch.sparse_coo_tensor(entries, weight, shape, check_invariants=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse.mm(history, self._columns(tables["items"], items)).to_dense()

    def _columns(self, votes: Tensor, items: slice) -> Tensor:
        """The votes for a block of items ``[num_items, n]``, cut out once for all batches."""
        first, last, _ = items.indices(self.config.num_items)
        if last - first == self.config.num_items:
            return votes
        if (first, last) not in self._blocks:
            entries, shape = votes.indices(), (self.config.num_items, last - first)
            inside = (entries[1] >= first) & (entries[1] < last)
            entries = entries[:, inside] - entries.new_tensor([[0], [first]])
            self._blocks[first, last] = torch.sparse_coo_tensor(
                entries, votes.values()[inside], shape, check_invariants=False, is_coalesced=True
            )
        return self._blocks[first, last]
