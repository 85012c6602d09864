"""Dropout and noise whose draws do not depend on the number of processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.random import step_generator, torch_uniform

BLOCK_ELEMENTS = 1 << 16
"""Draws at a time on the CPU, so that the hash stays in the cache: 1,024 x 6,710 take 82 ms (all at once: 663)."""


def dropout_table(x: Tensor, p: float, step_seed: Tensor, stream: str) -> Tensor:
    """Inverted dropout of a full table ``[n, d]``, the same on all ranks.

    Args:
        x: equal on all ranks.
        p: share of entries that become 0; 0 returns x.
        step_seed: of the batch.
        stream: names the draw.
    """
    if p == 0:
        return x
    _check(p, stream)
    uniform = torch.rand(x.shape, generator=step_generator(step_seed, stream, x.device), device=x.device)
    return x * (uniform >= p) / (1 - p)


def dropout_rows(x: Tensor, p: float, row_seed: Tensor, stream: str) -> Tensor:
    """Inverted dropout of this rank's rows ``[B, d]``; a row's mask is a function of its ``row_seed [B]``."""
    if p == 0:
        return x
    _check(p, stream)
    return x * (uniform_rows(x.shape[1], row_seed, stream) >= p) / (1 - p)


def noisy_rows(x: Tensor, length: float, row_seed: Tensor, stream: str) -> Tensor:
    """:func:`moved` for this rank's rows ``[B, d]``; a row's noise is a function of its ``row_seed [B]``."""
    return moved(x, length, uniform_rows(x.shape[1], row_seed, stream))


def moved(x: Tensor, length: float, uniform: Tensor) -> Tensor:
    """SimGCL's noise: ``x`` plus a vector of fixed length within its own orthant, ``x + length sign(x) * u / |u|``.

    Args:
        x: ``[..., d]``.
        length: of what is added to every vector.
        uniform: u, draws in [0, 1) of the same shape.
    """
    noise = F.normalize(uniform.to(x.dtype), dim=-1)
    return x + noise.mul_(length).mul_(x.detach().sign())


def _check(p: float, stream: str) -> None:
    if not 0 <= p < 1:
        raise ValueError(f"dropout of {stream}: {p} of the entries cannot be dropped; choose at least 0 and below 1")


def uniform_rows(width: int, row_seed: Tensor, stream: str) -> Tensor:
    """``[B, width]`` uniform draws in [0, 1); a row's are a function of its ``row_seed [B]``."""
    step = max(1, BLOCK_ELEMENTS // width) if row_seed.device.type == "cpu" else max(1, len(row_seed))
    column = torch.arange(width, device=row_seed.device)
    return torch.cat([torch_uniform(stream, seed[:, None], column) for seed in row_seed.split(step)])
