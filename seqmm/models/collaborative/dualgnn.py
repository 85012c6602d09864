"""DualGNN. Wang et al., DualGNN: Dual Graph Neural Network for Multimedia Recommendation, IEEE TMM 2021.

One graph convolution for each modality (single-modal representation learning): users enter by a table of preferences,
items by their projected content, rows are normalised and the propagated layers summed. An item is the sum over
modalities; a user is their sum by its own weights, one for each modality (multi-modal representation learning), plus
the weighted mean of the users it shares most items with (the user co-occurrence graph). The loss is BPR plus, weighted
by lambda, the mean squares of preferences and weights.

In the form of MMRec and the authors' code: weights start as a softmax and are free from then on; ``-log2 sigmoid``,
which is BPR divided by ln 2. Differences: MMRec adds its two modalities in place, so that the first weight counts for
both (user = a_0 (v + t) + a_1 t); the authors' code and this one weigh each modality once. Their item weights are
penalised and used nowhere: not built. Released codes fill short neighbour lists with random repeats, an option here
(``neighbor_padding``), and score with what the last training batch left; here scoring is recomputed, without repeats.
With one modality a user's weight is the scale of its row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seqmm.graphs.matrix import propagate, propagate_layers
from seqmm.losses import bpr_of_rows, weighted_sum
from seqmm.models.collaborative.base import UserGraphConfig, UserGraphRecommender, initialise_with
from seqmm.models.paper import Paper
from seqmm.nn.modality import PreferenceEncoder
from seqmm.options import option
from seqmm.registry import register


class DualGNNConfig(UserGraphConfig):
    """MMRec's grid: lambda and learning rate 0.1 to 1e-5."""

    model_type = "dualgnn"

    inner_size: int = option(256, "Width of the projectors' hidden layer (released codes).", least=1)
    num_layers: int = option(2, "User-item propagation steps (released codes).", least=0)
    regularization: float = option(
        1e-3, "Weight of the mean squares of preferences and modality weights (lambda).", least=0
    )


@register
class DualGNN(UserGraphRecommender):
    """Convolves the user-item graph in each modality and lets users learn from those they share items with.

    Needs at least one set of vectors.
    """

    config_class = DualGNNConfig
    config: DualGNNConfig
    paper = Paper(
        title="DualGNN: Dual Graph Neural Network for Multimedia Recommendation",
        authors=("Wang", "others"),
        venue="IEEE TMM",
        year=2021,
        kind="journal",
    )
    encoders: Any  # a ModuleDict, whose values have no type

    def __init__(self, config: DualGNNConfig):
        super().__init__(config)
        sizes = config.inner_size, config.hidden_size
        self.encoders = nn.ModuleDict(
            {name: PreferenceEncoder(config.num_users, self.feature_dim(name), *sizes) for name in self.modalities}
        )
        self.weight = nn.Embedding(config.num_users, len(self.modalities))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        initialise_with(module, table=nn.init.xavier_normal_)
        if module is self.weight:
            with torch.no_grad():
                self.weight.weight.copy_(self.weight.weight.softmax(1))

    def branches(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of each modality: users ``[U, d]``, times their weight for it, and items ``[I, d]``."""
        users, items = [], []
        for name, weight in zip(self.modalities, self.weight.weight.split(1, dim=1), strict=True):  # [U, 1]
            layer0 = self.encoders[name](self.features(name))  # [U + I, d]
            nodes = propagate_layers(self.current_graph(), layer0, self.config.num_layers, "sum")
            user, item = self.split(nodes)
            users.append(weight * user)
            items.append(item)
        return users, items

    def encode(self) -> tuple[Tensor, Tensor]:
        users, items = (torch.stack(parts).sum(0) for parts in self.branches())
        return users + propagate(self.current_user_graph(), users), items

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        rows = self.rows(batch, *self.encode())  # [B, d] each
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows) / math.log(2)),
                "penalty": (self.config.regularization, lambda: self.penalty(batch["user"])),
            }
        )

    def penalty(self, user: Tensor) -> Tensor:
        penalty = self.weight.weight.square().mean()
        for encoder in self.encoders.values():
            penalty = penalty + encoder.penalty(user)
        return penalty
