"""FREEDOM. Zhou and Shen, A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation,
MM 2023.

The item-item graph is built once from raw features and frozen (section 3.1); the user-item graph is pruned anew each
epoch, edges between popular nodes first (section 3.2, ``edge_keep`` = 1 - rho); scoring uses the whole graph. Items get
their propagated embedding plus one hop over the item graph (section 3.3). The loss is BPR plus, weighted by lambda, BPR
of the users against each modality's projection (eq. 12); projections never score.

Differences: binary kNN graphs are "symmetrically normalised" by row sums alone, which makes every entry 1/k, as in the
released code; the projections have no bias, which would cancel in every difference of scores. Without features the
model is LightGCN with pruned edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.graph import propagate_layers
from seqmm.losses import bpr
from seqmm.models.graph.base import ContentGraphConfig, ContentGraphRecommender


class FREEDOMConfig(ContentGraphConfig):
    """MMRec's yaml; its grid: edge_keep 0.2, 0.1; modal_weight 0, 1e-5, 1e-4, 1e-3."""

    model_type = "freedom"

    num_layers: int = 2
    """User-item propagation steps."""
    num_item_layers: int = 1
    """Item-item propagation steps."""
    num_neighbors: int = 10
    """k of the item-item graphs."""
    modal_weight: float = 1e-3
    """Weight of the modalities' BPR (lambda)."""
    edge_keep: float = 0.2
    """Share of the user-item edges an epoch trains on (1 - rho)."""
    train_features: bool = True
    """Whether the raw feature tables are parameters that start as the features (released code)."""


class FREEDOM(ContentGraphRecommender):
    config_class = FREEDOMConfig
    config: FREEDOMConfig
    min_modalities: ClassVar[int] = 0

    def __init__(self, config: FREEDOMConfig):
        super().__init__(config)
        self.make_ids()
        self.project = self.linear_maps(config.hidden_size, bias=False)
        self.post_init()

    @property
    def reads_content(self) -> bool:
        return self.config.modal_weight != 0

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.item_graph = self.frozen_item_graph(self.config.num_neighbors) if self.modalities else None
        return self

    def encode(self) -> tuple[Tensor, Tensor]:
        layer0 = self.ids()  # [U + I, d]
        users, items = self.split(propagate_layers(self.current_graph(), layer0, self.config.num_layers))
        if self.item_graph is None:
            return users, items
        return users, items + propagate_layers(
            self.item_graph, self.item.weight, self.config.num_item_layers, combine="last"
        )

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        users, items = self.encode()
        user, positive, negative = self.rows(batch, users, items)  # [B, d]
        losses = {"bpr": bpr((user * positive).sum(-1), (user * negative).sum(-1))}
        loss = losses["bpr"]
        for name in self.project:
            _, positive, negative = self.rows(batch, users, self.features(name))  # [B, dim]: only these are projected
            positive, negative = self.project[name](positive), self.project[name](negative)
            losses[f"bpr_{name}"] = bpr((user * positive).sum(-1), (user * negative).sum(-1))
            loss = loss + self.config.modal_weight * losses[f"bpr_{name}"]
        return {"loss": loss, **losses}
