"""Attention pooling of an item's vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init

from seqmm.nn.features import FeatureTable


class AttentionPooling(nn.Module):
    """Weighs an item's vectors and sums them: ``a = softmax_j(x_j W1 w2)``, ``e = sum_j a_j x_j`` (MSM4SR eq. 2-3).

    Two linear maps without a non-linearity, so their product is taken first: one matrix-vector product over the rows
    instead of a ``[N, d] x [d, h]`` matrix product. The paper's two biases shift all logits of an item alike, which a
    softmax does not see; they would never get a gradient and are not built. Items without a vector pool to zero.

    Args:
        dim: width of the vectors.
        hidden_size: inner width h.
    """

    def __init__(self, dim: int, hidden_size: int):
        super().__init__()
        self.inner = nn.Parameter(torch.empty(hidden_size, dim))
        self.outer = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """nn.Linear's default, as the official code leaves these two maps."""
        init.kaiming_uniform_(self.inner, a=math.sqrt(5))
        bound = 1 / math.sqrt(len(self.outer))
        init.uniform_(self.outer, -bound, bound)

    def forward(self, table: FeatureTable, items: Tensor | None = None) -> Tensor:
        """Pools the requested items only.

        Args:
            table: ragged vectors.
            items: ``[n]`` item ids; None = all.

        Returns:
            ``[n, dim]`` float32.
        """
        values, offsets = table.on(self.inner.device)
        direction = self.outer @ self.inner  # [dim]
        if items is None:
            rows, chosen = torch.arange(len(values), device=values.device), values
        else:
            rows, offsets = table.rows(items)
            chosen = values[rows]  # [M, dim]
        weight = ragged_softmax((chosen @ direction.to(values.dtype)).float(), offsets)  # [M]
        return F.embedding_bag(rows, values, offsets, mode="sum", per_sample_weights=weight, include_last_offset=True)


def ragged_softmax(logits: Tensor, offsets: Tensor) -> Tensor:
    """Softmax of ``logits [M]`` within each of the ``n`` rows that ``offsets [n + 1]`` cut."""
    num_rows = len(offsets) - 1
    row = torch.repeat_interleave(torch.arange(num_rows, device=logits.device), offsets.diff(), output_size=len(logits))
    top = logits.new_full((num_rows,), -torch.inf).scatter_reduce(0, row, logits.detach(), "amax")
    weight = torch.exp(logits - top[row])
    return weight / weight.new_zeros(num_rows).index_add(0, row, weight)[row]
