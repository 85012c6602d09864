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

    >>> one, two = torch.tensor(1.0), torch.tensor(2.0)
    >>> parts = weighted_sum({"rank": (1.0, lambda: one), "norm": (0.5, lambda: two), "never": (0.0, lambda: 1 / 0)})
    >>> {name: float(part) for name, part in parts.items()}
    {'loss': 2.0, 'rank': 1.0, 'norm': 2.0}
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

    Needs a sampled pair for each observed one, which is what ``PairCollator`` makes. Gives 0 when every observed item
    is far above the sampled one, log 2 for equal scores, and grows linearly when it is below.
    Related: :func:`hinge` stops at a margin; :func:`softmax_loss` compares with the whole catalogue at once.
    Choose it for implicit feedback and a dot product: it is what most collaborative papers train with.

    Args:
        positive: ``[B]`` scores of observed pairs.
        negative: ``[B]`` scores of sampled pairs.
        gamma: > 0 gives MMRec's ``-log(gamma + sigmoid(x))``, whose gradient vanishes for hopeless pairs.

    The first pair is 2 apart, log(1 + e^-2) = 0.1269; the second is a draw, log 2 = 0.6931; the mean is

    >>> round(float(bpr(torch.tensor([2.0, 1.0]), torch.tensor([0.0, 1.0]))), 4)
    0.41
    """
    margin = positive - negative
    return mean_over_ranks(F.softplus(-margin) if gamma == 0 else -torch.log(gamma + torch.sigmoid(margin)))


def bpr_of_rows(user: Tensor, positive: Tensor, negative: Tensor, gamma: float = 0.0) -> Tensor:
    """:func:`bpr` of the dot products of users ``[B, d]`` with observed and sampled items ``[B, d]``.

    Needs rows of vectors, looked up or propagated. Gives :func:`bpr`'s mean.
    Related: :func:`bpr`, for scores that are no dot products.
    Choose it wherever the score is ``user . item``.

    The user's dot products are 2 and 0, as in the first pair of :func:`bpr`:

    >>> user, positive, negative = (torch.tensor([row]) for row in ([1.0, 1.0], [2.0, 0.0], [1.0, -1.0]))
    >>> round(float(bpr_of_rows(user, positive, negative)), 4)
    0.1269
    """
    return bpr((user * positive).sum(-1), (user * negative).sum(-1), gamma)


def hinge(positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    """Mean of ``max(0, margin - positive + negative)`` over ``[B]`` scores.

    Needs a sampled pair for each observed one, and scores of a known scale, which the margin is on. Gives 0 as soon as
    every observed score leads by the margin.
    Related: :func:`bpr` is its smooth form and never quite stops.
    Choose it when pairs that are told apart already should no longer move (metric learning).

    A lead of 2 costs nothing, a lead of 0.5 costs the missing 0.5; the mean is

    >>> float(hinge(torch.tensor([2.0, 0.5]), torch.tensor([0.0, 0.0])))
    0.25
    """
    return mean_over_ranks(F.relu(margin - positive + negative))


def squared_error(positive: Tensor, negative: Tensor) -> Tensor:
    """Pointwise: mean of ``(positive - 1)^2`` and ``negative^2`` over the 2 B scores.

    Needs as many sampled pairs as observed ones. Gives 0 for scores of exactly 1 and 0.
    Related: :func:`cross_entropy` punishes a confident error without bound; :func:`bpr` looks at differences alone.
    Choose it when scores should mean something on their own, as ratings do.

    The observed score misses 1 by 0.5, the sampled one is 0: (0.25 + 0) / 2 is

    >>> float(squared_error(torch.tensor([0.5]), torch.tensor([0.0])))
    0.125
    """
    return mean_over_ranks(torch.cat([positive - 1, negative]).square())


def cross_entropy(positive: Tensor, negative: Tensor) -> Tensor:
    """Pointwise binary cross-entropy of observed (1) and sampled (0) pairs, mean over the 2 B scores.

    Needs as many sampled pairs as observed ones; scores are logits. Gives log 2 for scores of 0, and 0 for large right
    ones.
    Related: :func:`bpr` is the same of the difference of two scores; SASRec's ``loss: bce`` is this at each position.
    Choose it when ``sigmoid(score)`` should be a probability.

    A logit of 2 for an observed pair costs 0.1269, one of 0 for a sampled pair log 2 = 0.6931; the mean is

    >>> round(float(cross_entropy(torch.tensor([2.0]), torch.tensor([0.0]))), 4)
    0.41
    """
    return mean_over_ranks(F.softplus(torch.cat([-positive, negative])))


def embedding_norm(*rows: Tensor) -> Tensor:
    """MMRec's EmbLoss: the sum of the UN-squared Frobenius norms, divided by the rows of the last argument.

    Needs the rows a batch has looked up, not whole tables. Gives a regulariser that pulls all rows by the same force,
    however small they are; the norm is over the global batch, so it scales like ``B ** -0.5``.
    Related: :func:`half_squares` is squared, and the usual L2.
    Choose it to match numbers that MMRec published; elsewhere :func:`half_squares` is easier to weigh.

    Args:
        rows: ``[B, d]`` each.

    Two rows, (3, 0) and (0, 4), have the norm 5; divided by their number it is

    >>> float(embedding_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]])))
    2.5
    """
    squares = sum_over_ranks(torch.stack([x.square().sum() for x in rows]))
    count = sum_over_ranks(squares.new_full((), float(rows[-1].shape[0])))
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt().sum() / count  # clamp: no NaN gradient at zero


def half_squares(*rows: Tensor) -> Tensor:
    """``1/2 sum x^2`` over the batch's rows (all ``[B, d]``), divided by B: MMRec's L2 on batches, LightGCN's own form.

    Needs the rows a batch has looked up, not whole tables. Gives a regulariser whose gradient is the row itself, over
    B; official codes divide by the configured batch size also in the short last batch, here B is the batch's own.
    Related: :func:`embedding_norm` is not squared; ``train.weight_decay`` decays all parameters, seen or not.
    Choose it for the L2 that papers write as lambda ||E||^2.

    Half of 9 + 16, over two rows, is

    >>> float(half_squares(torch.tensor([[3.0, 0.0], [0.0, 4.0]])))
    6.25
    """
    return mean_over_ranks(0.5 * torch.stack([x.square().sum(-1) for x in rows]).sum(0))


def cosine_loss(a: Tensor, b: Tensor) -> Tensor:
    """``1 - mean cos(a, b)`` over the batch's rows ``[B, d]``; detach the target to make it one (BYOL, BM3, SelfCF).

    Needs two vectors of the same thing, one of them without gradient or behind a predictor. Gives 0 for equal
    directions, 1 for right angles, 2 for opposite ones.
    Related: :func:`info_nce` also pushes other rows away, and needs no trick against collapse.
    Choose it for learning without negatives.

    The first rows point the same way, the second ones at a right angle:

    >>> a, b = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> float(cosine_loss(a, b))
    0.5
    """
    return 1 - mean_over_ranks(F.cosine_similarity(a, b, dim=-1))


def softmax_loss(query: Tensor, table: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of the softmax over ALL rows of ``table``, mean over the global batch's targets.

    Needs no sampling; memory does not grow with the catalogue, time does. Gives -log of the target's share, log N for
    scores that are all equal.
    Related: :func:`info_nce` takes the batch as candidates; :func:`bpr` takes one negative.
    Choose it for sequential models while a pass over the catalogue is affordable: it is the strongest loss they have.

    Args:
        query: ``[T, d]``, one row per target of this rank; T may be 0.
        table: ``[N, d]``, equal on all ranks.
        target: ``[T]`` int64 rows of ``table``.
        temperature: divides the dot products.

    Four items score 0, so the target has a share of a quarter, and -log(1/4) is

    >>> round(float(softmax_loss(torch.zeros(1, 3), torch.ones(4, 3), torch.tensor([2]))), 4)
    1.3863
    """
    with torch.autocast(query.device.type, enabled=False):
        query, table = full_precision(query), full_precision(table)
        hit = (query * F.embedding(target, table)).sum(-1) / temperature  # [T]
        return mean_over_ranks(log_sum_exp(query, table, 1 / temperature) - hit)


def two_view_info_nce(a: Tensor, b: Tensor, temperature: float, *, whole: bool = False) -> Tensor:
    """InfoNCE whose negatives are the other rows of BOTH views (GRACE; MICRO, MMSSL), anchored in ``a``.

    Mean of ``-log(e(a_j, b_j) / (sum_k e(a_j, b_k) + sum_{k != j} e(a_j, a_k)))``, ``e = exp(cos / t)``.

    Needs two views of the same rows. Gives log(2 B - 1) when nothing can be told apart.
    Related: :func:`info_nce` compares with the other view alone, and does not spread a view within itself.
    Choose it when a view should also be uniform in itself; call it a second time with a and b swapped for both anchors.

    Args:
        a: ``[B, d]`` anchors.
        b: ``[B, d]`` their positives.
        temperature: t.
        whole: a and b are full tables, equal on all ranks, whose anchors are dealt out to them; else they are this
            rank's rows of the batch.

    All of two rows are the same, so an anchor sees three equal candidates, and log 3 is

    >>> same = torch.ones(2, 4)
    >>> round(float(two_view_info_nce(same, same, temperature=0.2)), 4)
    1.0986
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

    Needs two views of the same rows; one negative a row, the next row of the global batch (the first one for the last:
    rows are shuffled anyway). Gives 2 log 2 when nothing can be told apart.
    Related: :func:`info_nce` has the whole batch as negatives and a bound on what a row costs.
    Choose it when batches are small, where InfoNCE has few negatives.

    Args:
        a: ``[B, d]`` anchors of this rank.
        b: ``[B, d]`` their positives.
        temperature: t.

    Equal pairs at right angles to one another: softplus(-1) + softplus(0) = 0.3133 + 0.6931 is

    >>> round(float(jensen_shannon(torch.eye(2), torch.eye(2), temperature=1.0)), 4)
    1.0064
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

    Needs two views of the same rows. Gives log N for N candidates that cannot be told apart, and falls as the positive
    stands out; the smaller the temperature, the more the hardest negatives count.
    Related: :func:`two_view_info_nce` also has negatives within the view; :func:`softmax_loss` is the same of raw dot
    products and a target's number.
    Choose it for a contrast between augmentations or modalities, or with ``candidates`` as a loss over all items.

    Args:
        a: ``[B, d]`` anchors of this rank.
        b: ``[B, d]`` their positives.
        temperature: t.
        candidates: ``[N, d]`` rows every anchor is compared with (all users or all items; the positives should be among
            them); None = the ``b`` of the global batch.
        cosine: False takes dot products of the rows as they are.

    Each row equals its positive (cosine 1) and is at a right angle to the other (0): log(1 + e^-1) is

    >>> round(float(info_nce(torch.eye(2), torch.eye(2), temperature=1.0)), 4)
    0.3133
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
    """:func:`info_nce` of the same ``rows [B]`` of two tables ``[n, d]``.

    Needs two views of whole tables. Gives what :func:`info_nce` gives of the rows asked for.
    Related: :func:`info_nce`, for rows that are looked up already.
    Choose it when views are propagated tables and a batch names its users or items (SGL, NCL).

    >>> round(float(info_nce_of_tables(torch.tensor([0, 1]), torch.eye(3), torch.eye(3), temperature=1.0)), 4)
    0.3133
    """
    return info_nce(F.embedding(rows, a), F.embedding(rows, b), temperature, candidates)


def dropout_info_nce(
    rows: dict[str, Tensor], p: float, temperature: float, row_seed: Tensor, copies: tuple[str, str]
) -> dict[str, Tensor]:
    """InfoNCE between two dropouts of the batch's rows; equal rows are each other's negatives, too (PGL, USERec).

    Needs no second encoder: a view is the row with some entries dropped. Gives :func:`info_nce` for each name.
    Related: :func:`info_nce`, for views that are made in another way.
    Choose it as the cheapest contrast there is; without dropout the two views are the same.

    Args:
        rows: by name, ``[B, d]``.
        p: share of the entries that a copy lacks.
        temperature: of the InfoNCE.
        row_seed: ``[B]``.
        copies: names of the two draws.

    Returns:
        ``contrast_<name>`` of each.

    Nothing is dropped, so this is the example of :func:`info_nce`:

    >>> losses = dropout_info_nce({"user": torch.eye(2)}, 0.0, 1.0, torch.tensor([7, 8]), ("a", "b"))
    >>> {name: round(float(loss), 4) for name, loss in losses.items()}
    {'contrast_user': 0.3133}
    """
    losses = {}
    for name, x in rows.items():
        first, second = (dropout_rows(x, p, row_seed, f"{name} {copy}") for copy in copies)
        losses[f"contrast_{name}"] = info_nce(first, second, temperature)
    return losses
