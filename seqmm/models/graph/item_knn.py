"""Item-kNN. Deshpande and Karypis, Item-Based Top-N Recommendation Algorithms, TOIS 2004.

``score(u, j) = sum over items i of u's history of decay ** age(i) * sim(i, j)``, where sim is the cosine of the items'
train users if j is one of i's k nearest items, else 0. Difference from the paper: similarities are not rescaled to one
for each item. With ``recent`` and ``decay`` it is the session variant, which uses the order of the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graph import cooccurrence
from seqmm.models.base import Recommender, RecommenderConfig


class ItemKNNConfig(RecommenderConfig):
    """Plain item-kNN; ``recent: 20`` with ``decay: 0.5`` is the recency variant."""

    model_type = "item_knn"

    num_neighbors: int = 50
    """Nearest items kept of each item (k)."""
    recent: int = 0
    """Latest items of the history that count; 0 = all."""
    decay: float = 1.0
    """Weight of an item relative to the one after it in the history."""


class ItemKNN(Recommender):
    config_class = ItemKNNConfig
    config: ItemKNNConfig
    dot_product: ClassVar[bool] = False

    def __init__(self, config: ItemKNNConfig):
        super().__init__(config)
        # transformers asks a model for its dtype and device, and finds them in its parameters
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        train, k = corpus.splits["train"], self.config.num_neighbors
        graph = cooccurrence(train.item, train.user, (corpus.num_items, corpus.num_users), k, weight="cosine")
        item, neighbour = graph.edge_index
        counts = torch.bincount(item, minlength=corpus.num_items)
        rank = torch.arange(len(item)) - (counts.cumsum(0) - counts)[item]
        self.neighbours = torch.zeros(corpus.num_items, k, dtype=torch.int64).index_put((item, rank), neighbour)
        self.similarity = torch.zeros(corpus.num_items, k).index_put(
            (item, rank), graph.edge_weight
        )  # 0 = no neighbour
        return self

    @property
    def sized_by(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("num_items",)

    @property
    def history_length(self) -> int | None:
        return self.config.recent or None

    def tables(self) -> dict[str, Tensor]:
        """``neighbours`` and ``items``, their similarities, both ``[num_items, k]``."""
        device = self.device
        return {"items": self.similarity.to(device), "neighbours": self.neighbours.to(device)}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        """``[B, num_items]``: the scores themselves."""
        users, items = len(batch["user"]), self.config.num_items
        row, position = batch["mask"].nonzero(as_tuple=True)  # [M] history entries
        age = batch["mask"].sum(1)[row] - 1 - position
        item = batch["history"][row, position]
        votes = tables["items"][item] * (self.config.decay**age)[:, None]  # [M, k]
        cell = row[:, None] * items + tables["neighbours"][item]
        return votes.new_zeros(users * items).index_add_(0, cell.flatten(), votes.flatten()).view(users, items)

    def score(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor], items: slice = slice(None)) -> Tensor:
        return self.represent(batch, tables)[:, items]
