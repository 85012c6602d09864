"""Recommendations in one call; whoever asks often makes an Index once and asks that."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import overload

from seqmm.data.corpus import Corpus
from seqmm.models.base import Recommender
from seqmm.serving.index import Index, Recommendation


@overload
def recommend(
    model: Recommender,
    corpus: Corpus,
    user: str | int,
    *,
    k: int = 10,
    among: Sequence[str | int] | None = None,
    filter_seen: bool = True,
) -> list[Recommendation]: ...


@overload
def recommend(
    model: Recommender,
    corpus: Corpus,
    *,
    history: Sequence[str | int],
    k: int = 10,
    among: Sequence[str | int] | None = None,
    filter_seen: bool = True,
) -> list[Recommendation]: ...


@overload
def recommend(
    model: Recommender,
    corpus: Corpus,
    *,
    users: Sequence[str | int],
    k: int = 10,
    among: Sequence[str | int] | None = None,
    filter_seen: bool = True,
) -> dict[str, list[Recommendation]]: ...


def recommend(
    model: Recommender,
    corpus: Corpus,
    user: str | int | None = None,
    *,
    users: Sequence[str | int] | None = None,
    history: Sequence[str | int] | None = None,
    k: int = 10,
    among: Sequence[str | int] | None = None,
    filter_seen: bool = True,
) -> list[Recommendation] | dict[str, list[Recommendation]]:
    """Ranks the catalogue for one user, for many, or for a new one by what he had.

    What a user had is all the corpus knows of him, held-out rows included. Ids are those of the source.

    Args:
        model: bound to the corpus, or to none yet.
        corpus: for ids, titles and histories.
        user: one user of the corpus.
        users: several of them.
        history: item ids, oldest first, of a user who is not in the corpus; for a model that reads histories.
        k: how many; fewer are returned if fewer are left.
        among: the items to rank; None = all.
        filter_seen: leave out what the user had; False = things are bought again.

    Returns:
        ``(item_id, title, score)`` of each item, best first; for ``users`` a dict of such lists by user id.

    Raises:
        ValueError: none or several of user, users and history; an unknown id; a k larger than the catalogue; a model
            that needs the user's trained vector.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> model = seqmm.make_model("item_knn", corpus)
    >>> seqmm.recommend(model, corpus, "user-7", k=1)
    [Recommendation(item_id='item-27', title='yellow cross number 27', score=5.7...)]
    >>> seqmm.recommend(model, corpus, history=["item-3", "item-5"], k=1)[0].title
    'white diamond number 16'
    >>> list(seqmm.recommend(model, corpus, users=["user-7", "user-8"], k=1))
    ['user-7', 'user-8']
    """
    if sum(one is not None for one in (user, users, history)) != 1:
        raise ValueError("for whom? Give user, users or history, one of them")
    if isinstance(user, Collection) and not isinstance(user, str):
        raise ValueError(f"user is one id, not a {type(user).__name__}: for several give users=[…]")
    with _mode_kept(model):
        index = Index(model, corpus)
        if users is not None:
            return index.recommend_all(users, k=k, among=among, filter_seen=filter_seen)
        return index.recommend(user, history, k=k, among=among, filter_seen=filter_seen)


def similar_items(
    model: Recommender, corpus: Corpus, item: str | int, *, k: int = 10, among: Sequence[str | int] | None = None
) -> list[Recommendation]:
    """Ranks the catalogue by likeness to one item: the cosine of the model's item vectors.

    A model without item vectors that reads histories (item-kNN) ranks what it recommends to who had that item.

    Args:
        model: bound to the corpus, or to none yet.
        corpus: for ids and titles.
        item: its id; it is left out itself.
        k: how many; fewer are returned if fewer are left.
        among: the items to rank; None = all.

    Raises:
        ValueError: an unknown id, a k larger than the catalogue, or a model that cannot compare items (popularity).

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> model = seqmm.make_model("item_knn", corpus)
    >>> corpus.titles[corpus.item_ids.index("item-3")]
    'grey bar number 3'
    >>> [found.title for found in seqmm.similar_items(model, corpus, "item-3", k=2)]
    ['grey bar number 17', 'grey bar number 18']
    """
    with _mode_kept(model):
        return Index(model, corpus).similar(item, k=k, among=among)


@contextmanager
def _mode_kept(model: Recommender) -> Iterator[None]:
    """Leaves every module in the mode it had, training or evaluation."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
