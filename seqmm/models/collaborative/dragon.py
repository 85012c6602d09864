"""DRAGON. Zhou et al., Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation, ECAI 2023.

DualGNN's graph convolutions for each modality, but concatenated (attentive concatenation): items as they are, users
each part times the user's weight for it. Two homogeneous graphs enhance the pair: an item adds its neighbours in the
frozen item-item graph of raw content (FREEDOM's), a user its neighbours in the graph of users that share items
(DualGNN's). The loss is DualGNN's.

Differences: as DualGNN's from the code it descends from (scoring, neighbour lists, tables that nothing trains).
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmm.graphs.matrix import propagate
from seqmm.models.collaborative.base import ItemGraphConfig, ItemGraphRecommender
from seqmm.models.collaborative.dualgnn import DualGNN, DualGNNConfig
from seqmm.models.paper import Paper
from seqmm.registry import register


class DRAGONConfig(ItemGraphConfig, DualGNNConfig):
    """MMRec's yaml; lambda 1e-3 on Baby and Sports, 0.1 on Clothing; learning rate 1e-4."""

    model_type = "dragon"


@register
class DRAGON(ItemGraphRecommender, DualGNN):
    """Extends DualGNN: the modalities are concatenated and items add their neighbours by content.

    Needs at least one set of vectors.
    """

    config_class = DRAGONConfig
    config: DRAGONConfig
    paper = Paper(
        title="Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation",
        authors=("Zhou", "others"),
        venue="ECAI",
        year=2023,
        arxiv="2301.12097",
    )

    def encode(self) -> tuple[Tensor, Tensor]:
        users, items = (torch.cat(parts, dim=1) for parts in self.branches())  # [U, M d], [I, M d]
        return users + propagate(self.current_user_graph(), users), self.with_similar(items, items)
