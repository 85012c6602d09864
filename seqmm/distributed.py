"""The one rule that makes 1 process = N processes: on every rank the loss is the loss of the GLOBAL batch.

Ranks hold different rows of a batch and the same parameters. A row mean, a norm over the batch or in-batch negatives
go through the differentiable collectives below, so each rank ends with the same loss value; DDP then averages
gradients that sum to ``world`` times the right one. Terms over full tables need nothing: every rank computes the same.
With one process each function returns its input. (torch's functional collectives: backward of a sum is a sum.)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def on_cpu() -> bool:
    """For ``Accelerator(cpu=…)``: processes that accelerate starts on a machine without a GPU are not told so."""
    return not torch.accelerator.is_available()


def device_for_products() -> torch.device:
    """Where large products are computed that belong to no model: this process' accelerator, unless it is told not to.

    MPS is left out: its top-k and precision are others.
    """
    told = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes", "on", "y", "t")
    found = None if on_cpu() or told else torch.accelerator.current_accelerator()
    if found is None or found.type == "mps":
        return torch.device("cpu")
    return torch.device(found.type, torch.accelerator.current_device_index())


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _Sum(torch.autograd.Function):
    """Sum over ranks in both directions: the gradient of a replicated loss with respect to this rank's share."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = x.detach().clone().contiguous()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone().contiguous()
        dist.all_reduce(gradient)
        return gradient


def sum_over_ranks(x: Tensor) -> Tensor:
    """Differentiable sum of ``x`` (any shape, equal on all ranks) over ranks."""
    return x if world_size() == 1 else _Sum.apply(x)


def _row_counts(x: Tensor) -> list[int]:
    counts = torch.zeros(world_size(), dtype=torch.int64, device=x.device)
    counts[rank()] = x.shape[0]
    dist.all_reduce(counts)
    return counts.tolist()


def rows_before(x: Tensor) -> int:
    """Where this rank's rows start in ``gather_rows(x)``."""
    return sum(_row_counts(x)[: rank()]) if world_size() > 1 else 0


def gather_rows(x: Tensor) -> Tensor:
    """Rows of all ranks, ``[n_local, ...] -> [n_global, ...]`` in rank order, with gradients; sizes may differ."""
    if world_size() == 1:
        return x
    counts = _row_counts(x)
    start = sum(counts[: rank()])
    whole = x.new_zeros((sum(counts), *x.shape[1:]))
    if x.dtype.is_floating_point:
        index = torch.arange(start, start + x.shape[0], device=x.device)
        return sum_over_ranks(whole.index_copy(0, index, x))
    integers = whole.to(torch.int64)
    integers[start : start + x.shape[0]] = x.to(torch.int64)
    dist.all_reduce(integers)
    return integers.to(x.dtype)


def unique_over_ranks(ids: Tensor) -> Tensor:
    """The distinct ids ``[n]`` of the global batch, ascending, on every rank."""
    return torch.unique(gather_rows(ids))


def rank_share(rows: Tensor) -> Tensor:
    """This rank's part of rows that all ranks have: work on the distinct ids of a batch, divided; may be empty."""
    return rows.tensor_split(world_size())[rank()]


def mean_over_ranks(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the rows (or the masked-in entries) of the global batch.

    Args:
        values: ``[B, ...]`` per-row values of this rank; may be empty.
        mask: optional bool tensor of the same shape; only True entries count.

    Raises:
        ValueError: if no rank has an entry (a batch without targets is a bug of the collator).
    """
    if mask is not None:
        values = values[mask]
    count = torch.full((), float(values.numel()), device=values.device)  # torch.tensor would wait for a GPU
    if world_size() > 1:
        dist.all_reduce(count)
    if world_size() == 1 and values.numel() == 0:
        raise ValueError("the batch has no target: a mean over zero entries is undefined")
    return sum_over_ranks(values.to(torch.promote_types(values.dtype, torch.float32)).sum()) / count


@contextmanager
def placed(model: torch.nn.Module, device: Any) -> Iterator[None]:
    """The model on a device for a while, then again where it was."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    before = next((tensor.device for tensor in tensors), None)
    try:
        model.to(device)
        yield
    finally:
        if before is not None:
            model.to(before)
