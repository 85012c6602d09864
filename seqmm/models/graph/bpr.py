"""BPR-MF. Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009.

``score(u, i) = e_u . e_i``, trained on pairs of an observed and a sampled item (BPR-Opt). Implemented in MMRec's form,
whose numbers are published on the Amazon splits. Known differences from the paper: Adam instead of SGD,
``-log(1e-10 + sigmoid)``, and the un-squared norm of the batch's rows instead of squared per-parameter L2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from seqmm.data.collators import PairCollator
from seqmm.losses import bpr, embedding_norm
from seqmm.models.base import Recommender, RecommenderConfig, Stage


class BPRConfig(RecommenderConfig):
    """MMRec's hyper-parameters."""

    model_type = "bpr"

    regularization: float = 0.1
    """Weight of the embedding norm; from MMRec's grid (2, 1, 0.1 … 1e-5)."""


class BPR(Recommender):
    config_class = BPRConfig
    config: BPRConfig
    stages: ClassVar[tuple[Stage, ...]] = (Stage(PairCollator),)

    def __init__(self, config: BPRConfig):
        super().__init__(config)
        self.user = nn.Embedding(config.num_users, config.hidden_size)
        self.item = nn.Embedding(config.num_items, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.xavier_normal_(module.weight)  # MMRec

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        user = self.user(batch["user"])  # [B, d]
        positive, negative = self.item(batch["positive"]), self.item(batch["negative"])
        ranking = bpr((user * positive).sum(-1), (user * negative).sum(-1), gamma=1e-10)
        norm = embedding_norm(user, positive, negative)
        return {"loss": ranking + self.config.regularization * norm, "bpr": ranking, "norm": norm}

    def tables(self) -> dict[str, Tensor]:
        return {"users": self.user.weight, "items": self.item.weight}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        return tables["users"][batch["user"]]
