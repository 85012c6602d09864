"""NGCF's propagation layers, for NGCF itself and for models that use it as their backbone (LATTICE, MICRO)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.graphs.matrix import Graph, propagate
from seqmm.nn.noise import dropout_table


class BiInteraction(nn.Module):
    """``x' = LeakyReLU(W1 side + b1) + LeakyReLU(W2 (x * side) + b2)`` with ``side = A x``, layer after layer.

    Args:
        sizes: widths, the input's first.
        slope: of LeakyReLU below 0.
        joint: one LeakyReLU over the sum, as in NGCF's eq. 7; the second bias would repeat the first and is not built.
    """

    def __init__(self, sizes: Sequence[int], slope: float = 0.01, joint: bool = False):
        super().__init__()
        pairs = list(zip(sizes, sizes[1:], strict=False))
        self.sums = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.products = nn.ModuleList(nn.Linear(a, b, bias=not joint) for a, b in pairs)
        self.slope, self.joint = slope, joint

    def forward(self, graph: Graph, x: Tensor, dropout: float = 0.0, step_seed: Tensor | None = None) -> list[Tensor]:
        """``[N, sizes[0]]`` to the outputs of all layers: x, then the L2-normalised ``[N, sizes[l]]``.

        The un-normalised rows feed the next layer; ``dropout`` acts on them where there is a ``step_seed``.
        """
        outputs = [x]
        for number, (linear, product) in enumerate(zip(self.sums, self.products, strict=True)):
            side = propagate(graph, x)  # [N, sizes[l]]
            summed, multiplied = linear(side), product(x * side)  # [N, sizes[l + 1]]
            if self.joint:
                x = F.leaky_relu(summed + multiplied, self.slope)
            else:
                x = F.leaky_relu(summed, self.slope) + F.leaky_relu(multiplied, self.slope)
            if step_seed is not None:
                x = dropout_table(x, dropout, step_seed, f"message_dropout.{number}")
            outputs.append(F.normalize(x, dim=1))
        return outputs
