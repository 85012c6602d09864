"""NCL. Lin et al., Improving Graph Collaborative Filtering with Neighborhood-enriched Contrastive Learning, WWW 2022.

LightGCN with two contrasts (InfoNCE on cosines). Structural neighbours: a node's output of the even layer 2h, which
gathers nodes of its own kind, against its layer-0 embedding, with the layer 0 of all users (or items) as candidates.
Semantic neighbours: its layer-0 embedding against the centroid of its cluster, with all centroids as candidates;
clusters come from k-means on layer 0 at an epoch's start (the E-step), and only after ``warmup_epochs``. The loss adds
BPR and the norm of layer-0 rows.

The released code sums both contrasts over the batch while BPR is a mean. Here all are means, so ``structure_weight``
and ``prototype_weight`` are the released values times the batch size (1e-7 * 4096, 8e-8 * 4096): multiply theirs by
yours. alpha weighs the items of the structural contrast only, as in the released code (paper: of both; it is 1).
k-means is our own (Lloyd, 25 iterations, on all rows) instead of faiss, and is not run before the warm-up ends; as in
the released code its distances are Euclidean and the centroids are normalised afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.graphs.matrix import hops
from seqmm.losses import bpr_of_rows, embedding_norm, info_nce_of_tables, weighted_sum
from seqmm.models.collaborative.base import GraphConfig, GraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.clustering import kmeans
from seqmm.options import option
from seqmm.registry import register

Pair = tuple[Tensor, Tensor]
"""Of users and of items."""


class NCLConfig(GraphConfig):
    """Released settings; grids: lambda_s 1e-8 to 1e-6 (here times the batch size), tau 0.05 to 0.1, k 100 to 2000."""

    model_type = "ncl"

    num_layers: int = option(3, "Propagation steps that are averaged.", least=0)
    structure_hops: int = option(
        1, "Hops of the structural contrast (h): layer 2h is contrasted with layer 0.", least=1
    )
    num_clusters: int = option(
        1000, "Clusters of users and of items (k); at most the smaller number of the two.", least=1
    )
    cluster_every: int = option(1, "Epochs between two runs of k-means (m_step).", least=1)
    warmup_epochs: int = option(20, "Epochs before the first run of k-means (warm_up_step).", least=0)
    temperature: float = option(0.1, "Temperature of both contrasts (tau).", above=0)
    structure_weight: float = option(4e-4, "Weight of the structural contrast (lambda_1): 1e-7 * 4096.", least=0)
    prototype_weight: float = option(
        3.3e-4, "Weight of the semantic contrast (lambda_2): 8e-8 * 4096; 0 = none, and no k-means.", least=0
    )
    item_weight: float = option(1.0, "Weight of items relative to users in the structural contrast (alpha).", least=0)
    regularization: float = option(1e-4, "Weight of the embedding norm (lambda_3).", least=0)


@register
class NCL(GraphRecommender):
    """Adds two contrasts to LightGCN: with neighbours of the same kind, and with the centroid of a node's cluster.

    Needs interactions alone.
    """

    config_class = NCLConfig
    config: NCLConfig
    paper = Paper(
        title="Improving Graph Collaborative Filtering with Neighborhood-enriched Contrastive Learning",
        authors=("Lin", "others"),
        venue="WWW",
        year=2022,
    )

    def __init__(self, config: NCLConfig):
        super().__init__(config)
        self.make_ids()
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        """Raises ValueError if there are fewer users or items than clusters."""
        super().bind(corpus)
        most = min(corpus.num_users, corpus.num_items)
        if self.config.prototype_weight and self.config.num_clusters > most:
            raise ValueError(
                f"model.num_clusters is {self.config.num_clusters}, but corpus {corpus.name!r} has {corpus.num_users} "
                f"users and {corpus.num_items} items; choose at most {most}"
            )
        self.prototypes: dict[str, Tensor] = {}
        return self

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        super().on_stage_start(stage, epoch, generator)
        since = epoch - self.config.warmup_epochs
        if self.config.prototype_weight and since >= 0 and since % self.config.cluster_every == 0:
            for kind, table in (("user", self.user), ("item", self.item)):
                centroids, cluster = kmeans(table.weight.detach(), self.config.num_clusters, generator)
                self.set_state(f"{kind}_centroids", F.normalize(centroids, dim=1))
                self.set_state(f"{kind}_cluster", cluster)

    def on_state(self, name: str, tensor: Tensor) -> None:
        super().on_state(name, tensor)
        if name.endswith(("_centroids", "_cluster")):  # there are none during the warm-up, in a resumed run, too
            self.prototypes[name] = tensor.to(self.device)

    def combine(self, layers: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.split(torch.stack(layers[: self.config.num_layers + 1]).mean(0))

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.combine(hops(self.current_graph(), self.ids(), self.config.num_layers))

    def contrast(self, batch: Mapping[str, Tensor], anchors: Pair, positives: Pair, candidates: Pair) -> list[Tensor]:
        """InfoNCE of the batch's users and of its items; arguments are (users, items) tables."""
        index = batch["user"], batch["positive"]
        return [
            info_nce_of_tables(rows, anchor, positive, self.config.temperature, others)
            for rows, anchor, positive, others in zip(index, anchors, positives, candidates, strict=True)
        ]

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        config, layer0 = self.config, (self.user.weight, self.item.weight)
        own_kind = 2 * config.structure_hops if config.structure_weight else 0  # the layer that is contrasted
        layers = hops(self.current_graph(), self.ids(), max(config.num_layers, own_kind))
        rows = self.rows(batch, *self.combine(layers))  # [B, d] each
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows, gamma=1e-10)),
                "norm": (config.regularization, lambda: embedding_norm(*self.rows(batch, *layer0))),
                "structure": (config.structure_weight, lambda: self.structure(batch, self.split(layers[own_kind]))),
                "prototype": (config.prototype_weight if self.prototypes else 0.0, lambda: self.prototype(batch)),
            }
        )

    def structure(self, batch: Mapping[str, Tensor], anchors: Pair) -> Tensor:
        layer0 = self.user.weight, self.item.weight
        users, items = self.contrast(batch, anchors, layer0, layer0)
        return users + self.config.item_weight * items

    def prototype(self, batch: Mapping[str, Tensor]) -> Tensor:
        centroids = self.prototypes["user_centroids"], self.prototypes["item_centroids"]  # [k, d]
        own_user = F.embedding(self.prototypes["user_cluster"], centroids[0])  # [U, d]
        own_item = F.embedding(self.prototypes["item_cluster"], centroids[1])
        users, items = self.contrast(batch, (self.user.weight, self.item.weight), (own_user, own_item), centroids)
        return users + items
