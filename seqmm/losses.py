"""Losses as plain functions. Each returns the loss of the GLOBAL batch on every rank (:mod:`seqmm.distributed`).

Softmax losses over many rows (full-softmax cross-entropy, InfoNCE over all users or items) are ``logsumexp - target``;
the log-sum-exp is streamed, so its ``[T, N]`` logits never exist as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.distributed import gather_rows, mean_over_ranks, rank_share, rows_before, sum_over_ranks
from seqmm.nn.log_sum_exp import full_precision, log_sum_exp
from seqmm.nn.noise import dropout_rows

Terms = dict[str, tuple[float, Callable[[], Tensor | dict[str, Tensor]]]]
"""Name -> weight, and a function that makes the term: a scalar, or scalars that are added up."""


def weighted_sum(terms: Terms) -> dict[str, Tensor]:
    """What a model's ``forward`` returns: ``{"loss": sum of weight * term, name: term, …}``.

    A term of weight 0 is neither made nor reported: leaving it out costs nothing.

    Args:
        terms: in the order they are added; a term of several scalars is reported under their names.

    Raises:
        ValueError: if every weight is 0.
    """
    weighted: list[Tensor] = []
    parts: dict[str, Tensor] = {}
    for name, (weight, make) in terms.items():
        if weight != 0:
            made = make()
            found = {name: made} if isinstance(made, Tensor) else made
            weighted.append(weight * reduce(torch.add, found.values()))
            parts |= found
    if not weighted:
        raise ValueError(f"nothing to train: the weights of {', '.join(terms)} are all 0")
    return {"loss": reduce(torch.add, weighted), **parts}


def bpr(positive: Tensor, negative: Tensor, gamma: float = 0.0) -> Tensor:
    """Bayesian personalised ranking: mean of ``-log sigmoid(positive - negative)``.

    Args:
        positive: ``[B]`` scores of observed pairs.
        negative: ``[B]`` scores of sampled pairs.
        gamma: > 0 gives MMRec's ``-log(gamma + sigmoid(x))``, whose gradient vanishes for hopeless pairs.
    """
    margin = positive - negative
    return mean_over_ranks(F.softplus(-margin) if gamma == 0 else -torch.log(gamma + torch.sigmoid(margin)))


def bpr_of_rows(user: Tensor, positive: Tensor, negative: Tensor, gamma: float = 0.0) -> Tensor:
    """:func:`bpr` of the dot products of users ``[B, d]`` with observed and sampled items ``[B, d]``."""
    return bpr((user * positive).sum(-1), (user * negative).sum(-1), gamma)


def hinge(positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    """Mean of ``max(0, margin - positive + negative)`` over ``[B]`` scores."""
    return mean_over_ranks(F.relu(margin - positive + negative))


def squared_error(positive: Tensor, negative: Tensor) -> Tensor:
    """Pointwise: mean of ``(positive - 1)^2`` and ``negative^2`` over the 2 B scores."""
    return mean_over_ranks(torch.cat([positive - 1, negative]).square())


def cross_entropy(positive: Tensor, negative: Tensor) -> Tensor:
    """Pointwise binary cross-entropy of observed (1) and sampled (0) pairs, mean over the 2 B scores."""
    return mean_over_ranks(F.softplus(torch.cat([-positive, negative])))


def embedding_norm(*rows: Tensor) -> Tensor:
    """MMRec's EmbLoss: the sum of the UN-squared Frobenius norms, divided by the rows of the last argument.

    Args:
        rows: ``[B, d]`` each; the norm is taken over the global batch, so it scales like ``B ** -0.5``.
    """
    squares = sum_over_ranks(torch.stack([x.square().sum() for x in rows]))
    count = sum_over_ranks(squares.new_full((), float(rows[-1].shape[0])))
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt().sum() / count  # clamp: no NaN gradient at zero


def half_squares(*rows: Tensor) -> Tensor:
    """``1/2 sum x^2`` over the batch's rows (all ``[B, d]``), divided by B: MMRec's L2 on batches, LightGCN's own form.

    Official codes divide by the configured batch size also in the short last batch; here B is the batch's own.
    """
    return mean_over_ranks(0.5 * torch.stack([x.square().sum(-1) for x in rows]).sum(0))


def cosine_loss(a: Tensor, b: Tensor) -> Tensor:
    """``1 - mean cos(a, b)`` over the batch's rows ``[B, d]``; detach the target to make it one (BYOL, BM3, SelfCF)."""
    return 1 - mean_over_ranks(F.cosine_similarity(a, b, dim=-1))


def softmax_loss(query: Tensor, table: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of the softmax over ALL rows of ``table``, mean over the global batch's targets.

    Args:
        query: ``[T, d]``, one row per target of this rank; T may be 0.
        table: ``[N, d]``, equal on all ranks.
        target: ``[T]`` int64 rows of ``table``.
        temperature: divides the dot products.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, table = full_precision(query), full_precision(table)
        hit = (query * F.embedding(target, table)).sum(-1) / temperature  # [T]
        return mean_over_ranks(log_sum_exp(query, table, 1 / temperature) - hit)


def two_view_info_nce(a: Tensor, b: Tensor, temperature: float, *, whole: bool = False) -> Tensor:
    """InfoNCE whose negatives are the other rows of BOTH views (GRACE; MICRO, MMSSL), anchored in ``a``.

    Mean of ``-log(e(a_j, b_j) / (sum_k e(a_j, b_k) + sum_{k != j} e(a_j, a_k)))``, ``e = exp(cos / t)``.

    Args:
        a: ``[B, d]`` anchors.
        b: ``[B, d]`` their positives.
        temperature: t.
        whole: a and b are full tables, equal on all ranks, whose anchors are dealt out to them; else they are this
            rank's rows of the batch.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = F.normalize(full_precision(a), dim=-1), F.normalize(full_precision(b), dim=-1)
        place = torch.arange(len(a), device=a.device)  # of an anchor among the rows
        if whole:
            rows = torch.cat([a, b])
            a, b, place = rank_share(a), rank_share(b), rank_share(place)
        else:
            rows, place = torch.cat([gather_rows(a), gather_rows(b)]), place + rows_before(a)

        def without_self(part: slice) -> Tensor:
            own = place[part]
            return a.new_zeros(len(own), len(rows)).scatter_(1, own[:, None], -torch.inf)

        return mean_over_ranks(log_sum_exp(a, rows, 1 / temperature, without_self) - (a * b).sum(-1) / temperature)


def jensen_shannon(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Jensen-Shannon estimator on cosines: mean of ``softplus(-c(a_j, b_j) / t) + softplus(c(a_j, b_k) / t)``.

    The negative of row j is the next row of the global batch (the first one for the last): rows are shuffled anyway.

    Args:
        a: ``[B, d]`` anchors of this rank.
        b: ``[B, d]`` their positives.
        temperature: t.
    """
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    first, rows = rows_before(b), gather_rows(b)
    other = rows.roll(-1, 0)[first : first + len(b)]
    hit, miss = (a * b).sum(-1) / temperature, (a * other).sum(-1) / temperature
    return mean_over_ranks(F.softplus(-hit) + F.softplus(miss))


def info_nce(
    a: Tensor, b: Tensor, temperature: float, candidates: Tensor | None = None, *, cosine: bool = True
) -> Tensor:
    """InfoNCE on cosines: mean over rows of ``-log(exp(a.b / t) / sum_c exp(a.c / t))``.

    Args:
        a: ``[B, d]`` anchors of this rank.
        b: ``[B, d]`` their positives.
        temperature: t.
        candidates: ``[N, d]`` rows every anchor is compared with (all users or all items; the positives should be among
            them); None = the ``b`` of the global batch.
        cosine: False takes dot products of the rows as they are.
    """

    def unit(x: Tensor) -> Tensor:
        x = full_precision(x)
        return F.normalize(x, dim=-1) if cosine else x

    with torch.autocast(a.device.type, enabled=False):
        a, b = unit(a), unit(b)
        rows = gather_rows(b) if candidates is None else unit(candidates)
        return mean_over_ranks(log_sum_exp(a, rows, 1 / temperature) - (a * b).sum(-1) / temperature)


def info_nce_of_tables(
    rows: Tensor, a: Tensor, b: Tensor, temperature: float, candidates: Tensor | None = None
) -> Tensor:
    """:func:`info_nce` of the same ``rows [B]`` of two tables ``[n, d]``."""
    return info_nce(F.embedding(rows, a), F.embedding(rows, b), temperature, candidates)


def dropout_info_nce(
    rows: dict[str, Tensor], p: float, temperature: float, row_seed: Tensor, copies: tuple[str, str]
) -> dict[str, Tensor]:
    """InfoNCE between two dropouts of the batch's rows; equal rows are each other's negatives, too (PGL, USERec).

    Args:
        rows: by name, ``[B, d]``.
        p: share of the entries that a copy lacks.
        temperature: of the InfoNCE.
        row_seed: ``[B]``.
        copies: names of the two draws.

    Returns:
        ``contrast_<name>`` of each.
    """
    losses = {}
    for name, x in rows.items():
        first, second = (dropout_rows(x, p, row_seed, f"{name} {copy}") for copy in copies)
        losses[f"contrast_{name}"] = info_nce(first, second, temperature)
    return losses
