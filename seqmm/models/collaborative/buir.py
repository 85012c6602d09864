"""BUIR. Lee et al., Bootstrapping User and Item Representations for One-Class Collaborative Filtering, SIGIR 2021.

Two encoders of one shape: the online one is trained, the target one follows it after each optimiser step,
``target <- tau target + (1 - tau) online``. A linear predictor f of the online user is drawn to the target of an item
of theirs, and of the online item to the user's target, without negatives:
``2 - 2 cos(f(u), target_i) + 2 - 2 cos(f(i), target_u)``, mean over the batch. ``score(u, i) = f(u).i + u.f(i)`` with
online rows, one dot product of concatenations. Encoders (``neighbors``): BUIR_ID looks rows up, BUIR_NB averages the
layers of LightGCN, its input augmented by dropping entries of the graph, drawn anew for each encoder, at a rate that
each step draws from U(0, ``edge_dropout``), as in the released code.

Differences: d = 64 as for the other models here (paper: 250). The targets start as copies and are parameters without
gradient, saved with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.matrix import propagate_layers
from seqmm.losses import cosine_loss
from seqmm.models.collaborative.base import GraphConfig, GraphRecommender, initialise_with
from seqmm.models.paper import Paper
from seqmm.options import check_idle, option
from seqmm.registry import register


class BUIRConfig(GraphConfig):
    """The paper's settings; train with weight decay 1e-4."""

    model_type = "buir"

    neighbors: bool = option(
        True, "Whether the encoders propagate over the graph (BUIR_NB) or only look rows up (BUIR_ID)."
    )
    num_layers: int = option(3, "Propagation steps of BUIR_NB.", least=0)
    momentum: float = option(0.995, "Share of itself that a target table keeps in a step (tau).", least=0, most=1)
    edge_dropout: float = option(
        0.2, "Upper bound of BUIR_NB's random edge dropout rate (released code); 0 = no augmentation.", least=0, most=1
    )

    def check(self) -> None:
        super().check()
        if not self.neighbors:
            check_idle(self, "neighbors False looks rows up, over no graph", "edge_keep")


@register
class BUIR(GraphRecommender):
    """Learns without negatives: an online encoder predicts what a slower target encoder makes of the other side.

    Needs interactions alone.
    """

    config_class = BUIRConfig
    config: BUIRConfig
    paper = Paper(
        title="Bootstrapping User and Item Representations for One-Class Collaborative Filtering",
        authors=("Lee", "others"),
        venue="SIGIR",
        year=2021,
    )

    def __init__(self, config: BUIRConfig):
        super().__init__(config)
        self.make_ids()
        self.target_user = nn.Embedding(config.num_users, config.hidden_size)
        self.target_item = nn.Embedding(config.num_items, config.hidden_size)
        self.predictor = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if self.config.neighbors:  # the predictor keeps PyTorch's start
            initialise_with(module, table=nn.init.xavier_uniform_)
        else:
            initialise_with(module, table=nn.init.xavier_normal_, linear=nn.init.xavier_normal_)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.bias)  # released code

    @torch.no_grad()
    def initialise(self, corpus: Corpus) -> None:
        super().initialise(corpus)
        self.target_user.weight.copy_(self.user.weight)
        self.target_item.weight.copy_(self.item.weight)

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.target_user.requires_grad_(False)  # here, because loading forgets it
        self.target_item.requires_grad_(False)
        return self

    def collator_options(self, stage: int) -> dict[str, object]:
        return {"negatives": False}

    def nodes(
        self, users: nn.Embedding, items: nn.Embedding, stream: str, step_seed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One encoder: rows of all users ``[U, d]`` and items ``[I, d]``; augmented if there is a ``step_seed``."""
        if not self.config.neighbors:
            return users.weight, items.weight
        graph = self.current_graph()
        if step_seed is not None:
            graph = self.randomly_dropped_graph(self.config.edge_dropout, step_seed, stream)
        layer0 = torch.cat([users.weight, items.weight])  # [U + I, d]
        return self.split(propagate_layers(graph, layer0, self.config.num_layers))

    def encode(self) -> tuple[Tensor, Tensor]:
        users, items = self.nodes(self.user, self.item, "online")
        return torch.cat([self.predictor(users), users], 1), torch.cat([items, self.predictor(items)], 1)  # [n, 2d]

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        users, items = self.nodes(self.user, self.item, "online", batch["step_seed"])
        user, item = F.embedding(batch["user"], users), F.embedding(batch["positive"], items)  # [B, d]
        with torch.no_grad():
            users, items = self.nodes(self.target_user, self.target_item, "target", batch["step_seed"])
            target_user, target_item = F.embedding(batch["user"], users), F.embedding(batch["positive"], items)
        user_loss = 2 * cosine_loss(self.predictor(user), target_item)
        item_loss = 2 * cosine_loss(self.predictor(item), target_user)
        return {"loss": user_loss + item_loss, "user_agreement": user_loss, "item_agreement": item_loss}

    @torch.no_grad()
    def on_step_end(self, step: int) -> None:
        self.target_user.weight.lerp_(self.user.weight, 1 - self.config.momentum)
        self.target_item.weight.lerp_(self.item.weight, 1 - self.config.momentum)
