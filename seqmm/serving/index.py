"""From a trained model to recommendations: external ids in, titles out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqmm.arguments import DataArguments
from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Ragged
from seqmm.evaluation.evaluator import model_scorer, scoring_batch
from seqmm.files import read_yaml
from seqmm.hub.access import local_folder
from seqmm.models.checkpoint import check_trained_on, from_pretrained
from seqmm.names import SPLITS
from seqmm.run.fit import open_corpus

if TYPE_CHECKING:
    from seqmm.models.base import Recommender


_AUDIENCE_BATCH = 1024


class Recommendation(NamedTuple):
    item_id: str
    title: str
    score: float


class Index:
    """The items of a bound model, ready to be searched.

    A user's history is all the corpus knows of him, held-out rows included: what to show next, not an evaluation. Items
    he had are left out.

    Args:
        model: bound to ``corpus``; put in eval mode.
        corpus: for ids, titles and histories.
        backend: "exact" scores every item; "faiss" searches an inner-product index (needs the package, and a model
            whose score is a dot product).

    Raises:
        ValueError: for faiss with a model that is no dot product, or without the package.
    """

    def __init__(self, model: Recommender, corpus: Corpus, *, backend: Literal["exact", "faiss"] = "exact"):
        self.model, self.corpus = model.eval(), corpus
        with torch.no_grad():
            self.tables = model.tables()
        self._known = _known(corpus)
        self._user_number = {name: number for number, name in enumerate(corpus.user_ids)}
        self._item_number = {name: number for number, name in enumerate(corpus.item_ids)}
        self._faiss = _faiss_index(model, self.tables["items"]) if backend == "faiss" else None

    @torch.no_grad()
    def recommend(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        *,
        k: int = 10,
        among: Sequence[str] | None = None,
    ) -> list[Recommendation]:
        """The best items for a known user, or for a new one by what he had.

        Args:
            user: external user id.
            history: external item ids, oldest first, of a user who is not in the corpus; instead of ``user``.
            k: how many; fewer are returned if fewer are left.
            among: external ids of the items to rank (new ones, say); None = all.

        Raises:
            ValueError: an unknown id, an empty history, a k larger than the catalogue, or a model that needs the
                user's trained vector.
        """
        if (user is None) == (history is None):
            raise ValueError("give a user or a history, one of them")
        if not 1 <= k <= self.corpus.num_items:
            raise ValueError(f"k = {k} must be between 1 and the {self.corpus.num_items} items of {self.corpus.name!r}")
        if user is not None:
            number = self._user(user)
            batch = self._batch(self._known, np.array([number]))
            seen = self._known[number]
        else:
            batch, seen = self._new_user(history or ())
        if self._faiss is not None and among is None:
            query = self.model.represent(batch, self.tables).float().cpu().numpy()
            scores, found = self._faiss.search(query, min(k + len(seen), self.corpus.num_items))
            kept = ~np.isin(found[0], seen)
            return [self._titled(*pair) for pair in zip(found[0][kept][:k], scores[0][kept][:k], strict=True)]
        score = model_scorer(self.model, self.tables)(batch)(slice(0, self.corpus.num_items))[0].float()  # [num_items]
        score[torch.from_numpy(np.array(seen)).to(score.device)] = -torch.inf
        if among is not None:
            others = torch.ones_like(score, dtype=torch.bool)
            others[[self._item(name) for name in among]] = False
            score[others] = -torch.inf
        values, items = score.topk(k)
        kept = (values > -torch.inf).cpu().numpy()
        return [self._titled(*p) for p in zip(items.cpu().numpy()[kept], values.cpu().numpy()[kept], strict=True)]

    def history(self, user: str | None = None, history: Sequence[str] | None = None) -> list[tuple[str, str]]:
        """``(item id, title)`` of what a known or a new user had, oldest first."""
        items = self._known[self._user(user)] if user is not None else [self._item(name) for name in history or ()]
        return [self._titled(int(item), 0.0)[:2] for item in items]

    @torch.no_grad()
    def audience(self, item: str, *, k: int = 10) -> list[tuple[str, float]]:
        """The users an item suits best, with their scores; those who had it are left out.

        Raises:
            ValueError: an unknown id.
        """
        number = self._item(item)
        scores = []
        for start in range(0, self.corpus.num_users, _AUDIENCE_BATCH):
            users = np.arange(start, min(start + _AUDIENCE_BATCH, self.corpus.num_users))
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

    def _new_user(self, history: Sequence[str]) -> tuple[dict[str, Tensor], np.ndarray]:
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

    def _user(self, name: str) -> int:
        return _number(self._user_number, name, "user", self.corpus.num_users, self.corpus.name)

    def _item(self, name: str) -> int:
        return _number(self._item_number, name, "item", self.corpus.num_items, self.corpus.name)

    def _titled(self, item: int, score: float) -> Recommendation:
        name = self.corpus.item_ids[item] if self.corpus.item_ids else str(item)
        return Recommendation(name, self.corpus.titles[item] if self.corpus.titles else "", float(score))


def open_checkpoint(folder: str, corpus_path: str | None = None) -> tuple[Recommender, Corpus]:
    """A run's model, bound to the corpus it was trained on.

    Args:
        folder: of a run (or a Hub repository): ``config.json``, ``model.safetensors``, ``run.yaml``.
        corpus_path: where the corpus is now, a folder or a Hub repository; None = where run.yaml says it was.

    Raises:
        FileNotFoundError: no such folder, model or corpus.
        ValueError: a truncated checkpoint, another corpus, or features of another encoder.
    """
    place = local_folder(folder)
    data = DataArguments(**read_yaml(place / "run.yaml").get("data", {}))
    model = from_pretrained(str(place))
    features = tuple(model.config.features)
    if corpus_path is not None:
        data = replace(data, path=corpus_path, revision=None)
    corpus = open_corpus(replace(data, features=features))
    check_trained_on(model, corpus, folder)
    return model.bind(corpus).eval(), corpus


def _known(corpus: Corpus) -> Ragged:
    user, item, position = (
        np.concatenate([getattr(corpus.splits[split], column) for split in SPLITS])
        for column in ("user", "item", "position")
    )
    order = np.lexsort((position, user))
    return Ragged.from_pairs(user[order], item[order], corpus.num_users)


def _number(numbers: dict[str, int], name: str, what: str, count: int, corpus: str) -> int:
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
