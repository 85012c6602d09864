"""The critic of an adversarial recommender (WGAN-GP)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.distributed import mean_over_ranks
from seqmm.names import CriticNorm, CriticOutput
from seqmm.nn.noise import dropout_rows


class Critic(nn.Module):
    """Scores rows of interactions: width, a quarter, an eighth, 1. Dropout is always on, a function of the row's seed.

    Args:
        width: of the rows.
        dropout: after each of the two hidden layers.
        slope: of LeakyReLU below 0.
        norm: after each hidden layer; "batch" mixes this process's rows.
        output: "linear", or "sigmoid" times 100.
    """

    def __init__(
        self,
        width: int,
        dropout: Sequence[float],
        slope: float,
        norm: CriticNorm,
        output: CriticOutput,
    ):
        super().__init__()
        self.dropout, self.slope, self.output = tuple(dropout), slope, output
        sizes = [width, max(1, width // 4), max(1, width // 8)]
        self.linear = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
        self.norm = nn.ModuleList(_norm(norm, size) for size in sizes[1:])
        self.outer = nn.Linear(sizes[-1], 1, bias=output == "sigmoid")  # else it cancels in differences

    def forward(self, x: Tensor, row_seed: Tensor, stream: str) -> Tensor:
        """``[n, width] -> [n]``; ``row_seed [n]`` and ``stream`` decide what is dropped."""
        with torch.autocast(x.device.type, enabled=False):  # a penalty on gradients needs their digits
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            for number, p in enumerate(self.dropout):
                x = self.norm[number](F.leaky_relu(self.linear[number](x), self.slope))
                x = dropout_rows(x, p, row_seed, f"{stream} {number}")
            score = self.outer(x).squeeze(-1)
            return 100 * torch.sigmoid(score) if self.output == "sigmoid" else score

    def losses(
        self, fake: Tensor, real: Tensor, seed: Tensor, real_seed: Tensor, mix: Tensor, penalty_weight: float
    ) -> dict[str, Tensor]:
        """WGAN-GP: ``mean D(fake) - mean D(real) + penalty_weight * mean (|g_k| - 1)^2``.

        ``g_k`` is row k of the gradient of ``sum_j D(x_j)`` by all x, ``x = mix * real + (1 - mix) * fake``.

        Args:
            fake: ``[M B, width]``, with seeds ``[M B]``.
            real: ``[B, width]``, with seeds ``[B]``; each B of the fake rows are mixed with the same.
            mix: ``[M B]`` in [0, 1].
            penalty_weight: of the gradient penalty.

        Returns:
            ``loss`` and its parts ``fake``, ``real``, ``penalty``.
        """
        repeated = real.repeat(len(fake) // max(1, len(real)), 1)  # [M B, width]
        between = torch.lerp(fake, repeated, mix[:, None].to(fake.dtype)).requires_grad_()
        scores = self(between, seed, "between")
        (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        penalty = mean_over_ranks((torch.linalg.vector_norm(gradient, dim=-1) - 1).square())
        of_fake = mean_over_ranks(self(fake, seed, "fake"))
        of_real = mean_over_ranks(self(real, real_seed, "real"))
        loss = of_fake - of_real + penalty_weight * penalty
        return {"loss": loss, "fake": of_fake, "real": of_real, "penalty": penalty}


def _norm(kind: str, size: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(size, track_running_stats=False)
    return nn.LayerNorm(size, elementwise_affine=False) if kind == "layer" else nn.Identity()
