"""LGMRec. Guo et al., LGMRec: Local and Global Graph Learning for Multimodal Recommendation, AAAI 2024.

Local: LightGCN on embeddings (eq. 2-3), and for each modality the last of several hops of projected content, where a
user starts as the mean of its items (eq. 4-5); each modality is added with length 1 (eq. 6). Global: in each modality
an item depends on K hyperedges by a projection of its raw content, a user by the sum of its items' (eq. 7); both are
sharpened by Gumbel softmax (eq. 8). Items' collaborative rows go to the hyperedges and back to items and users, for
some layers, and are added with length 1 (eq. 9-11). Loss: BPR, InfoNCE between the users' (and items') global rows of
two modalities against all users (items), and the norm of the final rows (eq. 12-14). Features are frozen.

Differences: scoring uses the softmax without noise, the authors draw noise there as well; the InfoNCE is a mean over
the batch, the authors' a sum, so ``contrast_weight`` is 2048 times theirs. Of several modalities every pair, in order,
is contrasted; a single one has no contrast. ``edge_keep`` samples the edges of the propagation, not of users' means and
sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.build import interaction_matrix
from seqmm.graphs.matrix import propagate, propagate_layers
from seqmm.losses import Terms, bpr_of_rows, embedding_norm, info_nce_of_tables, weighted_sum
from seqmm.models.collaborative.base import ContentGraphConfig, ContentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.noise import dropout_table
from seqmm.options import option
from seqmm.random import step_generator
from seqmm.registry import register


class LGMRecConfig(ContentGraphConfig):
    """From the authors' yaml."""

    model_type = "lgmrec"

    num_layers: int = option(2, "Propagation steps of the embeddings.", least=0)
    num_content_layers: int = option(2, "Propagation steps of the content.", least=0)
    num_hyper_layers: int = option(1, "Hypergraph layers (Baby 1, Sports 4, Clothing 2).", least=1)
    num_hyperedges: int = option(4, "Hyperedges of a modality (K; Baby and Sports 4, Clothing 64).", least=1)
    dropout: float = option(
        0.5,
        "Share of dropped entries of the hyperedge dependencies, 1 - keep_rate (Baby 0.5, Sports 0.6, Clothing 0.8).",
        least=0,
        below=1,
    )
    alpha: float = option(0.3, "Weight of the global rows (Baby 0.3, Sports 0.6, Clothing 0.2).", least=0)
    contrast_weight: float = option(0.2, "Weight of the InfoNCE (the authors' 1e-4 times 2048 rows, rounded).", least=0)
    temperature: float = option(
        0.2, "Temperature of the softmax over hyperedges and of the InfoNCE (released code).", above=0
    )
    regularization: float = option(1e-6, "Weight of the embedding norm.", least=0)


@register
class LGMRec(ContentGraphRecommender):
    """Adds local graph embeddings of ids and modalities to global ones of learned hyperedges.

    Needs at least one set of vectors.
    """

    config_class = LGMRecConfig
    config: LGMRecConfig
    paper = Paper(
        title="LGMRec: Local and Global Graph Learning for Multimodal Recommendation",
        authors=("Guo", "others"),
        venue="AAAI",
        year=2024,
    )
    linear_init = staticmethod(nn.init.xavier_uniform_)

    def __init__(self, config: LGMRecConfig):
        super().__init__(config)
        self.make_ids()
        self.project = self.linear_maps(config.hidden_size, bias=False)
        self.hyper = nn.ModuleDict()
        if config.alpha or (config.contrast_weight and len(self.modalities) > 1):  # else nothing trains it
            self.hyper = self.linear_maps(config.num_hyperedges, bias=False)
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.sum_of_items = interaction_matrix(corpus)  # [U, I]
        self.mean_of_items = self.sum_of_items.normalised("rw")
        return self

    def local(self, collaborative: Tensor) -> Tensor:
        """``[U + I, d]``: embeddings' rows plus each modality's."""
        total = collaborative
        for name in self.modalities:
            items = self.project[name](self.features(name))
            x = torch.cat([propagate(self.mean_of_items, items), items])  # [U + I, d]
            x = propagate_layers(self.current_graph(), x, self.config.num_content_layers, combine="last")
            total = total + F.normalize(x, dim=-1)
        return total

    def depend(self, logits: Tensor, batch: Mapping[str, Tensor] | None, stream: str) -> Tensor:
        """``[n, K]`` dependencies on hyperedges; noise and dropout while training."""
        if not self.training or batch is None:
            return (logits / self.config.temperature).softmax(1)
        generator = step_generator(batch["step_seed"], f"gumbel {stream}", logits.device)
        exponential = torch.empty_like(logits).exponential_(generator=generator)
        depends = ((logits - exponential.log()) / self.config.temperature).softmax(1)
        return dropout_table(depends, self.config.dropout, batch["step_seed"], f"dropout {stream}")

    def hyper_rows(self, name: str, items: Tensor, batch: Mapping[str, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Global rows of users ``[U, d]`` and items ``[I, d]`` in one modality."""
        logits = self.hyper[name](self.features(name))  # [I, K]
        of_items = self.depend(logits, batch, f"{name} items")
        of_users = self.depend(propagate(self.sum_of_items, logits), batch, f"{name} users")  # [U, K]
        users = items
        for _ in range(self.config.num_hyper_layers):
            edges = of_items.T @ items  # [K, d]
            users, items = of_users @ edges, of_items @ edges
        return users, items

    def views(self, batch: Mapping[str, Tensor] | None = None) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Final rows ``[U + I, d]``, and the global rows of users and items by modality."""
        layer0 = self.ids()
        collaborative = propagate_layers(self.current_graph(), layer0, self.config.num_layers)
        items = self.split(collaborative)[1]
        hyper = {name: self.hyper_rows(name, items, batch) for name in self.hyper}
        if self.config.alpha == 0:
            return self.local(collaborative), hyper
        everywhere = torch.stack([torch.cat(rows) for rows in hyper.values()]).sum(0)  # [U + I, d]
        return self.local(collaborative) + self.config.alpha * F.normalize(everywhere, dim=-1), hyper

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.split(self.views()[0])

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        final, hyper = self.views(batch)
        rows = self.rows(batch, *self.split(final))  # [B, d] each
        terms: Terms = {
            "bpr": (1.0, lambda: bpr_of_rows(*rows)),
            "norm": (self.config.regularization, lambda: embedding_norm(*rows)),
        }
        for one, other in combinations(hyper, 2):
            for kind, key, a, b in zip(("users", "items"), ("user", "positive"), hyper[one], hyper[other], strict=True):
                contrast = partial(info_nce_of_tables, batch[key], a, b, self.config.temperature, candidates=b)
                terms[f"contrast_{kind}_{one}_{other}"] = self.config.contrast_weight, contrast
        return weighted_sum(terms)
