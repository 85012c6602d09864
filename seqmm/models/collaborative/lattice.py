"""LATTICE. Zhang et al., Mining Latent Structures for Multimedia Recommendation, MM 2021.

Each modality's item graph is learned: cosines of linearly projected content, the k largest of a row, itself among
them. The modalities' graphs are added by learned softmax weights, normalised (D^-1/2 S D^-1/2), and mixed with the same
sum over raw content's frozen graphs, the skip connection. Item embeddings are propagated over the result and added, as
unit rows, to what a collaborative model gives; trained with BPR and L2 on the batch's final rows.

As in the released code the graph is learned in the first step of an epoch and constant in the others, D holds the
directed kNN graph's row sums on both sides, and LightGCN runs on D^-1 (A + I). Differences: no [I, I] matrix is ever
made; with gradient accumulation the first step is all of its batches; the L2 term is divided by the batch's own rows
(released code: by the configured batch size). One modality has no softmax weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqmm.graphs.build import join_graphs
from seqmm.graphs.matrix import Graph
from seqmm.losses import weighted_sum
from seqmm.models.collaborative.latent import LatentGraphConfig, LatentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.registry import register


class LATTICEConfig(LatentGraphConfig):
    """The released code's settings; its learning rate is 5e-4, its batch 1,024."""

    model_type = "lattice"


@register
class LATTICE(LatentGraphRecommender):
    """Learns an item graph from content, all modalities in one, and adds it to a collaborative model.

    Needs at least one set of vectors.
    """

    config_class = LATTICEConfig
    config: LATTICEConfig
    paper = Paper(
        title="Mining Latent Structures for Multimedia Recommendation",
        authors=("Zhang", "others"),
        venue="MM",
        year=2021,
        arxiv="2104.09036",
    )

    def __init__(self, config: LATTICEConfig):
        super().__init__(config)
        if len(self.modalities) > 1:
            self.logits = nn.Parameter(torch.zeros(len(self.modalities)))
        self.post_init()

    def mix(self, learned: list[Graph]) -> list[Graph]:
        weights = list(self.logits.softmax(0)) if len(self.modalities) > 1 else [1.0]
        mixed = [join_graphs(learned, weights).normalised()] if learned else []
        return [self.with_frozen(mixed, self.frozen_graphs, weights)]

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.with_content(self.propagated()[0])

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        return weighted_sum(self.ranking(batch, *self.encode()))
