"""Fusion of several vectors of one item."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmm.names import Fuse


class Fusion(nn.Module):
    """``num_sources`` vectors of width d to one: their sum, a linear map of their concatenation, or a gated sum.

    The gate is ``softmax_s(w . x_s)``. One source passes through unchanged, without parameters.
    """

    def __init__(self, how: Fuse, num_sources: int, hidden_size: int):
        super().__init__()
        self.how = how if num_sources > 1 else "sum"
        if self.how == "concat":
            self.linear = nn.Linear(num_sources * hidden_size, hidden_size)
        elif self.how == "gate":
            self.gate = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, sources: list[Tensor]) -> Tensor:
        """``[n, d]`` each ``-> [n, d]``."""
        if self.how == "concat":
            return self.linear(torch.cat(sources, dim=-1))
        stacked = torch.stack(sources, dim=-2)  # [n, S, d]
        if self.how == "gate":
            stacked = self.gate(stacked).softmax(dim=-2) * stacked
        return stacked.sum(dim=-2)
