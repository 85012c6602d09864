"""PGL. Yu et al., Mind Individual Information! Principal Graph Learning for Multimedia Recommendation, AAAI 2025.

Items are their projected content, users one table a modality; there is no item table. The modalities' blocks are put
side by side and propagated over the user-item graph; items get one hop over FREEDOM's frozen item graph on top.
Training sees the graph's principal part alone, scoring the whole graph:

- ``local``: a degree-sensitive sample of the edges, drawn anew each epoch (FREEDOM's pruning, ``edge_keep``);
- ``global``: a truncated singular value decomposition of the normalised graph, :func:`principal_graph`.

The loss is BPR plus, weighted by lambda / 2, InfoNCE between two dropouts of the batch's users and of its positive
items.

Several modalities are several blocks, one is one. Implemented as released (MMRec's form): binary kNN graphs whose every
entry is 1/k, and a decomposition that weighs its leading directions by products of a large and a small singular value.
Without InfoNCE's dropout the two views of a row are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.matrix import BLOCK_ELEMENTS, Graph, propagate_layers
from seqmm.losses import bpr_of_rows, dropout_info_nce, weighted_sum
from seqmm.models.collaborative.base import ItemGraphConfig, ItemGraphRecommender
from seqmm.models.paper import Paper
from seqmm.options import OptionError, check_idle, option
from seqmm.registry import register


class PGLConfig(ItemGraphConfig):
    """Of the released code and its logs."""

    model_type = "pgl"

    num_layers: int = option(2, "User-item propagation steps.", least=0)
    principal: Literal["local", "global"] = option(
        "local", "Part of the user-item graph that an epoch trains on: sampled edges, or its truncated decomposition."
    )
    edge_keep: float = option(
        0.3, "Share of the edges that local samples (fixed in the released code); 1 = the whole graph.", above=0, most=1
    )
    rank: int = option(
        64, "Singular triplets that global decomposes into; they come in pairs, and a quarter of them is kept.", least=8
    )
    contrast_weight: float = option(
        0.05, "Weight of InfoNCE (lambda); authors' logs: Baby 0.05, Sports 0.1, Clothing 0.5.", least=0
    )
    temperature: float = option(0.2, "Temperature of the InfoNCE.", above=0)
    dropout: float = option(
        0.2,
        "Dropout of the batch's rows before the InfoNCE; authors' logs: Baby 0.2, Sports 0.05, Clothing 0.1.",
        least=0,
        below=1,
    )
    train_features: bool = option(
        True, "Whether the raw feature tables are parameters that start as the features (released code)."
    )

    def check(self) -> None:
        super().check()
        if self.rank % 8:
            problem = f" is {self.rank}; triplets come in pairs and a quarter is kept: choose a multiple of 8"
            raise OptionError(type(self).__name__, "rank", problem)
        if self.principal == "global":
            check_idle(self, "principal global samples no edges", "edge_keep")


@register
class PGL(ItemGraphRecommender):
    """Trains on the principal part of the interaction graph alone and scores with all of it.

    Needs at least one set of vectors: items have no table of their own.
    """

    config_class = PGLConfig
    config: PGLConfig
    paper = Paper(
        title="Mind Individual Information! Principal Graph Learning for Multimedia Recommendation",
        authors=("Yu", "others"),
        venue="AAAI",
        year=2025,
    )

    def __init__(self, config: PGLConfig):
        super().__init__(config)
        self.user = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(config.num_users, config.hidden_size)) for name in self.modalities}
        )
        self.project = self.linear_maps(config.hidden_size)
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        if self.config.principal == "global":
            self.training_graph = principal_graph(self.graph, self.config.num_users, self.config.rank)
        return self

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        if self.config.principal == "local":
            super().on_stage_start(stage, epoch, generator)

    def encode(self) -> tuple[Tensor, Tensor]:
        users = torch.cat([self.user[name] for name in self.modalities], -1)  # [U, M d]
        content = [F.normalize(self.project[name](self.features(name)), dim=-1) for name in self.modalities]
        items = torch.cat(content, -1)  # [I, M d]
        nodes = propagate_layers(self.current_graph(), torch.cat([users, items]), self.config.num_layers)
        users, graph_items = self.split(nodes)
        return users, self.with_similar(graph_items, items)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        c, rows = self.config, self.rows(batch, *self.encode())  # [B, M d] each
        contrasted = {"user": rows[0], "item": rows[1]}
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows)),
                "contrast": (
                    c.contrast_weight / 2,
                    lambda: dropout_info_nce(contrasted, c.dropout, c.temperature, batch["row_seed"], ("a", "b")),
                ),
            }
        )


def principal_graph(graph: Graph, num_users: int, rank: int, threshold: float = 1e-3) -> Graph:
    """PGL's global graph: the leading part of a truncated singular value decomposition, its small entries dropped.

    ``U_q diag(s_1 s_{r-q+1}, …, s_q s_r) V_q^T`` of the ``r = rank`` largest singular values and ``q = r / 4``. Those
    of ``[[0, R], [R^T, 0]]`` are those of R twice, with vectors that add up to R's in the two off-diagonal blocks, so
    ``r / 2`` triplets of R give the same matrix for less work. On Baby 157,765 pairs are left (118,551 train edges), on
    Clothing 95,571 (197,338). The solver's start is fixed: the same corpus gives the same graph, also where singular
    values coincide (every connected component has a 1).

    Args:
        graph: normalised and bipartite, users first.
        num_users: U.
        rank: r, a multiple of 8; a smaller graph lowers it.
        threshold: entries of smaller magnitude become zero.
    """
    import scipy.sparse
    from scipy.sparse.linalg import svds

    shape = (num_users, graph.shape[0] - num_users)
    user, item = graph.edge_index.numpy()
    matrix = scipy.sparse.csr_array((graph.edge_weight.double().numpy(), (user, item - num_users)), shape=shape)
    half = min(rank // 2, min(shape) - 1)
    left, values, right = svds(matrix, k=half, v0=np.ones(min(shape)))  # [U, r / 2], ascending, [r / 2, I]
    order = np.argsort(-values)
    kept = max(1, half // 4)
    top, bottom = order[:kept], order[half - kept :]
    left, right = left[:, top] * values[top] * values[bottom], right[top].T  # [U, q / 2], [I, q / 2]
    # |x_ui| <= |left_u| |right_i|: only a user's pairs with the longest items can reach the threshold (Baby: 0.7 %)
    length = np.linalg.norm(right, axis=1)
    longest = np.argsort(-length, kind="stable")
    shortest = threshold / np.maximum(np.linalg.norm(left, axis=1), np.finfo(left.dtype).tiny)
    reach = np.searchsorted(-length[longest], -shortest, side="right")  # [U] items to try
    cuts = np.flatnonzero(np.diff(reach.cumsum() // (BLOCK_ELEMENTS // kept))) + 1
    edges, weights = [], []
    for block in np.split(np.arange(num_users), cuts):
        row = np.repeat(block, reach[block])
        column = longest[np.arange(len(row)) - np.repeat(reach[block].cumsum() - reach[block], reach[block])]
        entry = np.einsum("pq,pq->p", left[row], right[column])
        keep = np.abs(entry) >= threshold
        edges.append(np.stack([row[keep], column[keep] + num_users]))
        weights.append(entry[keep])
    weight = torch.from_numpy(np.concatenate(weights)).float()
    return Graph(torch.from_numpy(np.concatenate(edges, 1)), weight, graph.shape, undirected=True)
