"""Small parts by which models weigh and map modalities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.distributed import mean_over_ranks


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
        # not self.outer(...): a matrix-vector product rounds by the operands' alignment, so a loaded model would differ
        weight = (torch.tanh(self.inner(stacked)) * self.outer.weight).sum(-1, keepdim=True).softmax(1)  # [n, M, 1]
        return (weight * stacked).sum(1), weight


class CrossModalAttention(nn.Module):
    """Modalities of one node attend to each other; values are the vectors themselves, whole, in every head (MMSSL).

    Args:
        hidden_size: width of the vectors.
        num_heads: heads, a divisor of it.
    """

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.outer = nn.Linear(num_heads * hidden_size, hidden_size, bias=False)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """``[n, d]`` of each modality ``->`` the mean of their attended vectors ``[n, d]``."""
        x = torch.stack(list(vectors), 1)  # [n, M, d]
        query, key = (map(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for map in (self.query, self.key))
        weight = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)  # [n, heads, M, M]
        return self.outer((weight.mean(2) @ x).flatten(1))  # the mean over queries first: the rest is linear in it


class MeanLinear(nn.Linear):
    """A linear map of modalities' mean: what :class:`CrossModalAttention` is where all vectors of a node are the same.

    Args:
        hidden_size: width of the vectors.
    """

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, hidden_size, bias=False)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """``[n, d]`` of each modality ``-> [n, d]``."""
        return super().forward(torch.stack(list(vectors)).mean(0))


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


class PreferenceEncoder(nn.Module):
    """One modality's layer 0 of a user-item graph: ``norm([P; MLP(x)])`` (DualGNN, DRAGON, MENTOR, COHESION).

    Users enter by a table of preferences, items by their projected content; every row has length 1. Propagate it with
    ``propagate_layers(graph, encoder(x), num_layers, "sum")``.

    Args:
        num_users: rows of P.
        dim: width of the content.
        inner: width of the projector's hidden layer (256 in the released codes).
        hidden_size: width of the rows.
    """

    def __init__(self, num_users: int, dim: int, inner: int, hidden_size: int):
        super().__init__()
        self.preference = nn.Embedding(num_users, hidden_size)  # xavier-normal in the released codes
        self.project = two_layers(dim, inner, hidden_size)

    def forward(self, content: Tensor) -> Tensor:
        """``[I, dim] -> [U + I, d]``."""
        return self.nodes(self.project(content))

    def nodes(self, items: Tensor) -> Tensor:
        """``[I, d]`` projected content ``-> [U + I, d]``."""
        return F.normalize(torch.cat([self.preference.weight, items]), dim=-1)

    def penalty(self, user: Tensor) -> Tensor:
        """Mean square of the preferences of the batch's users ``[B]``."""
        return mean_over_ranks(self.preference(user).square().mean(-1))
