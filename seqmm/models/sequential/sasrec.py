"""SASRec. Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018.

Implemented in RecBole's form: ``x_t = Dropout(LN(E[s_t] + P_t))``, post-norm layers with GELU, scores ``h . E[j]``
without bias, N(0, .02) initialisation. Known differences:

- from the paper: right-padded, so positions count from the start of the window; post-norm; wide feed-forward part;
  cross-entropy over the catalogue by default (``loss: bce`` is the paper's: one negative a position).
- from RecBole: every position of a window is a target at once (``targets: prefix`` trains its one target a sample; the
  summed loss is the same for users of at most ``max_length + 1`` items); there is no padding item, so none competes in
  the softmax; the key projection has no bias (a softmax does not see it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.distributed import mean_over_ranks
from seqmm.losses import softmax_loss
from seqmm.models.paper import Paper
from seqmm.models.sequential.base import SequenceConfig, SequenceRecommender, trained, transformer
from seqmm.nn.transformer import last_state
from seqmm.options import OptionError, option
from seqmm.registry import register


class SASRecConfig(SequenceConfig):
    """RecBole's defaults; the loss is chosen by ``loss``."""

    model_type = "sasrec"

    loss: Literal["softmax", "sampled_softmax", "bce"] = option(
        "softmax",
        "Loss: softmax over the catalogue, over the target and sampled negatives, or binary cross-entropy against "
        "them.",
    )
    num_negatives: int = option(
        1, "Negatives drawn for each position; not used by the full softmax. The paper draws one.", least=0
    )

    def check(self) -> None:
        super().check()
        if self.loss != "softmax" and self.num_negatives == 0:
            raise OptionError(type(self).__name__, "num_negatives", f" is 0; loss {self.loss} needs 1 or more")


@register
class SASRec(SequenceRecommender):
    """Reads a history with a causal transformer and scores one table of item vectors against its last state.

    Needs interactions in their order, and serves users it has not seen.
    """

    config_class = SASRecConfig
    config: SASRecConfig
    paper: ClassVar[Paper | None] = Paper(
        title="Self-Attentive Sequential Recommendation",
        authors=("Kang", "McAuley"),
        venue="ICDM",
        year=2018,
    )

    def __init__(self, config: SASRecConfig):
        super().__init__(config)
        self.build_items(config)
        self.transformer = transformer(config)
        self.post_init()

    def build_items(self, config: SASRecConfig) -> None:
        """The parameters behind :meth:`items`."""
        self.item = nn.Embedding(config.num_items, config.hidden_size)

    @property
    def sized_by(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("num_items",)

    def collator_options(self, stage: int) -> dict[str, object]:
        negatives = 0 if self.config.loss == "softmax" else self.config.num_negatives
        return super().collator_options(stage) | {"negatives": negatives}

    def items(self) -> Tensor:
        """``[num_items, d]`` vectors that are both input and candidates."""
        return self.item.weight

    def states(self, items: Tensor, history: Tensor) -> Tensor:
        """``[B, L, d]``."""
        return self.transformer(F.embedding(history, items))

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        items = self.items()
        row, position, target = trained(batch)  # [T]
        query = self.states(items, batch["history"])[row, position]  # [T, d]
        if self.config.loss == "softmax":
            return {"loss": softmax_loss(query, items, target)}
        negative = batch["negative"][row, position]  # [T, K]
        hit = (query * F.embedding(target, items)).sum(-1, keepdim=True).float()  # [T, 1]
        miss = torch.einsum("td,tkd->tk", query, F.embedding(negative, items)).float()  # [T, K]
        if self.config.loss == "bce":
            return {"loss": mean_over_ranks(F.softplus(-hit[:, 0]) + F.softplus(miss).mean(1))}
        return {"loss": mean_over_ranks(torch.cat([hit, miss], dim=1).logsumexp(1) - hit[:, 0])}

    def tables(self) -> dict[str, Tensor]:
        return {"items": self.items()}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        return last_state(self.states(tables["items"], batch["history"]), batch["mask"])
