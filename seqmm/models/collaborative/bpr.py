"""BPR-MF. Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009.

``score(u, i) = e_u . e_i``, trained on pairs of an observed and a sampled item (BPR-Opt). Implemented in MMRec's form,
whose numbers are published on the Amazon splits. Known differences from the paper: Adam instead of SGD,
``-log(1e-10 + sigmoid)``, and the un-squared norm of the batch's rows instead of squared per-parameter L2.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from seqmm.losses import bpr_of_rows, embedding_norm, weighted_sum
from seqmm.models.base import RecommenderConfig
from seqmm.models.collaborative.base import PairRecommender
from seqmm.models.paper import Paper
from seqmm.options import option
from seqmm.registry import register


class BPRConfig(RecommenderConfig):
    """MMRec's hyper-parameters."""

    model_type = "bpr"

    regularization: float = option(0.1, "Weight of the embedding norm; from MMRec's grid (2, 1, 0.1 … 1e-5).", least=0)


@register
class BPR(PairRecommender):
    """Factorises the interactions into user and item vectors trained on pairs of a seen and an unseen item.

    Needs interactions alone; the baseline every other model has to beat.
    """

    config_class = BPRConfig
    config: BPRConfig
    paper = Paper(
        title="BPR: Bayesian Personalized Ranking from Implicit Feedback",
        authors=("Rendle", "others"),
        venue="UAI",
        year=2009,
    )
    table_init = staticmethod(nn.init.xavier_normal_)  # MMRec

    def __init__(self, config: BPRConfig):
        super().__init__(config)
        self.make_ids()
        self.post_init()

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item.weight

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        rows = self.rows(batch, *self.encode())  # [B, d] each
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows, gamma=1e-10)),
                "norm": (self.config.regularization, lambda: embedding_norm(*rows)),
            }
        )
