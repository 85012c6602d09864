"""Log-sum-exp of a product's rows, streamed: the ``[T, N]`` logits never exist as a whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PLAIN_ELEMENTS = 1 << 16
"""Up to this many logits (256 kB) one matmul and autograd do; above it streaming is faster, too (measured, d = 64)."""

BLOCK_ELEMENTS = 1 << 22
"""Logits per block of the streamed path: 16 MB in fp32."""


def log_sum_exp(
    query: Tensor, table: Tensor, scale: float = 1.0, bias: Callable[[slice], Tensor] | None = None
) -> Tensor:
    """``log sum_j exp(scale * query_i . table_j)`` for every row of ``query``, exact, without the ``[T, N]`` logits.

    Memory is O((T + N) d) plus one block, forward and backward (the backward recomputes). On the CPU it is two calls of
    flash attention: forward with the table as keys and values gives the log-sum-exp and the weighted mean of the table
    at once, which is the query's gradient; the table's gradient is attention with the roles swapped. Elsewhere, or
    should that private kernel be missing or wrong, it is a loop over blocks.

    Args:
        query: ``[T, d]`` float32 or float64.
        table: ``[N, d]`` of the same dtype, N > 0.
        scale: factor of the dot products, > 0.
        bias: gives ``[rows, N]`` terms to add to the scaled products of a slice of queries, made when a block needs
            them; -inf leaves a pair out. No gradient flows into it. Computed in blocks on every device.

    Returns:
        ``[T]``; -inf for a query with every pair left out.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, table = full_precision(query), full_precision(table)
        if bias is not None:
            return BlockLogSumExp.apply(query, table, scale, bias)
        if query.shape[0] * table.shape[0] <= PLAIN_ELEMENTS:
            return (scale * query @ table.T).logsumexp(-1)
        if query.device.type == "cpu" and _flash_is_right(query.dtype, query.shape[1]):
            return FlashLogSumExp.apply(query, table, scale)
        return BlockLogSumExp.apply(query, table, scale, None)


def full_precision(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class BlockLogSumExp(torch.autograd.Function):
    """Streams the log-sum-exp over blocks of rows and computes each block's logits again on the way back."""

    @staticmethod
    def forward(ctx, query: Tensor, table: Tensor, scale: float, bias: Callable[[slice], Tensor] | None) -> Tensor:
        ctx.scale, ctx.bias, ctx.step = scale, bias, max(1, BLOCK_ELEMENTS // table.shape[0])
        parts = [slice(start, start + ctx.step) for start in range(0, max(1, query.shape[0]), ctx.step)]
        result = torch.cat([_logits(query[part], table, scale, bias, part).logsumexp(-1) for part in parts])
        ctx.save_for_backward(query, table, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        query, table, result = ctx.saved_tensors
        d_query, d_table = torch.empty_like(query), torch.zeros_like(table)
        result = result.masked_fill(result.isneginf(), 0.0)  # no pair, no gradient
        for start in range(0, query.shape[0], ctx.step):
            part = slice(start, start + ctx.step)
            weight = _logits(query[part], table, ctx.scale, ctx.bias, part).sub_(result[part, None]).exp_()
            weight *= ctx.scale * gradient[part, None]  # [block, N]
            torch.mm(weight, table, out=d_query[part])
            d_table.addmm_(weight.T, query[part])
        return d_query, d_table, None, None


def _logits(query: Tensor, table: Tensor, scale: float, bias: Callable[[slice], Tensor] | None, part: slice) -> Tensor:
    logits = scale * query @ table.T
    return logits if bias is None else logits.add_(bias(part))


class FlashLogSumExp(torch.autograd.Function):
    """Reads the log-sum-exp off the processor's attention kernel, which forms it anyway."""

    @staticmethod
    def forward(ctx, query: Tensor, table: Tensor, scale: float) -> Tensor:
        mean, result = _flash(query, table, table, scale)
        ctx.save_for_backward(query, table, mean, result)
        ctx.scale = scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        query, table, mean, result = ctx.saved_tensors
        weighted = ctx.scale * gradient[:, None] * query  # [T, d]
        d_query = ctx.scale * gradient[:, None] * mean
        d_table, mass = _flash(table, query, weighted, ctx.scale, bias=-result)  # softmax over the T queries
        return d_query, d_table * mass.exp()[:, None], None


def _flash(
    query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One head of attention ``[T, d], [N, d], [N, d] -> [T, d]``, and its log-sum-exp ``[T]``; ``bias [N]`` per key."""
    mask = None if bias is None else bias.expand(1, 1, query.shape[0], -1)
    mean, result = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query[None, None].contiguous(), key[None, None].contiguous(), value[None, None].contiguous(),
        0.0, False, attn_mask=mask, scale=scale,
    )  # fmt: skip
    return mean[0, 0], result.flatten().to(query.dtype)


@cache
def _flash_is_right(dtype: torch.dtype, width: int) -> bool:
    """Whether torch's private CPU kernel exists and gives the right numbers, tried once for each dtype and width."""
    query = torch.linspace(-1, 1, 67 * width, dtype=dtype).reshape(67, width).mul(7).sin()
    table = torch.linspace(-2, 1, 531 * width, dtype=dtype).reshape(531, width).mul(9).cos()
    bias = torch.linspace(-1, 1, 531, dtype=dtype)
    scale = 2.0 * width**-0.5
    logits = scale * query @ table.T + bias
    try:
        mean, result = _flash(query, table, table, scale, bias)
    except (AttributeError, RuntimeError, TypeError):  # another torch: no such operator, or another signature
        return False
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    right = torch.allclose(result, logits.logsumexp(-1), atol=tolerance)
    return right and torch.allclose(mean, logits.softmax(-1) @ table, atol=tolerance)
