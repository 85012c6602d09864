"""MENTOR. Xu et al., MENTOR: Multi-level Self-supervised Learning for Multimodal Recommendation, AAAI 2025.

Every modality, and the ids, are a branch: user preferences next to projected item content, propagated over the
user-item graph; layers are added up. A user's fused representation concatenates his modality branches, each times a
learned weight of his own; an item's adds one hop over the frozen item graph; their dot product is the score, without
the id branch. The loss is BPR plus three self-supervised parts and a regulariser:

- multilevel alignment: distances |mu_a - mu_b| + |sigma_a - sigma_b| between the Gaussians of two views: ids and fused
  (level 1), ids and each modality (2), fused and each modality (3), two modalities (4: all pairs);
- feature masking: the fused view, half masked and without gradient, against a linear predictor of the unmasked one;
- graph perturbation: InfoNCE of two views whose hops are moved by noise, over all users and over all items.

Differences from the equations, which the released code shares: the noise is a vector of length 0.1 in the hop's orthant
(raw U(0, 1)^d, as printed, would be several times longer than the signal), BPR and InfoNCE are means, not sums, and
InfoNCE compares the concatenated modalities once (``perturbation_views = "each"``: once for each modality, as printed).

Differences from the released code: the noisy views share the recommender's encoder (there they have their own, so that
the loss never reaches the recommender); masking sends a gradient through the predictor (there none at all; as if
``feature_masking`` were 0); standard deviations, not variances (``align_statistic``); natural, not binary logarithm in
BPR (``bpr_weight`` 1.4427); scores come from the current parameters, not from those before an epoch's last step; the
users' modality weights start at exactly 1 / M, not at the softmax of small noise.

InfoNCE is most of a step (82 % of 8 CPU seconds on Baby), and ``graph_perturbation = 0`` saves it.

Two variants of a reproduction: other ``modality_weights`` in the item graph; and ``item_fusion = "attention"``, where
the modalities' item graphs stay apart and self-attention weighs what comes over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import combinations
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.distributed import rank_share
from seqmm.graphs.matrix import hops, propagate, propagate_layers
from seqmm.losses import bpr_of_rows, cosine_loss, info_nce, weighted_sum
from seqmm.models.collaborative.base import (
    ContentGraphConfig,
    ContentGraphRecommender,
    MixingConfig,
    MixingRecommender,
    initialise_with,
)
from seqmm.models.paper import Paper
from seqmm.nn.modality import PreferenceEncoder
from seqmm.nn.noise import dropout_table, moved
from seqmm.options import check_idle, option
from seqmm.random import step_generator
from seqmm.registry import register


class MENTORConfig(MixingConfig, ContentGraphConfig):
    """Official yaml; its grid: graph_perturbation 1e-4, 1e-3 and temperature 0.2, 0.4, 0.6 (the winners are not told).
    The paper's: alignment 0.1 to 0.3, feature_masking 0.5 to 2.5, graph_perturbation 1e-4 to 1e-2, temperature 0.1 to
    0.8. Trained with learning rate 1e-4. A part of weight 0 is left out and builds nothing."""

    model_type = "mentor"

    # without a step the noisy views are the clean ones, and an item's hop would be the item once more
    num_layers: int = option(2, "User-item propagation steps.", least=1)
    num_item_layers: int = option(1, "Item-item propagation steps.", least=1)
    num_neighbors: int = option(10, "Neighbours of an item in the item-item graphs (k).", least=1)
    inner_size: int = option(256, "Width between the two layers of a branch's projection (released code).", least=1)
    item_fusion: Literal["weighted", "attention"] = option(
        "weighted",
        "How the modalities' item graphs meet: mixed by modality_weights (paper), or by self-attention over what "
        "each brings (a reproduction's variant without a formula; the form here is a reconstruction).",
    )
    num_heads: int = option(4, "Heads of the item attention (item_fusion attention).", least=1)
    bpr_weight: float = option(
        1.0, "Weight of BPR; 1.4427 = 1 / ln 2 is the binary logarithm of the released code.", least=0
    )
    alignment: float = option(0.1, "Weight of the alignment (lambda_align).", least=0)
    align_levels: tuple[int, ...] = option(
        (1, 2, 3, 4),
        "Levels of alignment to use; the paper's ablations: none, (1), (1, 2), (1, 2, 3).",
        least=1,
        most=4,
    )
    align_statistic: Literal["std", "var"] = option(
        "std", "Spread that is aligned: the paper's sigma, or the variance (released code)."
    )
    align_axis: Literal["all", "column"] = option(
        "all", "Moments over all entries of a view (released code), or over each column, whose distances are averaged."
    )
    feature_masking: float = option(1.5, "Weight of feature masking (lambda_f).", least=0)
    mask_dropout: float = option(0.5, "Share of entries that feature masking hides.", least=0, below=1)
    graph_perturbation: float = option(1e-3, "Weight of graph perturbation (lambda_g).", least=0)
    perturbation_views: Literal["fused", "each"] = option(
        "fused",
        "Whether the concatenated modalities are compared (fused: released code), or each on its own and added up "
        "(each: the printed equation).",
    )
    noise: float = option(0.1, "Length of the noise vectors (released code).", least=0)
    temperature: float = option(0.2, "Temperature of the InfoNCE (tau).", above=0)
    regularization: float = option(
        1e-3, "Weight of the mean squares of the batch's user preferences and of the users' modality weights.", least=0
    )

    def check(self) -> None:
        super().check()
        if self.item_fusion == "attention":
            check_idle(self, "item_fusion attention mixes no graphs", "modality_weights")


class View(NamedTuple):
    """One representation of everything; w = M d, or d for a single branch (which stands for M copies of itself)."""

    users: Tensor  # [U, w]
    items: Tensor  # [I, w]


class ItemAttention(nn.Module):
    """Self-attention between M vectors of an item, residual, LayerNorm, mean; keys without a bias that cancels, and one
    vector without queries and keys, whose softmax over itself is 1."""

    def __init__(self, num_tokens: int, width: int, num_heads: int):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"{width} columns (modalities times hidden_size) are not a multiple of {num_heads} heads")
        self.heads = (num_heads, width // num_heads)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.query = nn.Linear(width, width) if num_tokens > 1 else None
        self.key = nn.Linear(width, width, bias=False) if num_tokens > 1 else None
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[I, M, w] -> [I, w]``."""
        mixed = self.value(tokens)  # [I, M, w]
        if self.query is not None and self.key is not None:
            q, k, v = (
                x.unflatten(-1, self.heads).transpose(1, 2)  # [I, heads, M, w / heads]
                for x in (self.query(tokens), self.key(tokens), mixed)
            )
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        return self.norm(tokens + self.output(mixed)).mean(1)


@register
class MENTOR(MixingRecommender, ContentGraphRecommender):
    """Propagates ids and modalities, aligns them at several levels, and contrasts noisy views of the graph.

    Needs at least one set of vectors.
    """

    config_class = MENTORConfig
    config: MENTORConfig
    paper = Paper(
        title="MENTOR: Multi-level Self-supervised Learning for Multimodal Recommendation",
        authors=("Xu", "others"),
        venue="AAAI",
        year=2025,
        arxiv="2402.19407",
    )

    def __init__(self, config: MENTORConfig):
        super().__init__(config)
        users, inner, d = config.num_users, config.inner_size, config.hidden_size
        self.width = d * len(self.modalities)
        self.branches = nn.ModuleDict(
            {name: PreferenceEncoder(users, self.feature_dim(name), inner, d) for name in self.modalities}
        )
        self.modal_weight = nn.Embedding(users, len(self.modalities))
        if self.has_ids:
            self.item = nn.Embedding(config.num_items, d)
            self.id_branch = PreferenceEncoder(users, d, inner, d)
        if config.feature_masking:
            self.predictor = nn.Linear(self.width, self.width)
        if config.item_fusion == "attention":
            self.item_attention = ItemAttention(len(self.modalities), self.width, config.num_heads)
        self.post_init()

    @property
    def has_ids(self) -> bool:
        """Levels 1 and 2 of the alignment are all that trains the id branch."""
        return bool({1, 2} & set(self.levels))

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the alignment that are computed: one modality has no other one (4)."""
        several, levels = len(self.modalities) > 1, self.config.align_levels
        return tuple(level for level in levels if several or level != 4) if self.config.alignment else ()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.modal_weight:
            nn.init.constant_(self.modal_weight.weight, 1 / len(self.modalities))
        elif isinstance(module, nn.Embedding):
            nn.init.xavier_normal_(module.weight)
        elif isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()  # torch's default
        elif isinstance(module, ItemAttention):
            for linear in (module.query, module.key, module.value, module.output):
                if linear is not None:
                    initialise_with(linear, linear=nn.init.xavier_uniform_)

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        k = self.config.num_neighbors
        if self.config.item_fusion == "weighted":
            self.item_graphs = [self.frozen_item_graph(k)]
        else:
            self.item_graphs = [self.knn(name, k) for name in self.modalities]
        return self

    # -- representations ----------------------------------------------------------------------------------------------

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.fused(*self.views(reduce(torch.add, self.layers(self.layer0(ids=False))), slice(None)))

    def layer0(self, ids: bool) -> Tensor:
        """``[U + I, n d]``: the modalities' branches side by side, then the ids' if wanted."""
        blocks = [branch(self.features(name)) for name, branch in self.branches.items()]
        if ids:
            blocks.append(self.id_branch(self.item.weight))
        return torch.cat(blocks, 1)

    def layers(self, layer0: Tensor) -> list[Tensor]:
        """``[U + I, n d]`` and its hops over the user-item graph."""
        return hops(self.current_graph(), layer0, self.config.num_layers)

    def noisy(self, layers: list[Tensor], step_seed: Tensor) -> Tensor:
        """``[U + I, 2 M d]``: sums of the modalities' layers under two draws of noise.

        Noise comes after a hop, so that layer 0 and the first hop are those of the clean view.
        """
        total = layer = layers[0][:, : self.width].repeat(1, 2)
        for number in range(1, len(layers)):
            layer = layers[1][:, : self.width].repeat(1, 2) if number == 1 else propagate(self.current_graph(), layer)
            layer = self.perturbed(layer, self.uniform(layer, step_seed, number))
            total = total + layer
        return total

    def uniform(self, like: Tensor, step_seed: Tensor, layer: int) -> Tensor:
        """The noise of a layer before it is scaled."""
        generator = step_generator(step_seed, f"perturbation {layer}", like.device)
        return torch.rand(like.shape, generator=generator, device=like.device)

    def perturbed(self, hop: Tensor, uniform: Tensor) -> Tensor:
        """``h + noise * sign(h) * r / |r|``, both ``[U + I, n d]``, in each block of d columns."""
        hop, uniform = (x.unflatten(1, (-1, self.config.hidden_size)) for x in (hop, uniform))
        return moved(hop, self.config.noise, uniform).flatten(1)

    def views(self, nodes: Tensor, *columns: slice) -> list[View]:
        """Columns of ``[U + I, n d]`` as views whose items have what comes over the item graph (or graphs) added."""
        users, items = self.split(nodes)
        depth = self.config.num_item_layers
        brought = [propagate_layers(graph, items, depth, "last") for graph in self.item_graphs]  # [I, n d]
        views = []
        for part in columns:
            own, item, *similar = (x[:, part] for x in (users, items, *brought))
            item = self.with_similar(item, similar)
            views.append(View(own.repeat(1, item.shape[1] // own.shape[1]), item))
        return views

    def with_similar(self, items: Tensor, similar: list[Tensor]) -> Tensor:
        """``[I, w]`` plus its hop over the one graph, or ``[I, M d]`` plus attention over those of the M graphs."""
        if self.config.item_fusion == "weighted":
            return items + similar[0]
        tokens = torch.stack([items, *similar], 1)  # [I, 1 + M, w]
        tokens = tokens.repeat(1, 1, self.width // items.shape[1])  # [I, 1 + M, M d]
        return tokens[:, 0] + self.item_attention(tokens[:, 1:])

    def fused(self, view: View) -> View:
        """Weighs the modalities ``[M d]`` of each user."""
        blocks = view.users.unflatten(1, (len(self.modalities), -1))  # [U, M, d]
        return View((blocks * self.modal_weight.weight[:, :, None]).flatten(1), view.items)

    # -- losses -------------------------------------------------------------------------------------------------------

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        config, seed, d = self.config, batch["step_seed"], self.config.hidden_size
        layers = self.layers(self.layer0(self.has_ids))
        aligned = range(0, layers[0].shape[1], d) if self.levels else ()
        whole, *single = self.views(
            reduce(torch.add, layers), slice(self.width), *(slice(start, start + d) for start in aligned)
        )
        fused = self.fused(whole)
        rows = self.rows(batch, *fused)  # [B, M d] each

        def alignment() -> dict[str, Tensor]:
            return {f"align_{level}": distance for level, distance in self.alignment(fused, single).items()}

        def noise() -> dict[str, Tensor]:
            two = self.views(self.noisy(layers, seed), slice(self.width), slice(self.width, None))
            return self.perturbation(*(self.fused(view) for view in two))

        return weighted_sum(
            {
                "bpr": (config.bpr_weight, lambda: bpr_of_rows(*rows)),
                "norm": (config.regularization, lambda: self.norm(batch["user"])),
                "alignment": (config.alignment if self.levels else 0.0, alignment),
                "masking": (config.feature_masking, lambda: self.masking(fused, seed)),
                "noise": (config.graph_perturbation, noise),
            }
        )

    def norm(self, user: Tensor) -> Tensor:
        """Mean squares of the batch's preferences in each modality, added up, and of all modality weights."""
        branches: Any = self.branches.values()
        penalties = [branch.penalty(user) for branch in branches]  # M scalars
        return torch.stack(penalties).sum() + self.modal_weight.weight.square().mean()

    def alignment(self, fused: View, single: list[View]) -> dict[int, Tensor]:
        """Level -> the sum of its distances; ``single`` holds the modalities, then the ids (if needed)."""
        whole, *each = (self.moments(view) for view in (fused, *single))
        modal, ids = each[: len(self.modalities)], each[len(self.modalities) :]
        pairs = {
            1: [(one, whole) for one in ids],
            2: [(one, other) for one in ids for other in modal],
            3: [(whole, other) for other in modal],
            4: list(combinations(modal, 2)),
        }
        distances = {level: [(a - b).abs().mean(1).sum() for a, b in pairs[level]] for level in self.levels}
        return {level: torch.stack(parts).sum() for level, parts in distances.items()}

    def moments(self, view: View) -> Tensor:
        """Mean and spread ``[2, 1]`` of all entries, or ``[2, M d]`` of the columns."""
        nodes = torch.cat(view)  # [U + I, w]
        copies = self.width // nodes.shape[1]
        if self.config.align_axis == "column":
            spread, mean = (x.repeat(copies) for x in torch.var_mean(nodes, 0))  # [M d]
        else:  # unbiased, of all copies: their sum of squares over (copies * entries - 1)
            spread, mean = (x[None] for x in torch.var_mean(nodes, correction=1 / copies))
        return torch.stack([mean, spread.sqrt() if self.config.align_statistic == "std" else spread])

    def masking(self, fused: View, step_seed: Tensor) -> dict[str, Tensor]:
        """1 - mean cosine of what is predicted from the whole view and the masked one, for users and for items."""
        p = self.config.mask_dropout
        return {
            f"masking_{name}": cosine_loss(
                self.predictor(table), dropout_table(table.detach(), p, step_seed, f"mask {name}")
            )
            for name, table in fused._asdict().items()
        }

    def perturbation(self, first: View, second: View) -> dict[str, Tensor]:
        """InfoNCE of two noisy views, for users and for items."""
        width = self.width if self.config.perturbation_views == "fused" else self.config.hidden_size
        losses = {}
        for name, *tables in zip(View._fields, first, second, strict=True):
            blocks = zip(*(table.split(width, 1) for table in tables), strict=True)
            parts = [
                info_nce(rank_share(a), rank_share(b), self.config.temperature, candidates=b) for a, b in blocks
            ]  # anchors are dealt out, each meets all rows
            losses[f"noise_{name}"] = torch.stack(parts).sum()
        return losses
