"""BM3. Zhou et al., Bootstrap Latent Representations for Multi-Modal Recommendation, WWW 2023.

Users and items are propagated over the user-item graph, items keep their embedding on top; content is projected by
modality. No negatives: the target of a vector is a dropped-out copy that gets no gradient, and one predictor f is
trained to hit it. A user and its item predict each other (graph reconstruction); an item's content predicts the item
(inter-modality alignment) and itself (intra-modality masking); plus a norm of all representations. Scores are
``f(u) . f(i)``, without content.

Implemented in MMRec's form: the norm is un-squared and divided by the number of items. Targets are made for the batch's
rows alone, yet a row of a table has one mask a step wherever it stands in the batch, as if the table had been dropped.
Each modality adds its two terms; without content the graph reconstruction is what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.graphs.matrix import propagate_layers
from seqmm.losses import Terms, cosine_loss, weighted_sum
from seqmm.models.collaborative.base import ContentGraphConfig, ContentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.noise import dropout_rows
from seqmm.options import option
from seqmm.random import torch_hash
from seqmm.registry import register


class BM3Config(ContentGraphConfig):
    """MMRec's best for Baby; its grid: 1, 2 layers; dropout 0.3, 0.5; regularization 0.1, 0.01."""

    model_type = "bm3"

    # without a step an item would be its embedding twice
    num_layers: int = option(1, "User-item propagation steps.", least=1)
    dropout: float = option(0.5, "Share of a target's entries that is dropped.", least=0, below=1)
    modal_weight: float = option(2.0, "Weight of the content's terms.", least=0)
    regularization: float = option(0.1, "Weight of the norm.", least=0)
    train_features: bool = option(
        True, "Whether the raw feature tables are parameters that start as the features (released code)."
    )


@register
class BM3(ContentGraphRecommender):
    """Learns without negatives: users, items and their content predict dropped-out copies of one another.

    Needs no content, and takes any number of vector sets; each adds its two alignment terms.
    """

    config_class = BM3Config
    config: BM3Config
    paper = Paper(
        title="Bootstrap Latent Representations for Multi-Modal Recommendation",
        authors=("Zhou", "others"),
        venue="WWW",
        year=2023,
        arxiv="2207.05969",
    )
    linear_init = staticmethod(nn.init.xavier_normal_)
    min_modalities: ClassVar[int] = 0

    def __init__(self, config: BM3Config):
        super().__init__(config)
        self.make_ids()
        self.predict = nn.Linear(config.hidden_size, config.hidden_size)
        self.project = self.linear_maps(config.hidden_size)
        self.post_init()

    @property
    def reads_content(self) -> bool:
        return self.config.modal_weight != 0

    def collator_options(self, stage: int) -> dict[str, object]:
        return {"negatives": False}

    def propagated(self) -> tuple[Tensor, Tensor]:
        layer0 = self.ids()  # [U + I, d]
        users, items = self.split(propagate_layers(self.current_graph(), layer0, self.config.num_layers))
        return users, items + self.item.weight

    def encode(self) -> tuple[Tensor, Tensor]:
        users, items = self.propagated()
        return self.predict(users), self.predict(items)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        users, items = self.propagated()
        user, item = F.embedding(batch["user"], users), F.embedding(batch["positive"], items)  # [B, d]

        def target(rows: Tensor, ids: Tensor, stream: str) -> Tensor:
            seed = torch_hash(batch["step_seed"], ids)  # not the row's: rows of one user share their mask
            return dropout_rows(rows.detach(), self.config.dropout, seed, stream)

        item_target = target(item, batch["positive"], "item")

        def by_content(name: str) -> dict[str, Tensor]:
            content = self.project[name](F.embedding(batch["positive"], self.features(name)))  # [B, d]
            predicted, masked = self.predict(content), target(content, batch["positive"], f"content {name}")
            return {
                f"align_{name}": cosine_loss(predicted, item_target),
                f"mask_{name}": cosine_loss(predicted, masked),
            }

        terms: Terms = {
            "user": (1.0, lambda: cosine_loss(self.predict(user), item_target)),
            "item": (1.0, lambda: cosine_loss(self.predict(item), target(user, batch["user"], "user"))),
            "norm": (self.config.regularization, lambda: (users.norm() + items.norm()) / self.config.num_items),
        }
        return weighted_sum(
            terms | {name: (self.config.modal_weight, partial(by_content, name)) for name in self.project}
        )
