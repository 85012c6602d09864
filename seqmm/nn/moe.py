"""Mixture-of-experts adaptor from a frozen encoder's space into the recommender's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init


class MoEAdaptor(nn.Module):
    """``z = sum_k g_k LN(Dropout(e W_k + c_k))``, ``g = softmax(e W_g)`` (MSM4SR eq. 4; UniSRec without gate noise).

    All experts are one matrix product. The gate starts at zero: uniform weights at first, as in the official code.

    Args:
        dim: width of the input.
        hidden_size: width of the output.
        num_experts: K.
        dropout: on each expert's output, before its LayerNorm.
    """

    def __init__(self, dim: int, hidden_size: int, num_experts: int = 8, dropout: float = 0.2):
        super().__init__()
        self.shape = (num_experts, hidden_size)
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(num_experts * hidden_size, dim))
        self.bias = nn.Parameter(torch.empty(num_experts * hidden_size))
        self.gate = nn.Parameter(torch.empty(num_experts, dim))
        self.norm_weight = nn.Parameter(torch.empty(self.shape))
        self.norm_bias = nn.Parameter(torch.empty(self.shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Experts N(0, .02) with nn.Linear's default bias, gate zero, LayerNorm 1 and 0 (official code)."""
        init.normal_(self.weight, std=0.02)
        bound = 1 / math.sqrt(self.weight.shape[1])
        init.uniform_(self.bias, -bound, bound)
        init.zeros_(self.gate)
        init.ones_(self.norm_weight)
        init.zeros_(self.norm_bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, dim] -> [n, hidden_size]``."""
        experts = F.linear(x, self.weight, self.bias).unflatten(-1, self.shape)  # [n, K, d]
        experts = F.dropout(experts, self.dropout, self.training)
        experts = F.layer_norm(experts, self.shape[1:], eps=1e-12) * self.norm_weight + self.norm_bias
        gate = F.linear(x, self.gate).softmax(-1)  # [n, K]
        return torch.einsum("nk,nkd->nd", gate.to(experts.dtype), experts)
