"""GRCN. Wei et al., Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback, MM 2020.

Each modality refines the user-item graph: items' projected content are prototypes, users' preferences are routed to
them by attention over their items, some times; one attention pass in both directions follows, with the softmax over the
edges into a node, whose weights are the modality's view of the edges (prototypical network). An edge weighs what its
most confident modality says, the attention times the sender's trained confidence, cut at zero (pruning). Id embeddings
go over this graph twice, unnormalised, and the layers are summed; the representation is their concatenation with all
modalities' content rows. Loss: BPR and the mean squares of the batch's embeddings and preferences.

Differences: ``num_routing=0`` is what the authors' and MMRec's code do, where the one-directional edge list keeps
messages from ever reaching users; the paper routes, and so does the default. MMRec also penalises all preferences of
the first modality; the authors' code and ours do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.build import softmax_rows, user_item_graph
from seqmm.graphs.matrix import Graph, edge_products, propagate, propagate_layers
from seqmm.losses import bpr_of_rows, half_squares, weighted_sum
from seqmm.models.collaborative.base import ContentConfig, ContentRecommender
from seqmm.models.paper import Paper
from seqmm.options import option
from seqmm.registry import register


class GRCNConfig(ContentConfig):
    """MMRec's grid: regularization 1e-1 to 1e-5; learning rate 1 to 1e-4."""

    model_type = "grcn"

    num_routing: int = option(3, "Iterations of the routing (paper); 0 is what the released codes do.", least=0)
    # without a step nothing trains the confidences
    num_layers: int = option(2, "Propagation steps of the id embeddings (paper and released codes).", least=1)
    regularization: float = option(1e-3, "Weight of the mean squares (from MMRec's grid).", least=0)


@register
class GRCN(ContentRecommender):
    """Reweighs the user-item edges by what each modality says of them, then propagates ids over the result.

    Needs at least one set of vectors.
    """

    config_class = GRCNConfig
    config: GRCNConfig
    paper = Paper(
        title="Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback",
        authors=("Wei", "others"),
        venue="MM",
        year=2020,
        arxiv="2111.02036",
    )
    table_init = staticmethod(nn.init.xavier_normal_)
    linear_init = staticmethod(nn.init.xavier_normal_)

    def __init__(self, config: GRCNConfig):
        super().__init__(config)
        d, names = config.hidden_size, self.modalities
        self.make_ids()
        self.preference = nn.ParameterDict({name: torch.empty(config.num_users, d) for name in names})
        self.project = self.linear_maps(d)
        self.user_confidence = nn.Embedding(config.num_users, len(names))
        self.item_confidence = nn.Embedding(config.num_items, len(names))
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        both = user_item_graph(corpus)
        self.to_users = Graph(both.edge_index, None, both.shape)  # [U + I, U + I], but only users receive
        self.both_ways = both.directed()  # users receive, then items, over the same pairs
        return self

    def refine(self, name: str) -> tuple[Tensor, Tensor]:
        """Content rows ``[U + I, d]`` of one modality, and the edges' attention ``[2 E]``."""
        users = F.normalize(self.preference[name], dim=-1)  # [U, d]
        items = F.normalize(F.leaky_relu(self.project[name](self.features(name))), dim=-1)  # [I, d]
        for _ in range(self.config.num_routing):
            nodes = torch.cat([users, items])
            attention = softmax_rows(self.to_users.reweighted(edge_products(self.to_users, nodes, nodes)))
            users = F.normalize(users + propagate(attention, nodes)[: len(users)], dim=-1)
        nodes = torch.cat([users, items])  # [U + I, d]
        logits = edge_products(self.to_users, nodes, nodes)  # [E]: a pair's two directions have one product
        attention = softmax_rows(self.both_ways.reweighted(torch.cat([logits, logits])))
        return nodes + propagate(attention, nodes), attention.edge_weight

    def encode(self) -> tuple[Tensor, Tensor]:
        sender = self.both_ways.edges_on(self.device)[1]
        confidence = F.embedding(sender, torch.cat([self.user_confidence.weight, self.item_confidence.weight]))
        content, attention = zip(*map(self.refine, self.modalities), strict=True)
        says = torch.stack(attention, 1) * confidence  # [2 E, M]
        refined = self.both_ways.reweighted(F.relu(says.max(1).values))
        ids = F.normalize(self.ids(), dim=-1)  # [U + I, d]
        ids = propagate_layers(refined, ids, self.config.num_layers, combine="sum")
        return self.split(torch.cat([ids, *content], 1))  # [n, (1 + M) d]

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        rows = self.rows(batch, *self.encode())  # [B, (1 + M) d] each
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows)),
                "norm": (self.config.regularization, lambda: self.norm(batch)),
            }
        )

    def norm(self, batch: Mapping[str, Tensor]) -> Tensor:
        user, positive, negative = self.rows(batch, self.user.weight, self.item.weight)  # [B, d]
        norm = half_squares(user, user, positive, negative)  # the user counts once for each of its two items
        for table in self.preference.values():
            preference = F.embedding(batch["user"], table)
            norm = norm + half_squares(preference, preference)
        return norm / self.config.hidden_size
