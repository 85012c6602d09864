"""The survey's taxonomy as one model. Xu et al., A Survey on Multimodal Recommender Systems, arXiv 2502.15711, 2025.

Encoder x fusion timing x fusion strategy x loss x auxiliary task, built from the parts of the named models:

- encoder: matrix factorisation, or propagation over the user-item graph (LightGCN's, mean of layers) and, optionally, a
  user-user graph (shared items) and an item-item graph (kNN by content), both D^-1/2 S D^-1/2, whose messages are
  added;
- timing: early = Enc(Aggr_m(X_m)), late = Aggr_m(Enc(X_m)), where the sources X_m are the item ids and each modality's
  projection; late gives each source a user table of its own (all it changes without attention: the encoder is linear);
- strategy: element-wise (fixed mean or attention-weighted sum) or concatenation (plain or attention-weighted);
- loss: MSE, cross-entropy, BPR or hinge on observed and sampled pairs;
- auxiliary: none; feature-based, two views of the final vectors (an MLP of them, dropout, noise) or two modalities as
  views of an item; structure-based, the encoder over two perturbed user-item graphs (nodes or edges dropped anew each
  epoch, or noise added at each propagation over it). Views are compared by InfoNCE in the batch or by the
  Jensen-Shannon estimator.

The survey gives no equations for most of these; the definitions are the field's usual ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.build import cooccurrence
from seqmm.graphs.matrix import Graph, propagate_layers
from seqmm.losses import bpr, cross_entropy, half_squares, hinge, info_nce, jensen_shannon, squared_error, weighted_sum
from seqmm.models.collaborative.base import ContentGraphConfig, ContentGraphRecommender, MixingConfig, MixingRecommender
from seqmm.models.paper import Paper
from seqmm.nn.modality import ModalAttention
from seqmm.nn.noise import dropout_rows, moved, noisy_rows
from seqmm.options import OptionError, check_idle, option
from seqmm.random import step_generator
from seqmm.registry import register

LOSSES = {"mse": squared_error, "ce": cross_entropy, "bpr": bpr, "hinge": hinge}
ESTIMATORS = {"info_nce": info_nce, "js": jensen_shannon}


class CompositeConfig(MixingConfig, ContentGraphConfig):
    """Each field is an axis of the taxonomy; recipes/configs/composite/ has a grid."""

    model_type = "composite"

    encoder: Literal["mf", "graph"] = option(
        "graph", "Encoder of the sources: matrix factorisation, or propagation over graphs."
    )
    num_layers: int = option(2, "User-item propagation steps (graph).", least=0)
    user_layers: int = option(0, "Steps over the user-user graph (graph); 0 = no such graph.", least=0)
    item_layers: int = option(1, "Steps over the item-item graph (graph, with features); 0 = no such graph.", least=0)
    num_neighbors: int = option(10, "Neighbours in both graphs.", least=1)
    use_ids: bool = option(True, "Whether item ids are a source beside the modalities.")
    timing: Literal["early", "late"] = option(
        "late", "Whether sources are fused before the encoder (early) or after it (late)."
    )
    strategy: Literal["element", "concat"] = option(
        "element", "How sources are fused: by a (weighted) mean, or side by side."
    )
    attention: bool = option(
        False, "Whether the sources are weighed by attention (attentive) instead of alike (heuristic)."
    )
    loss: Literal["mse", "ce", "bpr", "hinge"] = option(
        "bpr", "Recommendation loss: pointwise (mse, ce) or pairwise (bpr, hinge)."
    )
    auxiliary: Literal["none", "mlp", "dropout", "noise", "modalities", "node_drop", "edge_drop", "graph_noise"] = (
        option(
            "none", "How the two views are made: feature-based (the first four) or structure-based (the last three)."
        )
    )
    estimator: Literal["info_nce", "js"] = option(
        "info_nce", "How views are compared: InfoNCE in the batch, or Jensen-Shannon."
    )
    auxiliary_weight: float = option(0.1, "Weight of the auxiliary loss.", least=0)
    temperature: float = option(0.2, "Temperature of the cosines in both estimators.", above=0)
    strength: float = option(0.1, "Share that dropout and the drops remove, or length of the noise.", least=0)
    regularization: float = option(1e-4, "Weight of half the squares of the batch's final vectors.", least=0)

    def check(self) -> None:
        super().check()
        if self.encoder == "mf" and self.auxiliary in ("node_drop", "edge_drop", "graph_noise"):
            problem = f" is {self.auxiliary!r}, which perturbs a graph; encoder mf has none, choose another"
            raise OptionError(type(self).__name__, "auxiliary", problem)
        if self.auxiliary in ("dropout", "node_drop", "edge_drop") and self.strength >= 1:
            problem = f" is {self.strength}, a share (auxiliary {self.auxiliary}); choose at least 0 and below 1"
            raise OptionError(type(self).__name__, "strength", problem)
        if self.encoder == "mf":
            check_idle(self, "encoder mf has no graphs", "edge_keep")
        if self.encoder == "mf" or self.item_layers == 0:
            why = f"encoder {self.encoder} with item_layers {self.item_layers} builds no item graph"
            check_idle(self, why, "modality_weights")


@register
class Composite(MixingRecommender, ContentGraphRecommender):
    """Builds a recommender from the survey's taxonomy: encoder, timing and strategy of fusion, loss, auxiliary task.

    Takes any number of vector sets; some choices need one or two, and say so.
    """

    config_class = CompositeConfig
    config: CompositeConfig
    paper = Paper(
        title="A Survey on Multimodal Recommender Systems",
        authors=("Xu", "others"),
        venue="",
        year=2025,
        kind="preprint",
        arxiv="2502.15711",
    )
    min_modalities: ClassVar[int] = 0

    def __init__(self, config: CompositeConfig):
        super().__init__(config)
        sources = len(self.modalities) + config.use_ids
        if sources == 0 or (config.auxiliary == "modalities" and len(self.modalities) < 2):
            raise ValueError(
                f"auxiliary {config.auxiliary!r} with use_ids = {config.use_ids} needs more than the feature sets "
                f"{list(self.modalities)}; name more with `data.features`"
            )
        width, late = config.hidden_size, config.timing == "late"
        fused = width * (sources if config.strategy == "concat" else 1)
        self.user = nn.ParameterList(
            torch.empty(config.num_users, width if late else fused) for _ in range(sources if late else 1)
        )
        self.item = nn.Embedding(config.num_items, width) if config.use_ids else None
        self.project = self.linear_maps(width)
        self.weigh = ModalAttention(width) if config.attention and sources > 1 else None
        if self.auxiliary == "mlp":
            self.predict = nn.Sequential(nn.Linear(fused, fused), nn.LeakyReLU(), nn.Linear(fused, fused))
        self.post_init()

    @property
    def auxiliary(self) -> str:
        """The auxiliary task, "none" if it weighs nothing."""
        return self.config.auxiliary if self.config.auxiliary_weight else "none"

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        config, train = self.config, corpus.splits["train"]
        graph = config.encoder == "graph"
        self.item_graph = self.user_graph = None
        if graph and config.item_layers and self.modalities:
            self.item_graph = self.frozen_item_graph(config.num_neighbors)
        if graph and config.user_layers:
            shared = cooccurrence(train.user, train.item, (corpus.num_users, corpus.num_items), config.num_neighbors)
            self.user_graph = shared.normalised()
        self.views: dict[str, Graph] = {}
        return self

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        super().on_stage_start(stage, epoch, generator)
        for view in ("view_0", "view_1"):
            if self.auxiliary == "edge_drop":
                keep = 1.0 - self.config.strength
                self.set_state(view, self.interactions.sample_edges(keep, generator, "uniform"))
            elif self.auxiliary == "node_drop":
                drop = self.config.strength
                self.set_state(view, self.interactions.sample_nodes(drop, self.config.num_users, generator))

    def on_state(self, name: str, tensor: Tensor) -> None:
        super().on_state(name, tensor)
        if name.startswith("view_"):
            self.views[name] = self.graph_of(tensor)

    def sources(self) -> list[Tensor]:
        """Items by source, ``[I, d]`` each: ids first."""
        ids = [] if self.item is None else [self.item.weight]
        return ids + [self.project[name](self.features(name)) for name in self.modalities]

    def aggregate(self, vectors: Sequence[Tensor]) -> Tensor:
        """``[n, d]`` of each source ``-> [n, d]`` or ``[n, S d]``."""
        stacked = torch.stack(list(vectors), 1)  # [n, S, d]
        weight = torch.ones_like(stacked[..., :1]) if self.weigh is None else self.weigh(vectors)[1]  # [n, S, 1]
        if self.config.strategy == "concat":
            return (weight * stacked).flatten(1)
        return (weight * stacked).sum(1) if self.weigh is not None else stacked.mean(1)

    def propagated(
        self, users: Tensor, items: Tensor, graph: Graph, noise: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """The encoder on one source: ``[U, d], [I, d]`` to the same shapes."""
        config = self.config
        if config.encoder == "mf":
            return users, items

        def perturb(layer: Tensor) -> Tensor:
            return moved(layer, config.strength, torch.rand(layer.shape, generator=noise, device=layer.device))

        nodes = torch.cat([users, items])  # [U + I, d]
        nodes = propagate_layers(graph, nodes, config.num_layers, after=None if noise is None else perturb)
        out_users, out_items = self.split(nodes)
        if self.user_graph is not None:
            out_users = out_users + propagate_layers(self.user_graph, users, config.user_layers, "last")
        if self.item_graph is not None:
            out_items = out_items + propagate_layers(self.item_graph, items, config.item_layers, "last")
        return out_users, out_items

    def view(self, graph: Graph, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Users and items, encoded and fused, over one graph."""
        items, users = self.sources(), list(self.user)
        if self.config.timing == "early":
            return self.propagated(users[0], self.aggregate(items), graph, noise)
        parts = [self.propagated(u, x, graph, noise) for u, x in zip(users, items, strict=True)]
        return self.aggregate([users for users, _ in parts]), self.aggregate([items for _, items in parts])

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.view(self.current_graph())

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        config = self.config
        user, positive, negative = self.rows(batch, *self.encode())  # [B, D]
        scores = (user * positive).sum(-1), (user * negative).sum(-1)
        return weighted_sum(
            {
                config.loss: (1.0, lambda: LOSSES[config.loss](*scores)),
                "norm": (config.regularization, lambda: half_squares(user, positive, negative)),
                "auxiliary": (
                    0.0 if self.auxiliary == "none" else config.auxiliary_weight,
                    lambda: self.contrast(self.pairs_of_views(batch, user, positive)),
                ),
            }
        )

    def contrast(self, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        estimate = ESTIMATORS[self.config.estimator]
        return torch.stack([estimate(a, b, self.config.temperature) for a, b in pairs]).mean()

    def pairs_of_views(
        self, batch: Mapping[str, Tensor], user: Tensor, positive: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Pairs of views of the batch's users and positive items, ``[B, D]`` each."""
        how, strength = self.auxiliary, self.config.strength
        if how == "mlp":
            return [(self.predict(x), x) for x in (user, positive)]
        if how == "modalities":
            content = [self.project[m](F.embedding(batch["positive"], self.features(m))) for m in self.modalities]
            return list(combinations(content, 2))
        if how in ("dropout", "noise"):
            perturb = dropout_rows if how == "dropout" else noisy_rows
            return [
                (perturb(x, strength, batch["row_seed"], f"{n}a"), perturb(x, strength, batch["row_seed"], f"{n}b"))
                for n, x in (("user", user), ("item", positive))
            ]
        views = []
        for name in ("view_0", "view_1"):
            noise = step_generator(batch["step_seed"], name, user.device) if how == "graph_noise" else None
            users, items = self.view(self.views.get(name, self.current_graph()), noise)
            views.append((F.embedding(batch["user"], users), F.embedding(batch["positive"], items)))
        return list(zip(*views, strict=True))
