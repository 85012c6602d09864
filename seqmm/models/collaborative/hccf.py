"""HCCF. Xia et al., Hypergraph Contrastive Collaborative Filtering, SIGIR 2022.

A layer adds two views of its input: local, one hop over the graph ``A X``, and global, one hop over K learned
hyperedges of users and of items, whose low-rank incidence ``H = E W`` comes from the embeddings: ``H (H^T X)``. The
output is the sum of all layers. A layer's two views are contrasted (InfoNCE on cosines) for the distinct users and
positive items of the batch, which are each other's candidates; the loss adds BPR and the squares of all parameters.
While training, each layer drops entries of the graph and of H anew.

Follows the authors' maintained (torch) code where it differs from the paper: no activation (``slope`` 0.5 restores the
LeakyReLU behind every hop), one level of hyperedges, and the contrast draws the global view to the local one, which
gets no gradient from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.distributed import unique_over_ranks
from seqmm.graphs.matrix import propagate
from seqmm.losses import bpr_of_rows, info_nce, weighted_sum
from seqmm.models.collaborative.base import GraphConfig, GraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.noise import dropout_table
from seqmm.options import option
from seqmm.random import step_generator
from seqmm.registry import register


class HCCFConfig(GraphConfig):
    """Authors' torch code, which recommends contrast_weight 0.2 to 0.5 and regularization 0 or 1e-6."""

    model_type = "hccf"

    num_layers: int = option(2, "Layers of propagation and of hypergraph convolution.", least=1)
    num_hyperedges: int = option(128, "Hyperedges of users and of items (K).", least=1)
    dropout: float = option(
        0.5,
        "Share of the entries of the graph and of H that a layer drops (1 - keepRate; 0 on Yelp).",
        least=0,
        below=1,
    )
    slope: float = option(
        1.0, "Negative slope of the LeakyReLU behind each hop: 1 = none (torch code), 0.5 = the paper."
    )
    temperature: float = option(0.1, "Temperature of the contrast (tau).", above=0)
    contrast_weight: float = option(0.2, "Weight of the contrast (lambda_1).", least=0)
    regularization: float = option(1e-6, "Weight of the squares of all parameters (lambda_2).", least=0)


@register
class HCCF(GraphRecommender):
    """Contrasts propagation over the graph with propagation over learned hyperedges.

    Needs interactions alone.
    """

    config_class = HCCFConfig
    config: HCCFConfig
    paper = Paper(
        title="Hypergraph Contrastive Collaborative Filtering",
        authors=("Xia", "others"),
        venue="SIGIR",
        year=2022,
    )
    linear_init = staticmethod(nn.init.xavier_uniform_)

    def __init__(self, config: HCCFConfig):
        super().__init__(config)
        self.make_ids()
        self.user_hyperedges = nn.Linear(config.hidden_size, config.num_hyperedges, bias=False)
        self.item_hyperedges = nn.Linear(config.hidden_size, config.num_hyperedges, bias=False)
        self.post_init()

    def propagate_local(self, x: Tensor, layer: int, step_seed: Tensor | None) -> Tensor:
        """One hop over the graph: ``[U + I, d]``."""
        graph = self.current_graph()
        if step_seed is not None:
            graph = self.dropped_graph(self.config.dropout, step_generator(step_seed, f"edges {layer}", x.device))
        return F.leaky_relu(propagate(graph, x), self.config.slope)

    def propagate_global(self, x: Tensor, incidence: Tensor, stream: str, step_seed: Tensor | None) -> Tensor:
        """One hop over hyperedges, ``H (H^T x)``: users' or items' ``[n, d]`` with ``incidence [n, K]``."""
        if step_seed is not None:
            incidence = dropout_table(incidence, self.config.dropout, step_seed, stream)
        hyperedges = F.leaky_relu(incidence.T @ x, self.config.slope)  # [K, d]
        return F.leaky_relu(incidence @ hyperedges, self.config.slope)

    def views(self, step_seed: Tensor | None = None) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The sum of all layers ``[U + I, d]``, and each layer's local and global view."""
        user_incidence = self.user_hyperedges(self.user.weight)  # [U, K]
        item_incidence = self.item_hyperedges(self.item.weight)  # [I, K]
        total = x = self.ids()
        views = []
        for layer in range(self.config.num_layers):
            users, items = self.split(x)
            users = self.propagate_global(users, user_incidence, f"users {layer}", step_seed)
            items = self.propagate_global(items, item_incidence, f"items {layer}", step_seed)
            views.append((self.propagate_local(x, layer, step_seed), torch.cat([users, items])))
            x = views[-1][0] + views[-1][1]
            total = total + x
        return total, views

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.split(self.views()[0])

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        nodes, views = self.views(batch["step_seed"] if self.training else None)
        rows = self.rows(batch, *self.split(nodes))  # [B, d] each
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows)),
                "contrast": (self.config.contrast_weight, lambda: self.contrast(batch, views)),
                "norm": (self.config.regularization, self.norm),
            }
        )

    def contrast(self, batch: Mapping[str, Tensor], views: list[tuple[Tensor, Tensor]]) -> Tensor:
        # distinct in the global batch, so every rank contrasts the same rows
        users = unique_over_ranks(batch["user"])
        items = unique_over_ranks(batch["positive"]) + self.config.num_users
        total = self.user.weight.new_zeros(())
        for nodes_of_kind in (users, items):
            for local, hyper in views:
                hyper = F.embedding(nodes_of_kind, hyper)  # [n, d]
                local = F.embedding(nodes_of_kind, local.detach())
                total = total + info_nce(local, hyper, self.config.temperature, candidates=hyper)
        return total

    def norm(self) -> Tensor:
        return sum((parameter.square().sum() for parameter in self.parameters()), self.user.weight.new_zeros(()))
