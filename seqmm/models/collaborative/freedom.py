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
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.graphs.matrix import propagate_layers
from seqmm.losses import Terms, bpr_of_rows, weighted_sum
from seqmm.models.collaborative.base import ItemGraphConfig, ItemGraphRecommender
from seqmm.models.paper import Paper
from seqmm.options import option
from seqmm.registry import register


class FREEDOMConfig(ItemGraphConfig):
    """MMRec's yaml; its grid: edge_keep 0.2, 0.1; modal_weight 0, 1e-5, 1e-4, 1e-3."""

    model_type = "freedom"

    num_layers: int = option(2, "User-item propagation steps.", least=0)
    modal_weight: float = option(1e-3, "Weight of the modalities' BPR (lambda).", least=0)
    edge_keep: float = option(0.2, "Share of the user-item edges an epoch trains on (1 - rho).", above=0, most=1)
    train_features: bool = option(
        True, "Whether the raw feature tables are parameters that start as the features (released code)."
    )


@register
class FREEDOM(ItemGraphRecommender):
    """Propagates over a frozen item graph of raw content and a user-item graph pruned anew each epoch.

    Takes any number of vector sets; without any it is LightGCN with pruned edges.
    """

    config_class = FREEDOMConfig
    config: FREEDOMConfig
    paper = Paper(
        title="A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation",
        authors=("Zhou", "Shen"),
        venue="MM",
        year=2023,
        arxiv="2211.06924",
    )
    min_modalities: ClassVar[int] = 0

    def __init__(self, config: FREEDOMConfig):
        super().__init__(config)
        self.make_ids()
        self.project = self.linear_maps(config.hidden_size, bias=False)
        self.post_init()

    @property
    def reads_content(self) -> bool:
        return self.config.modal_weight != 0

    def encode(self) -> tuple[Tensor, Tensor]:
        layer0 = self.ids()  # [U + I, d]
        users, items = self.split(propagate_layers(self.current_graph(), layer0, self.config.num_layers))
        return users, self.with_similar(items, self.item.weight)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        users, items = self.encode()
        rows = self.rows(batch, users, items)  # [B, d] each
        terms: Terms = {"bpr": (1.0, lambda: bpr_of_rows(*rows))}
        for name in self.project:
            terms[f"bpr_{name}"] = self.config.modal_weight, partial(self.bpr_by_content, batch, name, rows[0])
        return weighted_sum(terms)

    def bpr_by_content(self, batch: Mapping[str, Tensor], name: str, user: Tensor) -> Tensor:
        """BPR of users ``[B, d]`` against one modality's projection; only the batch's content is projected."""
        items = F.embedding(torch.cat([batch["positive"], batch["negative"]]), self.features(name))  # [2 B, dim]
        return bpr_of_rows(user, *(self.project[name](part) for part in items.chunk(2)))
