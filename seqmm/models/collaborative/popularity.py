"""Popularity: every user is shown the items with the most train interactions. The floor of every table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.models.base import RecommenderConfig
from seqmm.models.collaborative.base import CountingRecommender
from seqmm.registry import register


class PopularityConfig(RecommenderConfig):
    """Nothing to choose."""

    model_type = "popularity"


@register
class Popularity(CountingRecommender):
    """Shows everyone the items with the most train interactions.

    Needs interactions alone; nothing is trained.
    """

    config_class = PopularityConfig
    config: PopularityConfig
    paper = None

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.counts = torch.from_numpy(np.bincount(corpus.splits["train"].item, minlength=corpus.num_items)).float()
        return self

    def tables(self) -> dict[str, Tensor]:
        return {"items": self.counts[:, None].to(self.device)}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        return tables["items"].new_ones(len(batch["user"]), 1)
