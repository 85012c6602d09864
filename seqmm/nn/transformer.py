"""The causal transformer of the sequential models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TransformerLayer(nn.Module):
    """Post-norm self-attention and feed-forward, as in BERT and RecBole's SASRec.

    The key projection has no bias: it would shift all logits of a query alike, which a softmax does not see.
    """

    def __init__(self, hidden_size: int, num_heads: int, inner_size: int, dropout: float, attention_dropout: float):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size} is not a multiple of num_heads {num_heads}")
        self.heads = (num_heads, hidden_size // num_heads)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.inner = nn.Linear(hidden_size, inner_size)
        self.outer = nn.Linear(inner_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout, self.attention_dropout = dropout, attention_dropout

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, d] -> [B, L, d]``."""
        q, k, v = (
            project(x).unflatten(-1, self.heads).transpose(1, 2)  # [B, heads, L, d / heads]
            for project in (self.query, self.key, self.value)
        )
        attention = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=self.attention_dropout if self.training else 0.0
        )
        x = self.attention_norm(x + self._drop(self.output(attention.transpose(1, 2).flatten(-2))))
        return self.norm(x + self._drop(self.outer(F.gelu(self.inner(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class CausalTransformer(nn.Module):
    """Learned positions, LayerNorm, dropout, then layers that see the past only.

    Sequences are right-padded: under a causal mask no real position sees padding, so no padding mask is needed and
    the fast attention kernels apply. Outputs at padded positions mean nothing.

    Args:
        hidden_size: d.
        max_length: positions.
        num_layers: layers.
        num_heads: attention heads.
        inner_size: width inside the feed-forward part.
        dropout: after the input's LayerNorm and in each residual branch.
        attention_dropout: on the attention weights.
    """

    def __init__(
        self,
        hidden_size: int,
        max_length: int,
        *,
        num_layers: int = 2,
        num_heads: int = 2,
        inner_size: int = 256,
        dropout: float = 0.2,
        attention_dropout: float = 0.2,
    ):
        super().__init__()
        self.position = nn.Embedding(max_length, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_size, num_heads, inner_size, dropout, attention_dropout) for _ in range(num_layers)
        )
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, d] -> [B, L, d]``, L <= max_length."""
        x = self.norm(x + self.position.weight[: x.shape[1]])
        x = F.dropout(x, self.dropout, self.training)
        for layer in self.layers:
            x = layer(x)
        return x


def last_state(states: Tensor, mask: Tensor) -> Tensor:
    """``[B, d]``: of ``states [B, L, d]`` the one at the last real position; zeros for an empty row."""
    length = mask.sum(1)
    rows = torch.arange(len(states), device=states.device)
    return states[rows, (length - 1).clamp(min=0)] * (length > 0).unsqueeze(1)
