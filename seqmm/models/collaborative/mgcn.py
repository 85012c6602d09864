"""MGCN. Yu et al., Multi-View Graph Convolutional Network for Multimedia Recommendation, MM 2023.

Item content first passes a gate driven by itself and weighted by the item's embedding, "behaviour-guided purification"
(eq. 1-3); purified content takes one hop over the modality's own frozen kNN graph (eq. 7) and users receive it from
their items over the normalised user-item block (eq. 8). Beside it runs LightGCN on embeddings (eq. 4-6). The fuser
(eq. 9-13) attends over modalities for what they share, gates what is left of each by the user's or item's behaviour,
and averages all; the result is added to the behaviour. Loss: BPR, L2 of the batch's final rows, and InfoNCE between
behaviour and fused content, of the batch's users and of its positives (eq. 14-16).

Differences: L2 divides by the batch's own rows (MMRec: by the configured size). The average is over the M rests and
the shared part, 1 / (M + 1); with one modality nothing is left over, so its content is used as it is and neither the
attention nor the second gate is built. ``edge_keep`` samples the edges of LightGCN's graph alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.build import interaction_matrix
from seqmm.graphs.matrix import propagate, propagate_layers
from seqmm.losses import bpr_of_rows, half_squares, info_nce_of_tables, weighted_sum
from seqmm.models.collaborative.base import ContentGraphConfig, ContentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.modality import Gate, ModalAttention
from seqmm.options import option
from seqmm.registry import register


class MGCNConfig(ContentGraphConfig):
    """MMRec's yaml; its grid: contrast_weight 0.001, 0.01, 0.1."""

    model_type = "mgcn"

    num_layers: int = option(2, "User-item propagation steps (MMRec's yaml).", least=0)
    num_item_layers: int = option(1, "Item-item propagation steps (MMRec's yaml).", least=0)
    num_neighbors: int = option(10, "Neighbours of an item in the item-item graphs (k; MMRec's yaml).", least=1)
    contrast_weight: float = option(
        0.01,
        "Weight of the InfoNCE between behaviour and content (lambda_c; 0.01 is best on Baby and Clothing).",
        least=0,
    )
    temperature: float = option(0.2, "Temperature of the InfoNCE (released code).", above=0)
    regularization: float = option(1e-4, "Weight of the batch's L2 (MMRec's yaml).", least=0)
    train_features: bool = option(
        True, "Whether the raw feature tables are parameters that start as the features (released code)."
    )


@register
class MGCN(ContentGraphRecommender):
    """Purifies content by behaviour, propagates it over item graphs, and fuses what is shared and what is not.

    Needs at least one set of vectors.
    """

    config_class = MGCNConfig
    config: MGCNConfig
    paper = Paper(
        title="Multi-View Graph Convolutional Network for Multimedia Recommendation",
        authors=("Yu", "others"),
        venue="MM",
        year=2023,
    )

    def __init__(self, config: MGCNConfig):
        super().__init__(config)
        d, several = config.hidden_size, len(self.modalities) > 1
        self.make_ids()
        self.project = self.linear_maps(d)
        self.purify = nn.ModuleDict({name: Gate(d) for name in self.modalities})
        self.attention = ModalAttention(d) if several else None
        self.prefer = nn.ModuleDict({name: Gate(d) for name in self.modalities if several})
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.items_of_users = interaction_matrix(corpus).normalised()
        self.item_graphs = {name: self.knn(name, self.config.num_neighbors, "cosine") for name in self.modalities}
        return self

    def purified(self, name: str) -> Tensor:
        """``[U + I, d]`` content of one modality, of items and, through their items, of users."""
        x = self.purify[name](self.item.weight, self.project[name](self.features(name)))  # [I, d]
        x = propagate_layers(self.item_graphs[name], x, self.config.num_item_layers, combine="last")
        return torch.cat([propagate(self.items_of_users, x), x])

    def views(self) -> tuple[Tensor, Tensor]:
        """Behaviour and fused content, ``[U + I, d]`` each."""
        layer0 = self.ids()
        behaviour = propagate_layers(self.current_graph(), layer0, self.config.num_layers)
        content = {name: self.purified(name) for name in self.modalities}
        if self.attention is None:
            return behaviour, content[self.modalities[0]]
        shared, _ = self.attention(list(content.values()))
        total = shared
        for name, x in content.items():
            total = total + self.prefer[name](x - shared, behaviour)
        return behaviour, total / (len(content) + 1)

    def encode(self) -> tuple[Tensor, Tensor]:
        behaviour, content = self.views()
        return self.split(behaviour + content)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        behaviour, content = self.views()
        rows = self.rows(batch, *self.split(behaviour + content))  # [B, d] each
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows)),
                "norm": (self.config.regularization, lambda: half_squares(*rows)),
                "contrast": (self.config.contrast_weight, lambda: self.contrast(batch, behaviour, content)),
            }
        )

    def contrast(self, batch: Mapping[str, Tensor], behaviour: Tensor, content: Tensor) -> Tensor:
        """InfoNCE between two views ``[U + I, d]`` of the batch's positives, and of its users."""
        nodes = (batch["positive"] + self.config.num_users, batch["user"])
        tau = self.config.temperature
        return torch.stack([info_nce_of_tables(rows, content, behaviour, tau) for rows in nodes]).sum()
