"""Dropout whose masks do not depend on the number of processes."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmm.random import step_generator, torch_uniform


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
    uniform = torch.rand(x.shape, generator=step_generator(step_seed, stream, x.device), device=x.device)
    return x * (uniform >= p) / (1 - p)


def dropout_rows(x: Tensor, p: float, row_seed: Tensor, stream: str) -> Tensor:
    """Inverted dropout of this rank's rows ``[B, d]``; a row's mask is a function of its ``row_seed [B]``."""
    if p == 0:
        return x
    uniform = torch_uniform(stream, row_seed[:, None], torch.arange(x.shape[1], device=x.device))
    return x * (uniform >= p) / (1 - p)
