"""LightGCN. He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR 2020.

User and item embeddings are propagated over the symmetrically normalised graph (eq. 3), the layers are averaged (eq. 4
with alpha_k = 1 / (K + 1)) and scored by dot product (eq. 5); trained with BPR and layer-0 regularisation (eq. 15).
Implemented in MMRec's form: xavier-uniform start (the authors' code: normal, std 0.1), ``-log(1e-10 + sigmoid)``, and
the un-squared norm of the batch's layer-0 rows (the authors: squared). ``edge_keep < 1`` trains each epoch on a
degree-sensitive sample of the edges, FREEDOM's pruning (Zhou and Shen, MM 2023), and scores on the whole graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.collators import PairCollator
from seqmm.data.corpus import Corpus
from seqmm.graph import propagate_layers
from seqmm.losses import bpr, embedding_norm
from seqmm.models.base import Recommender, RecommenderConfig, Stage


class LightGCNConfig(RecommenderConfig):
    """From MMRec's grid: 1 to 4 layers, lambda 1e-2 to 1e-6."""

    model_type = "lightgcn"

    num_layers: int = 3
    """Propagation steps (K)."""
    regularization: float = 1e-4
    """Weight of the embedding norm (lambda)."""
    edge_keep: float = 1.0
    """Share of the edges an epoch trains on, drawn degree-sensitively; 1 = all, as in the paper."""


class LightGCN(Recommender):
    config_class = LightGCNConfig
    config: LightGCNConfig
    stages: ClassVar[tuple[Stage, ...]] = (Stage(PairCollator),)

    def __init__(self, config: LightGCNConfig):
        super().__init__(config)
        self.user = nn.Embedding(config.num_users, config.hidden_size)
        self.item = nn.Embedding(config.num_items, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.xavier_uniform_(module.weight)  # MMRec

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.interactions = corpus.graph()
        self.graph = self.training_graph = self.interactions.normalised()
        return self

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        if self.config.edge_keep != 1:
            self.set_state("kept_edges", self.interactions.sample_edges(self.config.edge_keep, generator))

    def on_state(self, name: str, tensor: Tensor) -> None:
        self.training_graph = self.interactions.subgraph(tensor.cpu()).normalised()  # by its own degrees

    def nodes(self) -> Tensor:
        """Layer 0, ``[U + I, d]``: users, then items."""
        return torch.cat([self.user.weight, self.item.weight])

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        users = self.config.num_users
        rows = torch.cat([batch["user"], users + batch["positive"], users + batch["negative"]])  # [3 B]
        layer0 = self.nodes()
        final = propagate_layers(self.training_graph if self.training else self.graph, layer0, self.config.num_layers)
        user, positive, negative = F.embedding(rows, final).chunk(3)  # [B, d]
        ranking = bpr((user * positive).sum(-1), (user * negative).sum(-1), gamma=1e-10)
        norm = embedding_norm(*F.embedding(rows, layer0).chunk(3))
        return {"loss": ranking + self.config.regularization * norm, "bpr": ranking, "norm": norm}

    def tables(self) -> dict[str, Tensor]:
        final = propagate_layers(self.graph, self.nodes(), self.config.num_layers)
        users, items = final.split([self.config.num_users, self.config.num_items])
        return {"users": users, "items": items}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        return tables["users"][batch["user"]]
