"""DA-MRS (on LightGCN). Xv et al., Improving Multi-modal Recommender Systems by Denoising and Aligning Multi-modal
Content and User Feedback, KDD 2024.

Denoising content: item graphs by modality keep only pairs that are similar in every modality; a behaviour graph joins
items with common users. Denoising feedback: BPR weighted by how much the item views agree on a positive; a pair they
all doubt is also trained the other way round. Aligning: user-item probabilities by behaviour and by content (symmetric
KL over all pairs of the batch's distinct users and items), and, for each view, its nearest items set apart: those all
views agree on from the rest, those only this view has from what remains.

Items are LightGCN's rows plus the mean of one hop over each item graph (the views). Formulas are those of the released
code; its projections and feature tables get no gradient and are not built. The distinct users and items are those of
the global batch. A view is a modality or behaviour, so with one modality there are two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.checks import check_count
from seqmm.data.corpus import Corpus
from seqmm.distributed import mean_over_ranks, rank_share, unique_over_ranks
from seqmm.graphs.build import behaviour_graph
from seqmm.graphs.kept import kept_denoised_knn_graphs
from seqmm.graphs.matrix import BLOCK_ELEMENTS, propagate_layers
from seqmm.losses import weighted_sum
from seqmm.models.collaborative.base import CPU, ContentGraphConfig, ContentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.nn.log_sum_exp import log_sum_exp
from seqmm.options import check_idle, option
from seqmm.registry import register


class DAMRSConfig(ContentGraphConfig):
    """The released code's settings."""

    model_type = "damrs"

    num_layers: int = option(2, "User-item propagation steps (released code).", least=0)
    # without a step an item would be its embedding twice
    num_item_layers: int = option(1, "Propagation steps over each item graph (released code).", least=1)
    num_neighbors: int = option(
        10, "Neighbours of an item in the content graphs (k; released code); a row may keep fewer.", least=1
    )
    num_behavior_neighbors: int = option(2, "Neighbours of an item in the behaviour graph (k; released code).", least=1)
    min_common_users: int = option(
        2, "Users two items must share to be neighbours in the behaviour graph (released code).", least=1
    )
    weighted: bool = option(True, "Whether BPR is weighted by the views' agreement.")
    alignment_weight: float = option(1.0, "Weight of the symmetric KL (released code).", least=0)
    discrimination_weight: float = option(1e-3, "Weight of the neighbour discrimination (released code).", least=0)
    num_discriminated: int = option(
        10, "Items in each of the neighbour discrimination's two sets (released code).", least=0
    )
    temperature: float = option(
        0.2, "Temperature of the neighbour discrimination's similarities (released code).", above=0
    )

    def check(self) -> None:
        super().check()
        check_idle(self, "content only builds graphs here", "train_features")


@register
class DAMRS(ContentGraphRecommender):
    """Denoises item graphs and feedback by what the modalities agree on, and aligns content with behaviour.

    Needs at least one set of vectors.
    """

    config_class = DAMRSConfig
    config: DAMRSConfig
    paper = Paper(
        title="Improving Multi-modal Recommender Systems by Denoising and Aligning Multi-modal Content and User "
        "Feedback",
        authors=("Xv", "others"),
        venue="KDD",
        year=2024,
    )

    def __init__(self, config: DAMRSConfig):
        super().__init__(config)
        self.make_ids()
        self.post_init()

    @property
    def reads_content(self) -> bool:
        return False

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        check_count("num_neighbors", self.config.num_neighbors, corpus.num_items)
        k, most = self.config.num_discriminated, corpus.num_items // 2
        if not 1 <= k <= most:
            raise ValueError(
                f"model.num_discriminated is {k}: so many items near in all views and as many others near in one alone "
                f"are taken out of {corpus.num_items}; choose 1 to {most}"
            )
        raw = [self.raw_features(name, CPU) for name in self.modalities]
        train, sizes = corpus.splits["train"], (corpus.num_users, corpus.num_items)
        common = (self.config.num_behavior_neighbors, self.config.min_common_users)
        self.item_graphs = [graph.normalised() for graph in kept_denoised_knn_graphs(raw, self.config.num_neighbors)]
        self.item_graphs.append(behaviour_graph(train.user, train.item, *sizes, *common))
        return self

    def parts(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """LightGCN's users ``[U, d]`` and items ``[I, d]``, and the items' views ``[I, d]``, behaviour last."""
        layer0 = self.ids()  # [U + I, d]
        users, items = self.split(propagate_layers(self.current_graph(), layer0, self.config.num_layers))
        depth = self.config.num_item_layers
        return users, items, [propagate_layers(graph, self.item.weight, depth, "last") for graph in self.item_graphs]

    def encode(self) -> tuple[Tensor, Tensor]:
        users, items, views = self.parts()
        return users, items + torch.stack(views).mean(0)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        config = self.config
        users, items, views = self.parts()
        content = torch.stack(views).mean(0)  # [I, d]
        seen = unique_over_ranks(torch.cat([batch["positive"], batch["negative"]]))  # [n]
        return weighted_sum(
            {
                "bpr": (1.0, lambda: self.weighted_bpr(batch, users, items + content, views)),
                "alignment": (
                    config.alignment_weight,
                    lambda: alignment(users, items, content, unique_over_ranks(batch["user"]), seen),
                ),
                "discrimination": (
                    config.discrimination_weight,
                    lambda: discrimination(views, seen, config.num_discriminated, config.temperature),
                ),
            }
        )

    def weighted_bpr(self, batch: Mapping[str, Tensor], users: Tensor, items: Tensor, views: list[Tensor]) -> Tensor:
        user, positive, negative = self.rows(batch, users, items)  # [B, d]
        margin = (user * positive).sum(-1) - (user * negative).sum(-1)
        if not self.config.weighted:
            return mean_over_ranks(F.softplus(-margin))
        likes, doubts = confidence(user.detach(), batch["positive"], batch["negative"], views)
        return mean_over_ranks(likes * F.softplus(-margin) + doubts * F.softplus(margin))


@torch.no_grad()
def confidence(user: Tensor, positive: Tensor, negative: Tensor, views: list[Tensor]) -> tuple[Tensor, Tensor]:
    """How sure the views are that a user likes, and that he does not like, the observed item: ``[B]`` in [0, 1] each.

    Likes: the mean probability, lowered by its variance over views. Does not: by how much the best view exceeds the
    sampled items' mean probability where the mean view is below it.
    """

    def probability(item: Tensor) -> Tensor:
        rows = torch.stack([F.normalize(F.embedding(item, view), dim=-1) for view in views])  # [V, B, d]
        return torch.sigmoid((user * rows).sum(-1))  # [V, B]

    observed, level = probability(positive), mean_over_ranks(probability(negative))
    mean = observed.mean(0)
    likes = mean * torch.exp(-2 * observed.var(0))
    return likes.clamp(0, 1), ((observed.amax(0) - level) * (mean < level)).clamp(0, 1)


def alignment(users: Tensor, items: Tensor, content: Tensor, user: Tensor, item: Tensor) -> Tensor:
    """Mean over ``user [u]`` x ``item [n]`` of the symmetric KL between two Bernoullis, by items and by content."""
    rows = F.embedding(rank_share(user), users)  # [u, d]: the pairs are divided by users
    with torch.autocast(rows.device.type, enabled=False):  # the better they agree, the more bf16 would lose
        units = [F.normalize(F.embedding(item, x), dim=1) for x in (items, content)]  # [n, d]
        by_items, by_content = (rows @ unit.T for unit in units)  # [u, n]
        # KL(p || q) + KL(q || p) = (p - q) (logit p - logit q)
        return mean_over_ranks((torch.sigmoid(by_items) - torch.sigmoid(by_content)) * (by_items - by_content))


def discrimination(views: list[Tensor], item: Tensor, k: int, temperature: float) -> Tensor:
    """Neighbour discrimination of the items ``[n]``, mean over them and over the views ``[I, d]`` each.

    ``-log(S_shared / S_all + 1e-9) - log(S_single / (S_all - S_shared) + 1e-9)``, S the sum over a set of
    ``exp(cos / t)`` in the view.
    """
    anchors, units = rank_share(item), [F.normalize(view, dim=1) for view in views]  # [a], [I, d]
    sets = nearest_sets([unit.detach() for unit in units], anchors, k)
    terms = []
    for unit, shared, single in zip(units, *sets, strict=True):
        own = F.embedding(anchors, unit)  # [a, d]
        everything = log_sum_exp(own, unit, 1 / temperature).exp()  # [a]
        cosines = ((own[:, None] * F.embedding(index, unit)).sum(-1) for index in (shared, single))  # [a, k]
        near, rest = (torch.exp(cosine / temperature).sum(1) for cosine in cosines)  # [a]
        terms.append(torch.log(near / everything + 1e-9) + torch.log(rest / (everything - near) + 1e-9))
    return -mean_over_ranks(torch.stack(terms))


@torch.no_grad()
def nearest_sets(units: list[Tensor], anchors: Tensor, k: int) -> tuple[list[Tensor], list[Tensor]]:
    """For each view ``[a, k]`` items near an anchor in all views, this one counted twice; then near in it alone.

    Nearness is the softmax over all items of the cosines, without temperature.
    """
    shared: list[list[Tensor]] = [[] for _ in units]
    single: list[list[Tensor]] = [[] for _ in units]
    with torch.autocast(anchors.device.type, enabled=False):
        for block in anchors.split(max(1, BLOCK_ELEMENTS // len(units[0]))):
            nearness = [(unit[block] @ unit.T).softmax(1) for unit in units]  # [block, I]
            total = torch.stack(nearness).sum(0)
            for view, own in enumerate(nearness):
                shared[view].append((total + own).topk(k).indices)
                single[view].append(own.scatter(1, shared[view][-1], -1.0).topk(k).indices)
    return [torch.cat(parts) for parts in shared], [torch.cat(parts) for parts in single]
