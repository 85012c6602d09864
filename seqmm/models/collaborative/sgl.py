"""SGL. Wu et al., Self-supervised Graph Learning for Recommendation, SIGIR 2021.

LightGCN plus agreement between two augmented graphs of the epoch (section 3.1): node dropout (ND), edge dropout (ED) or
random walk (RW: another edge dropout at each layer). A user's two views are contrasted with the other view of all
users, an item's with that of all items (section 3.2): the mean over the batch's rows of
``-log exp(cos(a_u, b_u) / tau) / sum_v exp(cos(a_u, b_v) / tau)``. The loss adds BPR and layer-0 regularisation
(section 3.3). Scoring uses the whole graph.

The released code sums all three terms over the batch. Here each is divided by B, which changes none of the weights.
Anchors are the batch's rows, so a user with several rows counts several times, as in the released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.graphs.matrix import Graph, propagate, propagate_layers
from seqmm.losses import bpr_of_rows, half_squares, info_nce_of_tables, weighted_sum
from seqmm.models.collaborative.base import GraphConfig, GraphRecommender
from seqmm.models.paper import Paper
from seqmm.options import option
from seqmm.registry import register


class SGLConfig(GraphConfig):
    """Released code's settings for Yelp2018; the paper's grid: contrast_weight 0.005 to 1, drop 0 to 0.5."""

    model_type = "sgl"

    num_layers: int = option(3, "Propagation steps.", least=1)
    augmentation: Literal["edge", "node", "walk"] = option(
        "edge",
        "How an epoch's two graphs are drawn: edge dropout, node dropout or random walk (ED, ND, RW; section 3.1).",
    )
    drop: float = option(
        0.1,
        "Share of the edges (of users and of items, for node) that an augmented graph lacks (rho).",
        least=0,
        below=1,
    )
    temperature: float = option(0.2, "Temperature of the contrast (tau).", above=0)
    contrast_weight: float = option(0.1, "Weight of the contrast (lambda_1).", least=0)
    regularization: float = option(1e-4, "Weight of half the squares of the batch's layer-0 rows (lambda_2).", least=0)


@register
class SGL(GraphRecommender):
    """Adds to LightGCN the agreement of a node's vectors over two augmented graphs.

    Needs interactions alone.
    """

    config_class = SGLConfig
    config: SGLConfig
    paper = Paper(
        title="Self-supervised Graph Learning for Recommendation",
        authors=("Wu", "others"),
        venue="SIGIR",
        year=2021,
    )

    def __init__(self, config: SGLConfig):
        super().__init__(config)
        self.make_ids()
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        walk, views = self.config.augmentation == "walk", (1, 2) if self.config.contrast_weight else ()
        names = [[f"view{view}_{layer * walk}" for layer in range(self.config.num_layers)] for view in views]
        self.view_names = names  # of each view, the pieces of state that hold its layers' edges
        self.augmented: dict[str, Graph] = {}
        return self

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        super().on_stage_start(stage, epoch, generator)
        config, graph = self.config, self.interactions
        for name in dict.fromkeys(name for names in self.view_names for name in names):
            if config.augmentation == "node":
                self.set_state(name, graph.sample_nodes(config.drop, config.num_users, generator))
            else:
                self.set_state(name, graph.sample_edges(1.0 - config.drop, generator, "uniform"))

    def on_state(self, name: str, tensor: Tensor) -> None:
        super().on_state(name, tensor)
        if name.startswith("view"):
            self.augmented[name] = self.graph_of(tensor)

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.split(propagate_layers(self.current_graph(), self.ids(), self.config.num_layers))

    def encode_view(self, names: list[str]) -> tuple[Tensor, Tensor]:
        """LightGCN over the augmented graphs, one for each layer."""
        total = layer = self.ids()
        for name in names:
            layer = propagate(self.augmented.get(name, self.graph), layer)  # before the first epoch: the whole graph
            total = total + layer
        return self.split(total / (len(names) + 1))

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        final = self.rows(batch, *self.encode())  # [B, d] each
        layer0 = self.user.weight, self.item.weight
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*final)),
                "contrast": (self.config.contrast_weight, lambda: self.contrast(batch)),
                "norm": (self.config.regularization, lambda: half_squares(*self.rows(batch, *layer0))),
            }
        )

    def contrast(self, batch: Mapping[str, Tensor]) -> Tensor:
        views = zip(*(self.encode_view(names) for names in self.view_names), strict=True)  # of users, of items
        total = self.user.weight.new_zeros(())
        for rows, (one, other) in zip((batch["user"], batch["positive"]), views, strict=True):
            total = total + info_nce_of_tables(rows, one, other, self.config.temperature, candidates=other)
        return total
