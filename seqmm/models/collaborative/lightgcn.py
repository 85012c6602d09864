"""LightGCN. He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR 2020.

User and item embeddings are propagated over the symmetrically normalised graph (eq. 3), the layers are averaged (eq. 4
with alpha_k = 1 / (K + 1)) and scored by dot product (eq. 5); trained with BPR and layer-0 regularisation (eq. 15).
Implemented in MMRec's form: xavier-uniform start (the authors' code: normal, std 0.1), ``-log(1e-10 + sigmoid)``, and
the un-squared norm of the batch's layer-0 rows (the authors: squared). ``edge_keep < 1`` trains each epoch on a
degree-sensitive sample of the edges, FREEDOM's pruning (Zhou and Shen, MM 2023), and scores on the whole graph.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from seqmm.graphs.matrix import propagate_layers
from seqmm.losses import bpr_of_rows, embedding_norm, weighted_sum
from seqmm.models.collaborative.base import GraphConfig, GraphRecommender
from seqmm.models.paper import Paper
from seqmm.options import option
from seqmm.registry import register


class LightGCNConfig(GraphConfig):
    """From MMRec's grid: 1 to 4 layers, lambda 1e-2 to 1e-6."""

    model_type = "lightgcn"

    num_layers: int = option(3, "Propagation steps (K).", least=0)
    regularization: float = option(1e-4, "Weight of the embedding norm (lambda).", least=0)


@register
class LightGCN(GraphRecommender):
    """Propagates user and item vectors over the interaction graph and averages the layers.

    Needs interactions alone; the strongest of the simple baselines.
    """

    config_class = LightGCNConfig
    config: LightGCNConfig
    paper = Paper(
        title="LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
        authors=("He", "others"),
        venue="SIGIR",
        year=2020,
    )

    def __init__(self, config: LightGCNConfig):
        super().__init__(config)
        self.make_ids()
        self.post_init()

    def encode(self) -> tuple[Tensor, Tensor]:
        layer0 = self.ids()  # [U + I, d]
        return self.split(propagate_layers(self.current_graph(), layer0, self.config.num_layers))

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        rows = self.rows(batch, *self.encode())  # [B, d] each
        layer0 = self.user.weight, self.item.weight
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows, gamma=1e-10)),
                "norm": (self.config.regularization, lambda: embedding_norm(*self.rows(batch, *layer0))),
            }
        )
