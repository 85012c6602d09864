"""SelfCF. Zhou et al., SelfCF: A Simple Framework for Self-supervised Collaborative Filtering, ACM TORS 2023.

A LightGCN encoder gives online rows of users and items; a linear predictor f of a user's row is drawn to the target row
of an item of theirs, and the item's to the user's, by cosine and without negatives. Targets are the online rows,
without gradient, perturbed in one of three ways (``perturbation``):

- ``dropout`` (ED, embedding dropout): of the batch's rows;
- ``history`` (HE, historical embedding): mixed with the row of the last step that saw the user or item;
- ``edges`` (EP, edge pruning): all rows propagated once more, over a randomly pruned graph.

Scores are ``f(u).i + u.f(i)``, one dot product of concatenations. While training, the encoder drops entries of the
graph at a rate that each step draws from U(0, ``edge_dropout``); MMRec and the authors' code do the same with 1.

Differences: an agreement is 1 - cos, theirs is -cos. Their L2 term is a sum over the batch next to means; ours is a
mean, so ``regularization`` is MMRec's reg_weight times the batch size (1e-5 * 2048 = 0.02). The histories are
parameters without gradient, written after the optimiser's step: theirs are lost with the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.distributed import gather_rows
from seqmm.graphs.matrix import propagate, propagate_layers
from seqmm.losses import cosine_loss, half_squares, weighted_sum
from seqmm.models.collaborative.base import GraphConfig, GraphRecommender, initialise_with
from seqmm.models.paper import Paper
from seqmm.nn.noise import dropout_rows
from seqmm.options import option
from seqmm.random import step_generator
from seqmm.registry import register


class SelfCFConfig(GraphConfig):
    """Authors' settings of ED; EP: 1 layer, dropout 0.1, HE: 4 layers, both with regularization 0.02 (see above)."""

    model_type = "selfcf"

    num_layers: int = option(2, "Propagation steps.", least=0)
    perturbation: Literal["dropout", "history", "edges"] = option("dropout", "How targets are made: ED, HE or EP.")
    dropout: float = option(
        0.5,
        "Share of a target row's entries (ED) or of the graph's (EP) that is dropped; MMRec's grid: 0.1, 0.2, 0.5.",
        least=0,
        below=1,
    )
    momentum: float = option(0.1, "Weight of the history in a target (HE).", least=0, most=1)
    edge_dropout: float = option(
        1.0,
        "Upper bound of the encoder's random edge dropout rate (drop_ratio in MMRec and the authors' code).",
        least=0,
        most=1,
    )
    regularization: float = option(
        0.0,
        "Weight of half the squares of the batch's online rows; MMRec's grid: 0 to 0.1, here times the batch size.",
        least=0,
    )


@register
class SelfCF(GraphRecommender):
    """Learns without negatives: LightGCN's vectors predict perturbed copies of the other side's.

    Needs interactions alone.
    """

    config_class = SelfCFConfig
    config: SelfCFConfig
    paper = Paper(
        title="SelfCF: A Simple Framework for Self-supervised Collaborative Filtering",
        authors=("Zhou", "others"),
        venue="ACM TORS",
        year=2023,
        kind="journal",
        arxiv="2107.03019",
    )

    def __init__(self, config: SelfCFConfig):
        super().__init__(config)
        self.make_ids()
        self.predictor = nn.Linear(config.hidden_size, config.hidden_size)
        self.unwritten: list[tuple[Tensor, ...]] = []  # user ids, their rows, item ids, their rows of this step
        if config.perturbation == "history":
            self.user_history = nn.Embedding(config.num_users, config.hidden_size)
            self.item_history = nn.Embedding(config.num_items, config.hidden_size)
        self.post_init()

    @property
    def histories(self) -> list[nn.Embedding]:
        return [self.user_history, self.item_history] if self.config.perturbation == "history" else []

    def _init_weights(self, module: nn.Module) -> None:
        if module in self.histories:
            nn.init.normal_(module.weight)  # authors' code
        else:
            initialise_with(module, table=nn.init.xavier_uniform_)  # the predictor keeps PyTorch's start

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        for table in self.histories:
            table.requires_grad_(False)  # here, because loading forgets it
        return self

    def collator_options(self, stage: int) -> dict[str, object]:
        return {"negatives": False}

    def encode(self) -> tuple[Tensor, Tensor]:
        layer0 = self.ids()  # [U + I, d]
        users, items = self.split(propagate_layers(self.current_graph(), layer0, self.config.num_layers))
        return torch.cat([self.predictor(users), users], 1), torch.cat([items, self.predictor(items)], 1)  # [n, 2d]

    @torch.no_grad()
    def targets(self, batch: Mapping[str, Tensor], nodes: Tensor, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, d]`` perturbed rows of the batch's users and items, from all nodes' online rows ``[U + I, d]``."""
        config = self.config
        if config.perturbation == "dropout":
            seed = batch["row_seed"]
            return dropout_rows(user, config.dropout, seed, "user"), dropout_rows(item, config.dropout, seed, "item")
        if config.perturbation == "edges":
            generator = step_generator(batch["step_seed"], "target", nodes.device)
            users, items = self.split(propagate(self.dropped_graph(config.dropout, generator), nodes))
            return F.embedding(batch["user"], users), F.embedding(batch["positive"], items)
        if self.training:  # written by on_step_end: a forward has no effect of its own
            self.unwritten.append(
                tuple(gather_rows(x.detach()) for x in (batch["user"], user, batch["positive"], item))
            )
        return (
            user.lerp(self.user_history(batch["user"]), config.momentum),
            item.lerp(self.item_history(batch["positive"]), config.momentum),
        )

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        graph = self.randomly_dropped_graph(self.config.edge_dropout, batch["step_seed"], "edges")
        layer0 = self.ids()  # [U + I, d]
        nodes = propagate_layers(graph, layer0, self.config.num_layers)
        users, items = self.split(nodes)
        user, item = F.embedding(batch["user"], users), F.embedding(batch["positive"], items)  # [B, d]
        target_user, target_item = self.targets(batch, nodes, user, item)
        return weighted_sum(
            {
                "user_agreement": (0.5, lambda: cosine_loss(self.predictor(user), target_item)),
                "item_agreement": (0.5, lambda: cosine_loss(self.predictor(item), target_user)),
                "norm": (self.config.regularization, lambda: half_squares(user, item)),
            }
        )

    @torch.no_grad()
    def on_step_end(self, step: int) -> None:
        for users, user_rows, items, item_rows in self.unwritten:
            self.user_history.weight[users] = user_rows
            self.item_history.weight[items] = item_rows
        self.unwritten.clear()
