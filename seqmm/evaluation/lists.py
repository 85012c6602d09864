"""Anybody's recommendation lists, measured with the evaluator's metrics: ids are those of the source, as text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from seqmm.checks import check_choice
from seqmm.data.corpus import Corpus
from seqmm.evaluation.list_files import read_lists, read_pairs
from seqmm.evaluation.metrics import LIST_METRICS, METRICS, listed, mean_popularity, place
from seqmm.names import Ideal, Split, counted

Id: TypeAlias = Any
"""Text or a number; ids are compared as text."""
Lists: TypeAlias = Mapping[Id, Sequence[Id] | Mapping[Id, float]]
"""User -> items, best first; or user -> {item: score}, where equal scores share their places."""
Pairs: TypeAlias = Mapping[Id, Iterable[Id]]
"""User -> items."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListScores:
    """What :func:`measure_lists` found."""

    values: dict[str, float]
    """"metric@k" -> mean over the users of the truth (coverage: over the catalogue)."""
    per_user: dict[str, np.ndarray]
    """"metric@k" -> a value for each of :attr:`users`."""
    users: tuple[str, ...]
    """Those of the truth."""
    without_list: tuple[str, ...]
    """Users of the truth who have no list: they count as missed."""
    without_truth: tuple[str, ...]
    """Users with a list who are not in the truth: they do not count."""
    seen: int
    """Listed items, within the largest cut-off, that the user had in train."""
    shorter: int
    """Users whose list is shorter than the largest cut-off."""
    num_items: int
    """Size of the catalogue, for coverage."""

    def remarks(self) -> list[str]:
        """Sentences about what a reader of the numbers must know."""
        said = []
        if self.without_list:
            said.append(f"users of the truth without a list, counted as missed: {counted(self.without_list)}")
        if self.without_truth:
            said.append(f"users with a list who are not in the truth, left out: {counted(self.without_truth)}")
        if self.seen:
            said.append(f"listed items that their user had in train already: {self.seen:,}")
        if self.shorter:
            said.append(f"lists shorter than the largest cut-off, whose other places are missed: {self.shorter:,}")
        return said


def score_lists(
    lists: Lists | str | Path,
    truth: Pairs | Corpus | str | Path,
    *,
    train: Pairs | str | Path | None = None,
    ks: Sequence[int] = (5, 10, 20),
    metrics: Sequence[str] = ("recall", "ndcg"),
    ideal: Ideal = "test",
    filter_seen: bool = False,
    num_items: int | None = None,
) -> dict[str, float]:
    """Measures anybody's recommendation lists against held-out interactions.

    Args:
        lists: user -> items, best first, or user -> {item: score}; or a file (:func:`read_lists`).
        truth: user -> held-out items; or a file of pairs; or a corpus, whose test split they are. Users without a list
            count as missed, and a log line says how many there are.
        train: user -> items that were trained on; or a file of pairs; None = the train split, where truth is a corpus.
            Popularity needs it.
        ks: cut-offs.
        metrics: of recall, precision, ndcg, map, mrr, hit, coverage and popularity.
        ideal: NDCG's ideal list, of the test items or of the hits in the retrieved list.
        filter_seen: take what a user had in train out of his list first.
        num_items: size of the catalogue, for coverage; None = the corpus', or the items of train, truth and lists.

    Returns:
        "metric@k" -> mean over the users of the truth (coverage: over the catalogue).

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown metric, an item twice in a list, an empty truth, a metric that lacks what it needs.

    Ann's first item is right, Bob's second; nobody listed anything for Cem:

    >>> import seqmm
    >>> lists = {"ann": ["tea", "jam"], "bob": ["jam", "tea"]}
    >>> seqmm.score_lists(lists, {"ann": ["tea"], "bob": ["tea"], "cem": ["jam"]}, ks=[1, 2], metrics=["recall", "mrr"])
    {'recall@1': 0.3333333333333333, 'recall@2': 0.6666666666666666, 'mrr@1': 0.3333333333333333, 'mrr@2': 0.5}
    """
    found = measure_lists(
        lists, truth, train=train, ks=ks, metrics=metrics, ideal=ideal, filter_seen=filter_seen, num_items=num_items
    )
    for remark in found.remarks():
        logger.warning("%s", remark)
    return found.values


def measure_lists(
    lists: Lists | str | Path,
    truth: Pairs | Corpus | str | Path,
    *,
    train: Pairs | str | Path | None = None,
    ks: Sequence[int] = (5, 10, 20),
    metrics: Sequence[str] = ("recall", "ndcg"),
    ideal: Ideal = "test",
    filter_seen: bool = False,
    num_items: int | None = None,
) -> ListScores:
    """As :func:`score_lists`, with each user's values and what was left out or missing."""
    ks = tuple(sorted(set(ks)))
    if isinstance(truth, Corpus):
        train, num_items = pairs_of(truth, "train") if train is None else train, num_items or truth.num_items
        truth = pairs_of(truth, "test")
    _check(ks, metrics, ideal, train, filter_seen)
    ranked = {str(user): _ranked(user, items) for user, items in _mapping(lists, read_lists).items()}
    held_out = {str(user): list(dict.fromkeys(map(str, items))) for user, items in _mapping(truth, read_pairs).items()}
    held_out = {user: items for user, items in held_out.items() if items}
    if not held_out:
        raise ValueError("the truth holds no item of any user: there is nothing to measure against")
    if not ranked.keys() & held_out.keys():
        raise ValueError(
            f"no user of the lists is in the truth: their ids are {counted(list(ranked))}, those of the truth "
            f"{counted(list(held_out))}; are these ids of one kind?"
        )
    had = {} if train is None else {str(u): set(map(str, items)) for u, items in _mapping(train, read_pairs).items()}
    if filter_seen:
        ranked = {user: _without(scores, had.get(user, set())) for user, scores in ranked.items()}
    users = tuple(held_out)
    mine = [ranked.get(user, {}) for user in users]
    number = _numbers([*had.values(), *held_out.values(), *mine])
    if num_items is not None and len(number) > num_items:
        raise ValueError(
            f"num_items = {num_items}, but train, truth and lists name {len(number)} items; give that many"
        )
    num_items = num_items or len(number)

    per_user = _accuracy(mine, list(held_out.values()), ks, [name for name in metrics if name in METRICS], ideal)
    top = torch.full((len(users), ks[-1]), -1)
    for row, scores in enumerate(mine):
        first = sorted(scores, key=scores.__getitem__, reverse=True)[: ks[-1]]
        top[row, : len(first)] = torch.tensor([number[item] for item in first], dtype=torch.int64)
    values = {name: float(each.mean()) for name, each in per_user.items()}
    values |= _of_lists(top, ks, metrics, _counts(had.values(), number), num_items)
    return ListScores(
        values={f"{name}@{k}": values[f"{name}@{k}"] for name in metrics for k in ks},
        per_user=per_user,
        users=users,
        without_list=tuple(user for user in users if user not in ranked),
        without_truth=tuple(user for user in ranked if user not in held_out),
        seen=sum(len(had.get(user, set()) & _first(scores, ks[-1])) for user, scores in zip(users, mine, strict=True)),
        shorter=sum(0 < len(scores) < ks[-1] for scores in mine),
        num_items=num_items,
    )


def pairs_of(corpus: Corpus, split: Split) -> dict[str, list[str]]:
    """A split's items by user, with the ids of the source; numbers as text where a corpus has none."""
    users = corpus.user_ids or tuple(map(str, range(corpus.num_users)))
    items = corpus.item_ids or tuple(map(str, range(corpus.num_items)))
    rows = corpus.targets(split)
    return {user: [items[item] for item in rows[number]] for number, user in enumerate(users) if len(rows[number])}


def _check(ks: Sequence[int], metrics: Sequence[str], ideal: str, train: object, filter_seen: bool) -> None:
    for name in metrics:
        check_choice("metric", name, (*METRICS, *LIST_METRICS))
    check_choice("ideal", ideal, ("test", "retrieved"))
    if not ks or ks[0] < 1:
        raise ValueError(f"cut-offs must be positive, got ks = {tuple(ks)}")
    if train is None and (filter_seen or "popularity" in metrics):
        raise ValueError(f"{'filter_seen' if filter_seen else 'popularity'} needs train, what users had before")


def _mapping(given: Mapping[Id, Any] | str | Path, read: Callable[[Path], Mapping[str, Any]]) -> Mapping[Any, Any]:
    return given if isinstance(given, Mapping) else read(Path(given))


def _ranked(user: Id, items: Iterable[Id] | Mapping[Id, float]) -> dict[str, float]:
    """Item -> score; of a list without scores, minus the place."""
    if isinstance(items, Mapping):
        scores = {str(item): float(score) for item, score in items.items()}
        wrong = next((item for item, score in scores.items() if score != score), None)
        if wrong is not None:
            raise ValueError(f"the score of user {user!r} for item {wrong!r} is NaN; leave the item out of his list")
        return scores
    if isinstance(items, str):
        raise ValueError(f"the list of user {user!r} is the text {items!r}; give a list of items")
    scores = {}
    for rank, item in enumerate(map(str, items)):
        if item in scores:
            raise ValueError(f"item {item!r} is twice in the list of user {user!r}; a list names an item once")
        scores[item] = -float(rank)
    return scores


def _without(scores: dict[str, float], seen: set[str]) -> dict[str, float]:
    return {item: score for item, score in scores.items() if item not in seen}


def _first(scores: dict[str, float], k: int) -> set[str]:
    return set(sorted(scores, key=scores.__getitem__, reverse=True)[:k])


def _numbers(parts: Iterable[Iterable[Hashable]]) -> dict[Hashable, int]:
    return {item: number for number, item in enumerate(dict.fromkeys(item for part in parts for item in part))}


def _counts(had: Iterable[set[str]], number: dict[Hashable, int]) -> Tensor:
    """``[num_items]`` users who had each item."""
    rows = torch.tensor([number[item] for items in had for item in items], dtype=torch.int64)
    return torch.bincount(rows, minlength=len(number))


def _accuracy(
    lists: Sequence[dict[str, float]],
    truth: Sequence[Sequence[str]],
    ks: Sequence[int],
    metrics: Sequence[str],
    ideal: Ideal,
) -> dict[str, np.ndarray]:
    """Values of each user; places are counted as the evaluator counts them, so equal scores are no advantage."""
    row = np.repeat(np.arange(len(truth)), [len(items) for items in truth])
    greater, equal = np.full(len(row), ks[-1]), np.ones(len(row), dtype=np.int64)
    target = 0
    for scores, items in zip(lists, truth, strict=True):
        ascending = np.sort(np.fromiter(scores.values(), dtype=np.float64, count=len(scores)))
        for item in items:
            if item in scores:
                below, until = (np.searchsorted(ascending, scores[item], side) for side in ("left", "right"))
                greater[target], equal[target] = len(ascending) - until, until - below
            target += 1
    placed = [torch.from_numpy(column) for column in (row, greater, equal)]
    hits = place(placed[0], placed[1], placed[2], len(truth), ks[-1])
    values = {}
    for name in metrics:
        options = {"ideal": ideal} if name == "ndcg" else {}
        for k in ks:
            values[f"{name}@{k}"] = METRICS[name](hits, k, **options).numpy()
    return values


def _of_lists(
    top: Tensor, ks: Sequence[int], metrics: Sequence[str], counts: Tensor, num_items: int
) -> dict[str, float]:
    values = {}
    for k in ks:
        if "coverage" in metrics:
            values[f"coverage@{k}"] = float(listed(top, k, num_items).double().mean())
        if "popularity" in metrics:  # of those who have a list
            mine = mean_popularity(top[top[:, 0] >= 0], k, counts)
            values[f"popularity@{k}"] = float(mine.mean()) if len(mine) else 0.0
    return values
