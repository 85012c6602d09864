"""From a trained model to recommendations: external ids in, titles out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from seqmm.arguments import DataArguments
from seqmm.checks import check_choice
from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Ragged
from seqmm.evaluation.evaluator import model_scorer, scoring_batch
from seqmm.hub.access import local_folder
from seqmm.models.base import bound
from seqmm.models.checkpoint import check_trained_on, from_pretrained
from seqmm.names import SPLITS, Backend
from seqmm.publishing.run_files import read_settings
from seqmm.run.opening import open_corpus

if TYPE_CHECKING:
    from seqmm.models.base import Recommender

_USER_BATCH = 1024
"""Users scored at a time."""


class Recommendation(NamedTuple):
    """One item of a list."""

    item_id: str
    title: str
    score: float


class Index:
    """The items of a bound model, ready to be searched.

    A user's history is all the corpus knows of him, held-out rows included: what to show next, not an evaluation. Items
    he had are left out.

    Args:
        model: bound to ``corpus``, or to none yet; put in eval mode.
        corpus: for ids, titles and histories.
        backend: "exact" scores every item; "faiss" searches an inner-product index (needs the package, and a model
            whose score is a dot product).

    Raises:
        ValueError: for faiss with a model that is no dot product, or without the package; the model is bound to
            another corpus.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> index = seqmm.Index(seqmm.make_model("item_knn", corpus), corpus)
    >>> [found.title for found in index.recommend("user-7", k=2)]
    ['yellow cross number 27', 'grey bar number 33']
    >>> len(index.recommend_all(k=2))
    60
    """

    def __init__(self, model: Recommender, corpus: Corpus, *, backend: Backend = "exact"):
        check_choice("backend", backend, get_args(Backend))
        self.model, self.corpus = bound(model, corpus).eval(), corpus
        with torch.no_grad():
            self.tables = model.tables()
        self._known = _known(corpus)
        self._user_number = {name: number for number, name in enumerate(corpus.user_ids)}
        self._item_number = {name: number for number, name in enumerate(corpus.item_ids)}
        self._faiss = _faiss_index(model, self.tables["items"]) if backend == "faiss" else None

    @torch.no_grad()
    def recommend(
        self,
        user: str | int | None = None,
        history: Sequence[str | int] | None = None,
        *,
        k: int = 10,
        among: Sequence[str | int] | None = None,
        filter_seen: bool = True,
    ) -> list[Recommendation]:
        """The best items for a known user, or for a new one by what he had.

        Args:
            user: external user id.
            history: external item ids, oldest first, of a user who is not in the corpus; instead of ``user``.
            k: how many; fewer are returned if fewer are left.
            among: external ids of the items to rank (new ones, say); None = all.
            filter_seen: leave out what he had; False = things are bought again.

        Raises:
            ValueError: an unknown id, an empty history, a k larger than the catalogue, or a model that needs the
                user's trained vector.
        """
        if (user is None) == (history is None):
            raise ValueError("give a user or a history, one of them")
        if user is not None:
            return self._rank(*self._known_users([user]), k, among, filter_seen)[0]
        batch, items = self._new_user(history or ())
        return self._rank(batch, [items], k, among, filter_seen)[0]

    @torch.no_grad()
    def recommend_all(
        self,
        users: Sequence[str | int] | None = None,
        *,
        k: int = 10,
        among: Sequence[str | int] | None = None,
        filter_seen: bool = True,
    ) -> dict[str, list[Recommendation]]:
        """The best items for many known users, scored in batches.

        Args:
            users: external user ids; None = all of the corpus.
            k: as in :meth:`recommend`.
            among: as in :meth:`recommend`.
            filter_seen: as in :meth:`recommend`.

        Returns:
            User id -> his items, in the order of ``users``.

        Raises:
            ValueError: as :meth:`recommend`.
        """
        if users is None:
            users = self.corpus.user_ids or range(self.corpus.num_users)
        found: dict[str, list[Recommendation]] = {}
        for start in range(0, len(users), _USER_BATCH):
            some = users[start : start + _USER_BATCH]
            lists = self._rank(*self._known_users(some), k, among, filter_seen)
            found |= zip(map(str, some), lists, strict=True)
        return found

    @torch.no_grad()
    def similar(
        self, item: str | int, *, k: int = 10, among: Sequence[str | int] | None = None
    ) -> list[Recommendation]:
        """The items most like one: by the cosine of the model's item vectors.

        A model without item vectors that reads histories (item-kNN) ranks what it recommends to who had that item.

        Args:
            item: external id; it is left out itself.
            k: how many; fewer are returned if fewer are left.
            among: external ids of the items to rank; None = all.

        Raises:
            ValueError: an unknown id, a k larger than the catalogue, or a model that cannot compare items.
        """
        number = self._item(item)
        if not self.model.dot_product:
            return self.recommend(history=[item], k=k, among=among)
        vectors = self.tables["items"].float()  # [num_items, d]
        if vectors.shape[1] < 2:
            kind = self.model.config.model_type
            raise ValueError(f"{kind} has no item vectors to compare; use a model that learns them, or item_knn")
        vectors = torch.nn.functional.normalize(vectors, dim=1)
        return self._best((vectors @ vectors[number])[None], [np.array([number])], k, among)[0]

    def _rank(
        self,
        batch: dict[str, Tensor],
        had: Sequence[np.ndarray],
        k: int,
        among: Sequence[str | int] | None,
        filter_seen: bool,
    ) -> list[list[Recommendation]]:
        """For each row of a batch, whose users ``had`` these items."""
        self._check_k(k)
        if not filter_seen:
            had = [np.zeros(0, dtype=np.int64)] * len(had)
        if self._faiss is None or among is not None:
            scores = model_scorer(self.model, self.tables)(batch)(slice(0, self.corpus.num_items))  # [B, num_items]
            return self._best(scores.float(), had, k, among)
        query = self.model.represent(batch, self.tables).float().cpu().numpy()
        values, found = self._faiss.search(query, min(k + max(map(len, had)), self.corpus.num_items))
        lists = []
        for items, score, seen in zip(found, values, had, strict=True):
            kept = ~np.isin(items, seen)
            lists.append([self._titled(*pair) for pair in zip(items[kept][:k], score[kept][:k], strict=True)])
        return lists

    def _best(
        self, scores: Tensor, left_out: Sequence[np.ndarray], k: int, among: Sequence[str | int] | None
    ) -> list[list[Recommendation]]:
        """The k best of each row of ``scores [B, num_items]``, which are written into."""
        self._check_k(k)
        for row, items in enumerate(left_out):
            scores[row, torch.from_numpy(np.array(items)).to(scores.device)] = -torch.inf
        if among is not None:
            others = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
            others[[self._item(name) for name in among]] = False
            scores[:, others] = -torch.inf
        values, items = (x.cpu().numpy() for x in scores.topk(k))  # [B, k]
        kept = values > -np.inf
        return [
            [self._titled(*pair) for pair in zip(item[keep], value[keep], strict=True)]
            for item, value, keep in zip(items, values, kept, strict=True)
        ]

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= self.corpus.num_items:
            raise ValueError(f"k = {k} must be between 1 and the {self.corpus.num_items} items of {self.corpus.name!r}")

    def history(
        self, user: str | int | None = None, history: Sequence[str | int] | None = None
    ) -> list[tuple[str, str]]:
        """``(item id, title)`` of what a known or a new user had, oldest first."""
        items = self._known[self._user(user)] if user is not None else [self._item(name) for name in history or ()]
        return [self._titled(int(item), 0.0)[:2] for item in items]

    @torch.no_grad()
    def audience(self, item: str | int, *, k: int = 10) -> list[tuple[str, float]]:
        """The users an item suits best, with their scores; those who had it are left out.

        Raises:
            ValueError: an unknown id.
        """
        number = self._item(item)
        scores = []
        for start in range(0, self.corpus.num_users, _USER_BATCH):
            users = np.arange(start, min(start + _USER_BATCH, self.corpus.num_users))
            batch = self._batch(self._known, users)
            scores.append(model_scorer(self.model, self.tables)(batch)(slice(number, number + 1))[:, 0].float().cpu())
        score = torch.cat(scores)  # [num_users]
        owners = np.repeat(np.arange(self.corpus.num_users), self._known.lengths)[self._known.values == number]
        score[torch.from_numpy(owners)] = -torch.inf
        values, best = score.topk(min(k, len(score)))
        return [
            (self.corpus.user_ids[user] if self.corpus.user_ids else str(user), value)
            for user, value in zip(best.tolist(), values.tolist(), strict=True)
            if value > -np.inf
        ]

    def _batch(self, histories: Ragged, users: np.ndarray) -> dict[str, Tensor]:
        return scoring_batch(histories, users, self.model.history_length, self.model.device)

    def _known_users(self, users: Sequence[str | int]) -> tuple[dict[str, Tensor], list[np.ndarray]]:
        numbers = np.array([self._user(name) for name in users])
        return self._batch(self._known, numbers), [self._known[number] for number in numbers]

    def _new_user(self, history: Sequence[str | int]) -> tuple[dict[str, Tensor], np.ndarray]:
        kind = self.model.config.model_type
        if "num_users" in self.model.sized_by:
            raise ValueError(
                f"{kind} scores with a vector trained for each known user and cannot serve a new one; "
                "use a model that reads histories (sasrec, sasrecm, msm4sr, item_knn), or train it again with him"
            )
        if not history:
            raise ValueError("an empty history: name at least one item the new user had")
        items = np.array([self._item(name) for name in history], dtype=np.int64)
        return self._batch(Ragged(np.array([0, len(items)]), items), np.array([0])), items

    def _user(self, name: str | int) -> int:
        return _number(self._user_number, name, "user", self.corpus.num_users, self.corpus.name)

    def _item(self, name: str | int) -> int:
        return _number(self._item_number, name, "item", self.corpus.num_items, self.corpus.name)

    def _titled(self, item: int, score: float) -> Recommendation:
        name = self.corpus.item_ids[item] if self.corpus.item_ids else str(item)
        return Recommendation(name, self.corpus.titles[item] if self.corpus.titles else "", float(score))


def open_checkpoint(folder: str, corpus: str | Path | Corpus | None = None) -> tuple[Recommender, Corpus]:
    """A run's model, bound to the corpus it was trained on.

    Args:
        folder: of a run (or a Hub repository): ``config.json``, ``model.safetensors``, ``run.yaml``.
        corpus: where the corpus is now, a folder or a Hub repository, or the corpus itself with the features the model
            reads; None = where run.yaml says it was.

    Raises:
        FileNotFoundError: no such folder, model or corpus.
        ValueError: a truncated checkpoint, another corpus, or features of another encoder.

    >>> import seqmm
    >>> from pathlib import Path
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> corpus.save("corpora/shop")
    >>> seqmm.make_model("bpr", corpus).save_pretrained("runs/shop")
    >>> _ = Path("runs/shop/run.yaml").write_text("data: {path: corpora/shop}")  # a run writes it
    >>> model, corpus = seqmm.open_checkpoint("runs/shop")
    >>> len(seqmm.recommend(model, corpus, "user-7", k=3))
    3
    """
    place = local_folder(folder)
    model = from_pretrained(str(place))
    if not isinstance(corpus, Corpus):
        data = DataArguments.from_values(read_settings(place)["data"])
        if corpus is not None:
            data = replace(data, path=str(corpus), revision=None)
        corpus, _ = open_corpus(replace(data, features=(), rename=()), model.config)
    check_trained_on(model, corpus, folder)
    return model.bind(corpus).eval(), corpus


def _known(corpus: Corpus) -> Ragged:
    user, item, position = (
        np.concatenate([getattr(corpus.splits[split], column) for split in SPLITS])
        for column in ("user", "item", "position")
    )
    order = np.lexsort((position, user))
    return Ragged.from_pairs(user[order], item[order], corpus.num_users)


def _number(numbers: dict[str, int], name: str | int, what: str, count: int, corpus: str) -> int:
    name = str(name)
    if not numbers:  # a corpus without external ids: the index is the id
        numbers = {name: int(name)} if name.isdecimal() and int(name) < count else {}
    if name not in numbers:
        some = ", ".join(repr(known) for known in list(numbers)[:3]) or f"'0' to '{count - 1}'"
        raise ValueError(f"corpus {corpus!r} has no {what} {name!r}; its {what} ids look like {some}")
    return numbers[name]


def _faiss_index(model: Recommender, items: Tensor) -> Any:
    if not model.dot_product:
        raise ValueError(f"the score of {model.config.model_type} is no dot product: use the exact backend")
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ValueError("the faiss backend needs the package: pip install 'seqmm[retrieval]'") from error
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(np.ascontiguousarray(items.detach().float().cpu().numpy()))
    return index
