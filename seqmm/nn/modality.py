"""Small parts by which models weigh and map modalities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ModalAttention(nn.Module):
    """``a = softmax_m(w . tanh(W x_m + b))``, one query for all modalities (MGCN, MICRO, SOIL).

    Args:
        hidden_size: width of the vectors.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.inner = nn.Linear(hidden_size, hidden_size)
        self.outer = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """``[n, d]`` of each modality ``->`` their weighted sum ``[n, d]`` and the weights ``[n, M, 1]``."""
        stacked = torch.stack(list(vectors), dim=1)  # [n, M, d]
        weight = self.outer(torch.tanh(self.inner(stacked))).softmax(1)  # [n, M, 1]
        return (weight * stacked).sum(1), weight


class Gate(nn.Module):
    """``x * sigmoid(W by + b)`` (MGCN's behaviour-guided purifier).

    Args:
        hidden_size: width of both.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, by: Tensor) -> Tensor:
        return x * torch.sigmoid(self.linear(by))


def two_layers(dim: int, inner: int, hidden_size: int) -> nn.Sequential:
    """``W2 LeakyReLU(W1 x + b1) + b2``, slope 0.01: the projector of MMGCN's descendants (DualGNN, DRAGON, MENTOR)."""
    return nn.Sequential(nn.Linear(dim, inner), nn.LeakyReLU(), nn.Linear(inner, hidden_size))
