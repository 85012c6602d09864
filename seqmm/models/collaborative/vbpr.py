"""VBPR. He and McAuley, VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback, AAAI 2016.

A user and an item meet in two spaces of the same width: latent factors and projected content,
``score(u, i) = gamma_u . gamma_i + theta_u . (W f_i + b)`` (eq. 4); trained with BPR. ``[gamma_u ; theta_u]`` is
one user table of twice the width. With several modalities f_i is their concatenation; only the batch's items are
projected while training.

Implemented in MMRec's form. Differences from the paper: no item bias ``beta_i`` and no visual bias ``beta' . f_i``; a
bias b of the projection, which cancels in the ranking and acts through the norm alone (none without a norm);
``-log(1e-10 + sigmoid)``, and the un-squared norm of the batch's rows (user, and item with its content) instead of
squared per-parameter L2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.losses import bpr_of_rows, embedding_norm, weighted_sum
from seqmm.models.collaborative.base import ContentConfig, ContentRecommender
from seqmm.models.paper import Paper
from seqmm.options import option
from seqmm.registry import register


class VBPRConfig(ContentConfig):
    """MMRec's hyper-parameters; ``hidden_size`` is the width of each of the two spaces."""

    model_type = "vbpr"

    regularization: float = option(0.1, "Weight of the embedding norm; from MMRec's grid (2, 1, 0.1 … 1e-5).", least=0)


@register
class VBPR(ContentRecommender):
    """Adds to matrix factorisation a second space, in which users meet the items' projected content.

    Needs at least one set of vectors; several are concatenated.
    """

    config_class = VBPRConfig
    config: VBPRConfig
    paper = Paper(
        title="VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback",
        authors=("He", "McAuley"),
        venue="AAAI",
        year=2016,
        arxiv="1510.01784",
    )
    linear_init = staticmethod(nn.init.xavier_normal_)  # MMRec

    def __init__(self, config: VBPRConfig):
        super().__init__(config)
        self.user = nn.Embedding(config.num_users, 2 * config.hidden_size)
        self.item = nn.Embedding(config.num_items, config.hidden_size)
        width = sum(map(self.feature_dim, self.modalities))
        self.project = nn.Linear(width, config.hidden_size, bias=config.regularization != 0)  # else nothing trains it
        self.post_init()

    def represent_items(self, items: Tensor) -> Tensor:
        content = torch.cat([F.embedding(items, self.features(name)) for name in self.modalities], -1)
        return torch.cat([self.item(items), self.project(content)], -1)  # [n, 2 d]

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.represent_items(torch.arange(self.config.num_items, device=self.device))

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        user = self.user(batch["user"])  # [B, 2 d]
        positive, negative = self.represent_items(torch.cat([batch["positive"], batch["negative"]])).chunk(2)
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(user, positive, negative, gamma=1e-10)),
                "norm": (self.config.regularization, lambda: embedding_norm(user, positive, negative)),
            }
        )
