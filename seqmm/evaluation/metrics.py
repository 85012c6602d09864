"""Ranking metrics on tensors, per user first; the mean over users is the caller's.

**Ties.** A metric's value is its exact expectation when items of equal score stand in random order. So a constant score
gets what a random list gets, and the order of ids never matters. All metrics follow from two integers a target:
``greater``, how many ranked items score higher, and ``equal``, how many score the same, itself included; its expected
rank is ``greater + (equal + 1) / 2``, its rank is uniform on ``greater + 1 .. greater + equal``. Several targets of one
user in one tie group are drawn without replacement (hit, MRR, MAP and the retrieved ideal need that; recall, precision
and NDCG are linear). Items at -inf are not ranked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Hits(NamedTuple):
    """Positions 1..K of B users' lists; made by :func:`place`. Positions outside a target's tie group hold 0, 1, 1."""

    targets: Tensor
    """``[B, K]`` how many targets the tie group at this position has."""
    size: Tensor
    """``[B, K]`` how many items tie in it (1 = no tie)."""
    nth: Tensor
    """``[B, K]`` 1-based place of this position inside its group."""
    before: Tensor
    """``[B, K]`` targets in better groups."""
    relevant: Tensor
    """``[B]`` how many targets the user has, in the list or not."""

    @property
    def expected(self) -> Tensor:
        """``[B, K]`` float64, the chance that a position holds a target."""
        return self.targets / self.size.double()


def place(row: Tensor, greater: Tensor, equal: Tensor, num_rows: int, k: int) -> Hits:
    """Positions of targets from their counts.

    Args:
        row: ``[T]`` int64, the user (0..num_rows-1) of each target.
        greater, equal: ``[T]`` int64, see the module's docstring; ``greater >= k`` = not in the list.
        num_rows: B.
        k: length of the list.

    Raises:
        ValueError: if a user has no target.
    """
    relevant = torch.bincount(row, minlength=num_rows)
    if num_rows and int(relevant.min()) == 0:
        raise ValueError(
            f"user row {int(relevant.argmin())} has no target; a metric is defined for users with at least one"
        )
    first = row * (k + 1) + greater.clamp(max=k)
    end = row * (k + 1) + (greater + equal).clamp(max=k)

    def running(opening: Tensor, closing: Tensor) -> Tensor:
        """Sum over the targets whose group covers the position: + at its first place, - behind its last one."""
        changes = torch.zeros(num_rows * (k + 1), dtype=torch.int64, device=row.device)
        changes.index_add_(0, first, opening).index_add_(0, end, closing)
        return changes.view(num_rows, k + 1).cumsum(1)[:, :k]  # [B, K]

    one = torch.ones_like(row)
    targets = running(one, -one)
    members = targets.clamp(min=1)
    size = torch.where(targets > 0, running(equal, -equal) // members, 1)
    start = running(greater, -greater) // members
    position = torch.arange(1, k + 1, device=row.device).expand(num_rows, k)
    nth = torch.where(targets > 0, position - start, 1)
    return Hits(targets, size, nth, running(torch.zeros_like(one), one), relevant)


def place_lists(lists: Tensor, row: Tensor, item: Tensor) -> Hits:
    """Positions of targets in given ranked lists (no scores, so no ties).

    Args:
        lists: ``[B, K]`` item ids, best first; -1 = no item.
        row, item: ``[T]`` the targets; a pair must not occur twice.
    """
    num_rows, k = lists.shape
    found = lists[row] == item[:, None]  # [T, K]
    greater = torch.where(found.any(1), found.int().argmax(1), k)
    return place(row, greater, torch.ones_like(greater), num_rows, k)


def recall(hits: Hits, k: int) -> Tensor:
    """``[B]`` hits in the first k / targets."""
    return hits.expected[:, :k].sum(1) / hits.relevant


def precision(hits: Hits, k: int) -> Tensor:
    """``[B]`` hits in the first k / k."""
    return hits.expected[:, :k].sum(1) / k


def ndcg(hits: Hits, k: int, ideal: Literal["test", "retrieved"] = "test") -> Tensor:
    """``[B]`` DCG with gains 1 and discounts 1 / log2(position + 1), over that of the ideal list.

    Args:
        hits: positions.
        k: cut-off.
        ideal: "test" = min(k, targets) hits on top. "retrieved" = the hits of this list (all K positions of ``hits``)
            on top, cut at k, as MMSSL's program computes it: never smaller, and 0 where the list has no hit.
    """
    discount = _discounts(hits)
    ideals = torch.cat([discount.new_zeros(1), discount.cumsum(0)])  # [K + 1] ideal DCG of n hits
    gains = hits.expected[:, :k] * discount[:k]  # [B, k]
    if ideal == "test":
        return gains.sum(1) / ideals[hits.relevant.clamp(max=k)]
    # How many hits the list has is certain but for the tie group at its end: n of its E places are inside, and of its t
    # targets m are among them with hypergeometric chance; given m, each of the n places holds one with chance m / n.
    n, size, targets = hits.nth[:, -1:], hits.size[:, -1:], hits.targets[:, -1:]  # [B, 1]
    last = torch.arange(1, discount.numel() + 1, device=n.device)[:k] > discount.numel() - n  # [B, k] in that group
    sure, unsure = (gains * ~last).sum(1), (discount[:k] * last).sum(1)
    value = torch.zeros_like(sure)
    for m in range(int(torch.minimum(targets, n).max()) + 1 if len(n) else 0):
        chance = _hypergeometric(m, size[:, 0], targets[:, 0], n[:, 0])
        count = hits.before[:, -1] + m
        share = (sure + unsure * m / n[:, 0]) / ideals[count.clamp(min=1, max=k)]
        value += torch.where(count > 0, chance * share, 0.0)
    return value


def average_precision(hits: Hits, k: int) -> Tensor:
    """``[B]`` sum over hits in the first k of the precision there / min(k, targets)."""
    t, size, nth = hits.targets[:, :k].double(), hits.size[:, :k], hits.nth[:, :k]
    # other targets of the tie group above this place, given a hit here
    together = (nth - 1) * (t - 1) / (size - 1).clamp(min=1)
    position = torch.arange(1, k + 1, device=t.device)
    found = t / size * (hits.before[:, :k] + 1 + together) / position
    return found.sum(1) / hits.relevant.clamp(max=k)


def reciprocal_rank(hits: Hits, k: int) -> Tensor:
    """``[B]`` 1 / position of the first hit, 0 without one in the first k."""
    missed = _no_hit_yet(hits)[:, : k + 1]
    position = torch.arange(1, k + 1, device=missed.device)
    return ((missed[:, :-1] - missed[:, 1:]) / position).sum(1)


def hit(hits: Hits, k: int) -> Tensor:
    """``[B]`` whether any target is in the first k (with ties: the chance of it)."""
    return 1 - _no_hit_yet(hits)[:, k]


METRICS: dict[str, Callable[..., Tensor]] = {
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit": hit,
}


def coverage(lists: Tensor, k: int, num_items: int) -> float:
    """Share of the catalogue that occurs in the first k of any list; -1 = no item. Ties stand as listed."""
    return float(listed(lists, k, num_items).sum()) / num_items


def listed(lists: Tensor, k: int, num_items: int) -> Tensor:
    """``[num_items]`` bool, which items occur in the first k of any list."""
    seen = torch.zeros(num_items + 1, dtype=torch.bool, device=lists.device)
    seen[lists[:, :k]] = True  # -1 falls on the spare last place
    return seen[:-1]


def mean_popularity(lists: Tensor, k: int, counts: Tensor) -> Tensor:
    """``[B]`` mean of ``counts [num_items]`` (train interactions) over the first k of each list; -1 = no item."""
    head = lists[:, :k]
    real = head >= 0
    return (counts.double()[head.clamp(min=0)] * real).sum(1) / real.sum(1).clamp(min=1)


def count_ranks(scores: Tensor, row: Tensor, target_scores: Tensor) -> tuple[Tensor, Tensor]:
    """``(greater, equal)`` of targets by comparing and counting: no sort; cheaper than top-k for few targets a user.

    Args:
        scores: ``[B, n]`` over the whole catalogue, -inf = not ranked.
        row: ``[T]`` ascending users of the targets.
        target_scores: ``[T]``.
    """
    slot = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)  # 0 for a user's first target …
    greater, equal = torch.empty_like(row), torch.empty_like(row)
    for number in range(int(slot.max()) + 1 if len(row) else 0):
        for here in (slot == number).nonzero()[:, 0].split(max(1, _CACHED // scores.shape[1])):
            first, last = row[here[0]], row[here[-1]]
            whole = last - first + 1 == len(here)  # neighbours: no copy
            mine = scores[first : last + 1] if whole else scores[row[here]]
            threshold = target_scores[here, None]
            greater[here] = _count(torch.gt, mine, threshold)
            equal[here] = _count(torch.ge, mine, threshold) - greater[here]
    return _unranked(greater, equal, target_scores, scores.shape[1])


class TopK:
    """The k best items of each user, over blocks of items, and how many items tie with the last of them."""

    def __init__(self, k: int):
        self.k = k
        self.values: Tensor | None = None
        """``[B, min(k, n seen)]`` scores, best first."""
        self.items: Tensor
        """``[B, min(k, n seen)]`` ids; -1 where only unranked items are left."""
        self.tied: Tensor
        """``[B]`` items seen whose score equals the last value."""

    def update(self, scores: Tensor, start: int) -> None:
        """Takes ``[B, n]`` scores of the items ``start .. start + n - 1``."""
        before = self.values
        values, items = scores.topk(min(self.k, scores.shape[1]), dim=1)
        items = torch.where(values > -torch.inf, items + start, -1)
        if before is not None:
            values, order = torch.cat([before, values], 1).topk(min(self.k, before.shape[1] + values.shape[1]), dim=1)
            items = torch.cat([self.items, items], 1).gather(1, order)
        last = values[:, -1:]
        tied = _count(torch.eq, scores, last)
        if before is not None:  # a raised threshold has all its earlier equals in the old list
            tied += torch.where(last[:, 0] == before[:, -1], self.tied, (before == last).sum(1))
        self.values, self.items, self.tied = values, items, tied

    def ranks(self, row: Tensor, target_scores: Tensor) -> tuple[Tensor, Tensor]:
        """``(greater, equal)`` of targets, as :func:`count_ranks`; ``greater = k`` for those below the list."""
        assert self.values is not None
        values = self.values[row]  # [T, k]
        greater = (values > target_scores[:, None]).sum(1)
        equal = torch.where(target_scores == values[:, -1], self.tied[row], (values == target_scores[:, None]).sum(1))
        return _unranked(greater, equal.clamp(min=1), target_scores, self.k)


_CACHED = 1 << 20
"""Scores compared at a time, so that the second comparison finds them in the processor's cache."""


def _unranked(greater: Tensor, equal: Tensor, target_scores: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    ranked = target_scores > -torch.inf
    return torch.where(ranked, greater, outside), torch.where(ranked, equal, 1)


def _count(compare: Callable[..., Tensor], scores: Tensor, threshold: Tensor) -> Tensor:
    """``[B]`` how many of a row compare true; in floats, whose sum is 3-8x faster than that of bools (exact < 2^24)."""
    flags = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
    compare(scores, threshold, out=flags)
    return flags.sum(1).long()


def _discounts(hits: Hits) -> Tensor:
    return 1 / torch.arange(2, hits.targets.shape[1] + 2, device=hits.targets.device).double().log2()  # [K]


def _no_hit_yet(hits: Hits) -> Tensor:
    """``[B, K + 1]`` chance that the first p positions hold no target, p = 0..K."""
    left = hits.size - hits.nth + 1  # places of the group from here on; all its targets if none came yet
    chance = (hits.targets / left.double()).clamp(max=1)
    return torch.cat([chance.new_ones(len(chance), 1), (1 - chance).cumprod(1)], 1)


def _hypergeometric(m: int, size: Tensor, targets: Tensor, draws: Tensor) -> Tensor:
    """``[B]`` chance of m targets among ``draws`` of ``size`` items of which ``targets`` are targets."""

    def log_choose(n: Tensor, r: Tensor) -> Tensor:
        n, r = n.double(), r.double()
        log = torch.lgamma(n + 1) - torch.lgamma(r + 1) - torch.lgamma(n - r + 1)
        return torch.where((r >= 0) & (r <= n), log, -torch.inf)

    drawn = torch.full_like(targets, m)
    return (log_choose(targets, drawn) + log_choose(size - targets, draws - m) - log_choose(size, draws)).exp()
