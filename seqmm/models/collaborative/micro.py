"""MICRO. Zhang et al., Latent Structure Mining with Contrastive Modality Fusion for Multimedia Recommendation,
TKDE 2022.

LATTICE's successor: every modality keeps its own item graph, learned and frozen parts mixed and each normalised; item
embeddings are propagated over each, the results fused by attention, and added, as unit rows, to a collaborative
model's items. Trained with BPR, L2, and a contrast of each modality's rows with the fused ones over ALL items, whose
negatives are the other items in both views.

As in the released code a graph is learned in the first step of an epoch and constant in the others, and LightGCN runs
on D^-1 (A + I). Differences: the L2 term is divided by the batch's own rows; the contrast is streamed, no [I, I]
block is kept. One modality is its own fusion: no attention, no contrast.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seqmm.graphs.matrix import Graph
from seqmm.losses import Terms, two_view_info_nce, weighted_sum
from seqmm.models.collaborative.latent import LatentGraphConfig, LatentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.modality import ModalAttention
from seqmm.options import option
from seqmm.registry import register


class MICROConfig(LatentGraphConfig):
    """The released code's settings; its learning rate is 5e-4, its batch 1,024."""

    model_type = "micro"

    contrast_weight: float = option(
        0.03, "Weight of the contrast, summed over modalities (beta; released code).", least=0
    )
    temperature: float = option(0.5, "Temperature of the contrast (tau; released code).", above=0)


@register
class MICRO(LatentGraphRecommender):
    """Learns an item graph in each modality, fuses them by attention, and contrasts each with the fusion.

    Needs at least one set of vectors; a single one has neither attention nor contrast.
    """

    config_class = MICROConfig
    config: MICROConfig
    paper = Paper(
        title="Latent Structure Mining with Contrastive Modality Fusion for Multimedia Recommendation",
        authors=("Zhang", "others"),
        venue="TKDE",
        year=2022,
        kind="journal",
    )

    def __init__(self, config: MICROConfig):
        super().__init__(config)
        if len(self.modalities) > 1:
            self.attention = ModalAttention(config.hidden_size)
        self.post_init()

    def mix(self, learned: list[Graph]) -> list[Graph]:
        learned, places = [graph.normalised() for graph in learned], range(len(self.modalities))
        return [self.with_frozen(learned[m : m + 1], self.frozen_graphs[m : m + 1], [1.0]) for m in places]

    def views(self) -> tuple[list[Tensor], Tensor]:
        """``[I, d]`` items as each modality's graph gives them, and fused."""
        views = self.propagated()
        return views, self.attention(views)[0] if len(views) > 1 else views[0]

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.with_content(self.views()[1])

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        views, fused = self.views()
        weight = self.config.contrast_weight if len(views) > 1 else 0.0
        contrast: Terms = {"contrast": (weight, lambda: self.contrast(views, fused))}
        return weighted_sum(self.ranking(batch, *self.with_content(fused)) | contrast)

    def contrast(self, views: list[Tensor], fused: Tensor) -> Tensor:
        tau = self.config.temperature
        return torch.stack([two_view_info_nce(view, fused, tau, whole=True) for view in views]).sum()
