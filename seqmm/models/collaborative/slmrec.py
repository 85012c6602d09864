"""SLMRec. Tao et al., Self-Supervised Learning for Multimedia Recommendation, IEEE Transactions on Multimedia 2022.

LightGCN runs once on item embeddings and once on each modality's projected content, always with the same user table;
linear read-outs of the concatenation represent users and items. The main loss is InfoNCE of users against the batch's
positives: no negatives are drawn. The self-supervised task is one of

- ``fac``, fine and coarse alignment: along a chain of spaces (id; id + first modality; id + first + second …) the
  item's fused vector, mapped into the next space, must find the modality's own among the batch's, by dot products;
- ``fd``, feature dropout: two views with dropout on every propagated layer must agree, for users and items, by cosines;
- ``fm``, feature masking: in each view one table of items (embeddings or a modality) is zero, another one in each;
- ``fd+fm``: both at once.

The chain follows the order of ``--data.features``; the last space of a chain of several is half as wide; one modality
has the first link only. Differences: the modality's own maps have no bias, which would cancel in the softmax; a link
is one linear map (MMRec's port to two modalities keeps the absent third one's map, two in a row without
non-linearity). MMRec's ``fd`` and ``fm`` read a modality it does not have; here they are the authors'. The only
regulariser is Adam's weight decay, 1e-4. Scores are dot products (their sigmoid ranks alike).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.graphs.matrix import propagate_layers
from seqmm.losses import info_nce, weighted_sum
from seqmm.models.collaborative.base import CPU, ContentGraphConfig, ContentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.noise import dropout_table
from seqmm.options import option
from seqmm.random import step_generator
from seqmm.registry import register


class SLMRecConfig(ContentGraphConfig):
    """From the official yaml; MMRec's grid: ssl_temperature 0.1, 0.2, 0.5, 1; ssl_weight 0.01, 0.05, 0.1, 0.5, 1."""

    model_type = "slmrec"

    num_layers: int = option(3, "Propagation steps (official yaml).", least=0)
    temperature: float = option(0.2, "Temperature of the main InfoNCE (official yaml).", above=0)
    ssl_task: Literal["fac", "fd", "fm", "fd+fm"] = option(
        "fac",
        "Self-supervised task: fac, fd, fm or both of the latter (official yaml: FAC); the model's notes say what "
        "they are.",
    )
    ssl_weight: float = option(0.1, "Weight of the self-supervised task (alpha; official yaml).", least=0)
    ssl_temperature: float = option(0.2, "Temperature of the self-supervised task (official yaml).", above=0)
    dropout: float = option(
        0.3, "Share of entries that fd drops of every propagated layer (official yaml).", least=0, below=1
    )


@register
class SLMRec(ContentGraphRecommender):
    """Propagates ids and modalities and trains users against the batch's items, with a self-supervised task beside it.

    Needs at least one set of vectors.
    """

    config_class = SLMRecConfig
    config: SLMRecConfig
    paper = Paper(
        title="Self-Supervised Learning for Multimedia Recommendation",
        authors=("Tao", "others"),
        venue="IEEE Transactions on Multimedia",
        year=2022,
        kind="journal",
    )
    linear_init = staticmethod(nn.init.xavier_uniform_)

    def __init__(self, config: SLMRecConfig):
        super().__init__(config)
        d, links = config.hidden_size, len(self.modalities) if config.ssl_task == "fac" and config.ssl_weight else 0
        self.make_ids()
        self.project = self.linear_maps(d)
        self.read_user = nn.Linear(d * (1 + len(self.modalities)), d)
        self.read_item = nn.Linear(d * (1 + len(self.modalities)), d)
        widths = [d // 2 if link == links - 1 and links > 1 else d for link in range(links)]
        self.fused = nn.ModuleList([nn.Linear(d, width) for width in widths])  # into the next space of the chain
        self.own = nn.ModuleList([nn.Linear(d, width, bias=False) for width in widths])
        self.post_init()

    def collator_options(self, stage: int) -> dict[str, object]:
        return {"negatives": False}

    def item_tables(self) -> list[Tensor]:
        """Layer 0 of the items ``[I, d]``: embeddings, then each modality's content."""
        return [self.item.weight, *(self.project[name](self.unit_features(name)) for name in self.modalities)]

    def unit_features(self, name: str) -> Tensor:
        """``[I, dim]`` with length 1."""
        if name in self.trained_features:
            return F.normalize(self.features(name), dim=-1)
        return self.feature_tables[name].units(self.device)

    def propagated(self, items: list[Tensor], after: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Users and items ``[n, (1 + M) d]``, all tables in one pass; ``after`` changes every layer."""
        x = torch.cat([self.user.weight.repeat(1, len(items)), torch.cat(items, 1)])  # [U + I, (1 + M) d]
        return self.split(propagate_layers(self.current_graph(), x, self.config.num_layers, after=after))

    def dropping(self, step_seed: Tensor, view: int) -> Callable[[Tensor], Tensor]:
        """Dropout for the layers of one view, a new mask each."""
        layer = count()
        return lambda x: dropout_table(x, self.config.dropout, step_seed, f"view {view}, layer {next(layer)}")

    def encode(self) -> tuple[Tensor, Tensor]:
        users, items = self.propagated(self.item_tables())
        return self.read_user(users), self.read_item(items)

    def align(self, items: Tensor) -> Tensor:
        """FAC on the batch's positives ``[B, (1 + M) d]``."""
        fused, *content = items.chunk(1 + len(self.modalities), dim=1)
        loss = items.new_zeros(())
        for link, own in enumerate(content):
            fused = self.fused[link](fused)  # [B, width]
            loss = loss + info_nce(fused, self.own[link](own), self.config.ssl_temperature, cosine=False)
        return loss

    def contrast(self, batch: Mapping[str, Tensor], tables: list[Tensor]) -> Tensor:
        """FD and FM: two perturbed views of the batch's users and positives."""
        task, step_seed, tau = self.config.ssl_task, batch["step_seed"], self.config.ssl_temperature
        order = torch.randperm(len(tables), generator=step_generator(step_seed, "masked", CPU)).tolist()
        views = []
        for view in range(2):
            hidden = order[view] if "fm" in task else None  # two different tables
            items = [torch.zeros_like(x) if place == hidden else x for place, x in enumerate(tables)]
            after = self.dropping(step_seed, view) if "fd" in task else None
            views.append(self.read(batch, *self.propagated(items, after)))
        (user1, item1), (user2, item2) = views
        return info_nce(user1, user2, tau) + info_nce(item1, item2, tau)

    def read(self, batch: Mapping[str, Tensor], users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, d]`` read-outs of the batch's users and positives: only these rows are mapped."""
        user, positive = F.embedding(batch["user"], users), F.embedding(batch["positive"], items)
        return self.read_user(user), self.read_item(positive)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        config, tables = self.config, self.item_tables()
        users, items = self.propagated(tables)  # [n, (1 + M) d]

        def task() -> Tensor:
            if config.ssl_task == "fac":
                return self.align(F.embedding(batch["positive"], items))
            return self.contrast(batch, tables)

        return weighted_sum(
            {
                "main": (1.0, lambda: info_nce(*self.read(batch, users, items), config.temperature)),
                config.ssl_task: (config.ssl_weight, task),
            }
        )
