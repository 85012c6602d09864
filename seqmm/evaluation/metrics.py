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
from typing import NamedTuple

import torch
from torch import Tensor

from seqmm.names import Ideal


class Hits(NamedTuple):
    """Where the T targets of B users stand, in lists of K; made by :func:`place`. Sorted by user, then score.

    Work is proportional to the targets, not to users x K: at Baby's size 50x a lean loop over users, 200x MMRec's.
    """

    row: Tensor
    """``[T]`` user of each target."""
    greater: Tensor
    """``[T]`` ranked items with a higher score; K = not in the list."""
    equal: Tensor
    """``[T]`` ranked items with the same score (E), itself included."""
    together: Tensor
    """``[T]`` targets among those."""
    before: Tensor
    """``[T]`` targets of the user with a higher score."""
    relevant: Tensor
    """``[B]`` targets of each user."""
    length: int
    """K."""

    def visible(self, k: int) -> Tensor:
        """``[T]`` how many places of the target's tie group are among the first k."""
        return torch.minimum((k - self.greater).clamp(min=0), self.equal)

    def per_user(self, values: Tensor) -> Tensor:
        """``[B]`` float64 sums of ``values [T]``."""
        return torch.zeros(len(self.relevant), dtype=torch.float64, device=values.device).index_add_(
            0, self.row, values
        )

    def first(self, values: Tensor) -> Tensor:
        """``[B]`` the value of each user's best target."""
        return values[self.relevant.cumsum(0) - self.relevant]


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
        raise ValueError(f"user row {int(relevant.argmin())} has no target; metrics are of users with at least one")
    greater = greater.clamp(max=k)
    key, order = (row * (k + 1) + greater).sort()
    row, greater, equal = row[order], greater[order], equal[order]
    _, group, size = key.unique_consecutive(return_inverse=True, return_counts=True)
    before = (size.cumsum(0) - size)[group] - (relevant.cumsum(0) - relevant)[row]
    listed = greater < k  # what is outside the list forms no group
    return Hits(row, greater, equal.where(listed, 1), size[group].where(listed, 1), before, relevant, k)


def place_lists(lists: Tensor, row: Tensor, item: Tensor) -> Hits:
    """Positions of targets in given ranked lists (no scores, so no ties).

    Args:
        lists: ``[B, K]`` item ids, best first; -1 = no item.
        row, item: ``[T]`` the targets; a pair must not occur twice.
    """
    num_rows, k = lists.shape
    found = (lists.index_select(0, row) == item[:, None]).flatten().nonzero()[:, 0]  # flat: a third faster than 2-d
    greater = torch.full_like(row, k)
    greater[found // k] = found % k
    return place(row, greater, torch.ones_like(greater), num_rows, k)


def recall(hits: Hits, k: int) -> Tensor:
    """``[B]`` hits in the first k / targets.

    Needs targets of each user, of one value each. Gives the share of what a user wanted that the list holds, 0 to 1.
    Related: :func:`hit` is the same for one target; :func:`precision` divides by the list instead.
    Choose it to ask how much of a user's taste a list covers; it does not see the order within the list.

    User 0 is shown 1, 2, 3 and wants 2 and 7; user 1 is shown 4, 5, 6 and wants 4. Among the first two, user 0 finds
    one of two, user 1 the only one:

    >>> lists = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> hits = place_lists(lists, row=torch.tensor([0, 0, 1]), item=torch.tensor([2, 7, 4]))
    >>> recall(hits, 2).tolist()
    [0.5, 1.0]
    """
    return hits.per_user(hits.visible(k) / hits.equal.double()) / hits.relevant


def precision(hits: Hits, k: int) -> Tensor:
    """``[B]`` hits in the first k / k.

    Needs lists of k items: a shorter one counts the rest as misses. Gives the share of the list that was wanted, 0 to
    1.
    Related: :func:`recall` divides by the targets; with one target a user, precision is recall / k.
    Choose it when room in the list is what costs; a user with fewer than k targets cannot reach 1.

    User 0 is shown 1, 2, 3 and wants 2 and 7; user 1 is shown 4, 5, 6 and wants 4. One of the first two is wanted by
    each:

    >>> lists = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> hits = place_lists(lists, row=torch.tensor([0, 0, 1]), item=torch.tensor([2, 7, 4]))
    >>> precision(hits, 2).tolist()
    [0.5, 0.5]
    """
    return hits.per_user(hits.visible(k) / hits.equal.double()) / k


def ndcg(hits: Hits, k: int, ideal: Ideal = "test") -> Tensor:
    """``[B]`` DCG with gains 1 and discounts 1 / log2(position + 1), over that of the ideal list.

    Needs targets of one value each (no graded ratings). Gives 1 for targets on top, and less the deeper they stand.
    Related: :func:`recall` does not see the order; :func:`reciprocal_rank` sees the first hit alone.
    Choose it as the one number to compare models by: it is what most papers report beside recall.

    Args:
        hits: positions.
        k: cut-off.
        ideal: "test" = min(k, targets) hits on top. "retrieved" = the hits of this list (all K positions of ``hits``)
            on top, cut at k, as MMSSL's program computes it: never smaller, and 0 where the list has no hit.

    User 0 is shown 1, 2, 3 and wants 2 and 7; user 1 is shown 4, 5, 6 and wants 4. User 0 has a hit at place 2, 1 /
    log2(3) = 0.6309, of the 1 + 0.6309 that two hits on top would give; user 1 has his on top:

    >>> lists = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> hits = place_lists(lists, row=torch.tensor([0, 0, 1]), item=torch.tensor([2, 7, 4]))
    >>> [round(value, 4) for value in ndcg(hits, 2).tolist()]
    [0.3869, 1.0]
    """
    positions = torch.arange(1, hits.length + 1, device=hits.row.device)
    dcg = _from_zero(1 / (positions + 1).double().log2())  # [K + 1] of hits at the first n positions
    total = dcg[hits.greater + hits.visible(k)] - dcg[hits.greater]  # [T] discounts of the group's places within k
    gains = total / hits.equal
    if ideal == "test":
        return hits.per_user(gains) / dcg[hits.relevant.clamp(max=k)]
    # How many hits the list has is certain but for the tie group at its end: n of its E places are inside, and of its t
    # targets m are among them with hypergeometric chance; given m, each of the n places holds one with chance m / n.
    inside = hits.visible(hits.length)
    whole, cut = inside == hits.equal, (inside > 0) & (inside < hits.equal)
    sure, certain = hits.per_user(gains * whole), hits.per_user(whole.double()).long()  # [B]
    at = hits.row[cut]  # a user has one such group at most, and its targets agree
    n, size, targets, unsure = (x.new_zeros(len(hits.relevant)) for x in (inside, inside, inside, total))
    n[at], size[at], targets[at], unsure[at] = inside[cut], hits.equal[cut], hits.together[cut], total[cut]
    value = torch.zeros_like(sure)
    for m in range(int(torch.minimum(targets, n).max()) + 1 if len(n) else 0):
        chance = _hypergeometric(m, size, targets, n)
        share = (sure + unsure * m / n.clamp(min=1)) / dcg[(certain + m).clamp(min=1, max=k)]
        value += torch.where(certain + m > 0, chance * share, 0.0)
    return value


def average_precision(hits: Hits, k: int) -> Tensor:
    """``[B]`` sum over hits in the first k of the precision there / min(k, targets).

    Needs targets of each user. Gives 1 for targets on top, 0 without a hit.
    Related: :func:`ndcg` discounts by the position instead, and less steeply; :func:`reciprocal_rank` is this for one
    target.
    Choose it when users have several targets and the first places count most.

    User 0 is shown 1, 2, 3 and wants 2 and 7; user 1 is shown 4, 5, 6 and wants 4. User 0 has precision 1/2 at his hit,
    and could have had two; user 1 has precision 1 at his:

    >>> lists = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> hits = place_lists(lists, row=torch.tensor([0, 0, 1]), item=torch.tensor([2, 7, 4]))
    >>> average_precision(hits, 2).tolist()
    [0.25, 1.0]
    """
    n, harmonic = hits.visible(k), _harmonic(hits)
    # a hit at place p of the group has, above it, the targets before the group and this share of the group's others
    share = (hits.together - 1) / (hits.equal - 1).clamp(min=1).double()
    constant = hits.before + 1 - (hits.greater + 1) * share
    found = constant * (harmonic[hits.greater + n] - harmonic[hits.greater]) + share * n
    return hits.per_user(found / hits.equal) / hits.relevant.clamp(max=k)


def reciprocal_rank(hits: Hits, k: int) -> Tensor:
    """``[B]`` 1 / position of the first hit, 0 without one in the first k.

    Needs targets of each user, and looks at the best placed one. Gives 1 for a hit on top, 1/2 for one at place 2.
    Related: :func:`hit` does not see the position; :func:`average_precision` goes on after the first hit.
    Choose it when one good item ends the search, as in next-item prediction.

    User 0 is shown 1, 2, 3 and wants 2 and 7; user 1 is shown 4, 5, 6 and wants 4. The first hits stand at 2 and at 1:

    >>> lists = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> hits = place_lists(lists, row=torch.tensor([0, 0, 1]), item=torch.tensor([2, 7, 4]))
    >>> reciprocal_rank(hits, 2).tolist()
    [0.5, 1.0]
    """
    harmonic, n = _harmonic(hits), hits.first(hits.visible(k))
    start, size, targets = hits.first(hits.greater), hits.first(hits.equal), hits.first(hits.together)
    value = (harmonic[start + n] - harmonic[start]) / size
    several = targets > 1  # the first of several targets in one tie group
    if several.any():
        start, size, targets, n = (x[several, None] for x in (start, size, targets, n))
        place = torch.arange(k + 1, device=n.device)  # [k + 1]
        missed = _hypergeometric(0, size, targets, torch.minimum(place, n))  # [b, k + 1]
        value[several] = ((missed[:, :-1] - missed[:, 1:]) / (start + place[1:])).sum(1)
    return value


def hit(hits: Hits, k: int) -> Tensor:
    """``[B]`` whether any target is in the first k (with ties: the chance of it).

    Needs targets of each user. Gives 1 or 0, so its mean is the share of users who are served.
    Related: :func:`recall` counts all targets, and equals it for one target a user (leave-one-out).
    Choose it for leave-one-out tables, where it is called HR or hit rate.

    User 0 is shown 1, 2, 3 and wants 2 and 7; user 1 is shown 4, 5, 6 and wants 4. On top stands a miss for user 0, a
    hit for user 1:

    >>> lists = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> hits = place_lists(lists, row=torch.tensor([0, 0, 1]), item=torch.tensor([2, 7, 4]))
    >>> hit(hits, 1).tolist()
    [0.0, 1.0]
    """
    n, size, targets = hits.first(hits.visible(k)), hits.first(hits.equal), hits.first(hits.together)
    return torch.where(targets == 1, n / size.double(), 1 - _hypergeometric(0, size, targets, n))


METRICS: dict[str, Callable[..., Tensor]] = {
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit": hit,
}

LIST_METRICS = ("coverage", "popularity")
"""Those of whole lists, which need no targets: coverage of the catalogue, and popularity of what is listed."""


def coverage(lists: Tensor, k: int, num_items: int) -> float:
    """Share of the catalogue that occurs in the first k of any list; -1 = no item. Ties stand as listed.

    Needs lists alone, no targets. Gives 1 / num_items times k at least (everyone sees the same), 1 at most.
    Related: :func:`mean_popularity` says which items they are.
    Choose it beside an accuracy, to see whether a model serves the whole shop or its best-sellers.

    The first two of both lists name 1, 2, 4, 5, half of eight items:

    >>> coverage(torch.tensor([[1, 2, 3], [4, 5, 6]]), 2, num_items=8)
    0.5
    """
    return float(listed(lists, k, num_items).sum()) / num_items


def listed(lists: Tensor, k: int, num_items: int) -> Tensor:
    """``[num_items]`` bool, which items occur in the first k of any list."""
    seen = torch.zeros(num_items + 1, dtype=torch.bool, device=lists.device)
    seen[lists[:, :k]] = True  # -1 falls on the spare last place
    return seen[:-1]


def mean_popularity(lists: Tensor, k: int, counts: Tensor) -> Tensor:
    """``[B]`` mean of ``counts [num_items]`` (train interactions) over the first k of each list; -1 = no item.

    Needs lists, and how often each item was had in train. Gives interactions an item: high for best-sellers.
    Related: :func:`coverage` counts how many items there are in all lists.
    Choose it beside an accuracy, to see how much of it is popularity.

    Items 0 to 6 were had 0, 10, … 60 times; the first two are 1 and 2, and 4 and 5:

    >>> mean_popularity(torch.tensor([[1, 2, 3], [4, 5, 6]]), 2, counts=10 * torch.arange(7)).tolist()
    [15.0, 45.0]
    """
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


def _harmonic(hits: Hits) -> Tensor:
    return _from_zero(1 / torch.arange(1, hits.length + 1, device=hits.row.device).double())  # [K + 1]


def _from_zero(x: Tensor) -> Tensor:
    """Sums of the first 0, 1, … entries."""
    return torch.cat([x.new_zeros(1), x.cumsum(0)])


def _hypergeometric(m: int, size: Tensor, targets: Tensor, draws: Tensor) -> Tensor:
    """Chance of m targets among ``draws`` of ``size`` items of which ``targets`` are targets."""

    def log_choose(n: Tensor, r: Tensor) -> Tensor:
        n, r = n.double(), r.double()
        log = torch.lgamma(n + 1) - torch.lgamma(r + 1) - torch.lgamma(n - r + 1)
        return torch.where((r >= 0) & (r <= n), log, -torch.inf)

    drawn = torch.full_like(targets, m)
    return (log_choose(targets, drawn) + log_choose(size - targets, draws - m) - log_choose(size, draws)).exp()
