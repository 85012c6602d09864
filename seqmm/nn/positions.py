"""Codes of row indices (USERec, IDFREE)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.names import PositionCode
from seqmm.random import derive_seed


def index_codes(num_rows: int, dim: int, kind: PositionCode, stream: str = "") -> Tensor:
    """``[num_rows, dim]`` float32 on the CPU: a fixed code of each row.

    Args:
        num_rows: coded are the indices 0 to ``num_rows - 1``.
        dim: width.
        kind: "sincos": ``sin(p w_j), cos(p w_j)`` interleaved, ``w_j = 10000 ** (-2j / dim)``; near indices have near
            codes. "random": normal rows of the same length, sqrt(dim / 2): tells rows apart as well and says nothing
            of the index. "none": zeros.
        stream: names the draw of "random".
    """
    if kind == "none":
        return torch.zeros(num_rows, dim)
    if kind == "random":
        generator = torch.Generator().manual_seed(derive_seed("index codes", stream))
        return F.normalize(torch.randn(num_rows, dim, generator=generator), dim=1) * (dim / 2) ** 0.5
    # in float64: a float32 angle is off by 1.6e-3 at row 19,400
    rate = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(num_rows, dtype=torch.float64)[:, None] * rate  # [num_rows, ceil(dim / 2)]
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :dim].float()
