"""COHESION. Xu et al., COHESION: Composite Graph Convolutional Network with Dual-Stage Fusion for Multimodal
Recommendation, SIGIR 2025.

The item id is a modality beside those of content. Early fusion: an item enters each modality's graph as the quadratic
mean of its id embedding and its projected content (the id's content is its embedding). Composite graph convolution:
each propagated layer is scaled, row by row, by its cosine with layer 0, and the layers are summed; ``edge_keep`` prunes
edges as FREEDOM does. Late fusion: modalities are concatenated, then items add their neighbours in the frozen item-item
graph and users those in DualGNN's user-user graph. Adaptive optimisation: the scores of a pair, one for each modality,
are weighted by 1 - softmax of how well each modality tells the pair apart, so what is behind learns faster; scoring is
the plain sum. The loss is that BPR (``-log2``) plus, weighted by lambda, the mean squares of the content modalities'
preferences.

Differences: the released code cuts the gradient of the id's graph representation, so its preferences and projector stay
as drawn and its block of every score is trained through the item embeddings of the other blocks alone; here they are
trained. A table of user weights that is penalised and used nowhere is not built. Scoring is recomputed on the whole
graphs (released code: what the last training batch left), see ``UserGraphRecommender``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.graphs.matrix import propagate, propagate_layers
from seqmm.losses import bpr, weighted_sum
from seqmm.models.collaborative.base import ItemGraphConfig, ItemGraphRecommender, UserGraphConfig, UserGraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.modality import PreferenceEncoder
from seqmm.options import option
from seqmm.registry import register


class COHESIONConfig(ItemGraphConfig, UserGraphConfig):
    """The authors' grid: 1 to 4 layers, lambda and learning rate 0.1 to 1e-4, all edges."""

    model_type = "cohesion"

    inner_size: int = option(256, "Width of the projectors' hidden layer (released code).", least=1)
    num_layers: int = option(1, "User-item propagation steps (L).", least=0)
    regularization: float = option(1e-3, "Weight of the mean squares of the preferences (lambda).", least=0)


@register
class COHESION(ItemGraphRecommender, UserGraphRecommender):
    """Propagates ids and modalities over composite graphs and trains those faster that are behind.

    Needs at least one set of vectors; every one is a modality beside the ids.
    """

    config_class = COHESIONConfig
    config: COHESIONConfig
    paper = Paper(
        title="COHESION: Composite Graph Convolutional Network with Dual-Stage Fusion for Multimodal Recommendation",
        authors=("Xu", "others"),
        venue="SIGIR",
        year=2025,
    )
    table_init = staticmethod(nn.init.xavier_normal_)
    content: Any  # a ModuleDict, whose values have no type

    def __init__(self, config: COHESIONConfig):
        super().__init__(config)
        users, sizes = config.num_users, (config.inner_size, config.hidden_size)
        self.item = nn.Embedding(config.num_items, config.hidden_size)
        self.identity = PreferenceEncoder(users, config.hidden_size, *sizes)
        self.content = nn.ModuleDict(
            {name: PreferenceEncoder(users, self.feature_dim(name), *sizes) for name in self.modalities}
        )
        self.post_init()

    def convolve(self, encoder: PreferenceEncoder, content: Tensor) -> Tensor:
        """Early fusion of the id with ``[I, dim]`` content, then composite graph convolution: ``[U + I, d]``."""
        fused = (self.item.weight.square() + encoder.project(content).square()) / 2
        layer0 = encoder.nodes((fused + 1e-8).sqrt())

        def refine(layer: Tensor) -> Tensor:
            return layer * F.cosine_similarity(layer, layer0, dim=1)[:, None]

        return propagate_layers(self.current_graph(), layer0, self.config.num_layers, "sum", refine)

    def branches(self) -> list[Tensor]:
        """Of the id, then of each modality: ``[U + I, d]``."""
        content = [self.convolve(self.content[name], self.features(name)) for name in self.modalities]
        return [self.convolve(self.identity, self.item.weight), *content]

    def encode(self) -> tuple[Tensor, Tensor]:
        users, items = self.split(torch.cat(self.branches(), dim=1))  # [U, (1 + M) d], [I, (1 + M) d]
        return users + propagate(self.current_user_graph(), users), self.with_similar(items, items)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        user, *items = self.rows(batch, *self.encode())  # [B, (1 + M) d]
        blocks = (len(self.modalities) + 1, -1)
        positive, negative = ((user * item).unflatten(1, blocks).sum(2) for item in items)  # [B, 1 + M]
        weight = 1 - (positive - negative).detach().softmax(1)
        scores = (weight * positive).sum(1), (weight * negative).sum(1)
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr(*scores) / math.log(2)),
                "penalty": (self.config.regularization, lambda: self.penalty(batch["user"])),
            }
        )

    def penalty(self, user: Tensor) -> Tensor:
        return torch.stack([encoder.penalty(user) for encoder in self.content.values()]).sum()
