"""From a trained model to recommendations: external ids in, titles out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqmm.data.corpus import SPLITS, Corpus, Features, Ragged, check_features
from seqmm.evaluation.evaluator import model_scorer, scoring_batch

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
    from seqmm.config import DataArguments, read_yaml
    from seqmm.hub import from_pretrained, local_folder
    from seqmm.training.run import load_corpus

    place = local_folder(folder)
    data = DataArguments(**read_yaml(place / "run.yaml").get("data", {}))
    model = from_pretrained(str(place))
    features = tuple(model.config.features)
    if corpus_path is not None:
        data = replace(data, path=corpus_path, revision=None)
    corpus = load_corpus(replace(data, features=features))
    check_trained_on(model, corpus, folder)
    return model.bind(corpus).eval(), corpus


def check_trained_on(model: Recommender, corpus: Corpus, folder: str) -> None:
    """Raises ValueError unless ``corpus`` is the one the checkpoint in ``folder`` was trained on."""
    trained = model.config.corpus
    if trained["fingerprint"] != corpus.fingerprint():
        raise ValueError(
            f"the checkpoint {folder} was trained on {trained['name']!r} ({trained['protocol']}, fingerprint "
            f"{trained['fingerprint'][:12]}), but the corpus given is {corpus.name!r} ({corpus.protocol}, "
            f"{corpus.fingerprint()[:12]}); name the former, or start from the checkpoint with recipes/finetune.py"
        )


# -- items the model has never seen ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewItems:
    """Items that are not in the corpus, known by their content."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    features: dict[str, Features]


def add_items(model: Recommender, corpus: Corpus, new: NewItems) -> Corpus:
    """The corpus with new items at the end, and the model bound to it, so that both treat them as any other.

    Raises:
        ValueError: if the model has no way from content to a score, or an id is taken.
    """
    check_reads_content(model)
    taken = set(new.ids) & set(corpus.item_ids)
    if taken:
        raise ValueError(f"item {sorted(taken)[0]!r} is in corpus {corpus.name!r} already; give new items new ids")
    if len(set(new.ids)) < len(new.ids):
        raise ValueError("two new items have one id")
    features = {name: _append(corpus.features[name], new.features[name]) for name in model.config.features}
    titles = corpus.titles or ("",) * corpus.num_items
    grown = replace(
        corpus,
        num_items=corpus.num_items + len(new.ids),
        item_ids=(corpus.item_ids or tuple(map(str, range(corpus.num_items)))) + new.ids,
        titles=titles + new.titles,
        features=features,
    )
    model.bind(grown)
    return grown


def check_reads_content(model: Recommender) -> None:
    """Raises ValueError unless the model can score items it has not been trained on."""
    kind = model.config.model_type
    if not model.config.features:
        raise ValueError(
            f"{kind} reads no content: an item without interactions has no score. "
            "Use a content model without item ids (sasrecm or msm4sr with --model.use-ids False)"
        )
    if "num_items" in model.sized_by:
        raise ValueError(
            f"this {kind} has an id vector for each of its {model.config.num_items} items, and a new item has none. "
            "Train or finetune it with --model.use-ids False to rank items by their content alone"
        )


def read_new_items(file: str | Path, model: Recommender, corpus: Corpus, encoder: str = "minilm") -> NewItems:
    """Reads new items from JSON lines: ``{"id": …, "title": …, <feature set>: content}``.

    Content of a dense set is a text, or its vector; of a ragged set a list of texts, or of vectors; of tags a list of
    words (unknown ones are left out). Texts are encoded with ``encoder``, which must be the one the checkpoint's
    features were made with.

    Args:
        file: the file.
        model: says which feature sets are needed.
        corpus: its features say their kind, width and encoder.
        encoder: name of the text encoder (:class:`~seqmm.features.text.TextEncoder`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming line, key and value.
    """
    check_reads_content(model)
    place = Path(file)
    if not place.is_file():
        raise FileNotFoundError(f"no file {place} of new items; it holds one JSON object a line")
    rows = []
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{place}, line {number}: not valid JSON ({error})") from error
        for key in ("id", *model.config.features):
            if not isinstance(row, dict) or key not in row:
                needed = ", ".join(("id", *model.config.features))
                raise ValueError(f"{place}, line {number}: {key!r} is missing; the model needs: {needed}")
        rows.append((number, row))
    if not rows:
        raise ValueError(f"{place} holds no item")
    features = {}
    for name in model.config.features:
        contents = [(f"{place}, line {number}, {name!r}", row[name]) for number, row in rows]
        features[name] = _from_content(name, corpus.features[name], contents, encoder)
        check_features(name, features[name], len(rows), str(place))
    ids, titles = (tuple(str(row.get(key, "")) for _, row in rows) for key in ("id", "title"))
    return NewItems(ids, titles, features)


def _from_content(name: str, like: Features, contents: list[tuple[str, Any]], encoder: str) -> Features:
    """Rows of one feature set, ``contents`` being (where, content) of each item."""
    lists = []
    for where, content in contents:
        # one vector or one text of a dense set is a list of one
        single = like.kind == "dense" and (isinstance(content, str) or _is_vector(content))
        row = [content] if single else content
        if not isinstance(row, list) or (like.kind == "dense" and len(row) != 1):
            raise ValueError(f"{where}: {_shown(content)} is not content of a {like.kind} feature set")
        lists.append((where, row))
    offsets = np.cumsum([0, *(len(row) for _, row in lists)])
    entries = [(where, entry) for where, row in lists for entry in row]
    if like.kind == "tags":
        known = {word: number for number, word in enumerate(like.vocabulary or ())}
        tags = [[known[word] for word in row if word in known] for _, row in lists]
        offsets = np.cumsum([0, *map(len, tags)])
        values = np.array([number for row in tags for number in row], dtype=np.int64)
        return Features("tags", values, offsets, like.vocabulary, like.provenance)
    texts = [entry for _, entry in entries if isinstance(entry, str)]
    vectors = np.zeros((len(entries), like.dim), dtype=np.float32)
    for number, (where, entry) in enumerate(entries):
        if isinstance(entry, str):
            continue
        if not _is_vector(entry) or len(entry) != like.dim:
            raise ValueError(f"{where}: expected a text or a vector of {like.dim} numbers, got {_shown(entry)}")
        vectors[number] = entry
    if texts:
        vectors[[isinstance(entry, str) for _, entry in entries]] = _encode(name, like, texts, encoder)
    return Features(like.kind, vectors, None if like.kind == "dense" else offsets, provenance=like.provenance)


def _encode(name: str, like: Features, texts: list[str], encoder: str) -> np.ndarray:
    from seqmm.features.text import TextEncoder

    said = like.provenance
    limit = said.get("max_tokens")
    made = TextEncoder(
        encoder,
        pooling=said["pooling"] if said.get("pooling") in ("mean", "cls") else None,  # type: ignore[arg-type]
        max_tokens=int(limit) if limit else None,
        revision=said.get("revision"),
    )
    for key in ("encoder", "weights", "pooling"):
        if like.provenance.get(key) != made.provenance[key]:
            raise ValueError(
                f"feature set {name!r} was made with {key} {like.provenance.get(key)!r}, but --encoder {encoder} has "
                f"{made.provenance[key]!r}; name the same encoder, or give vectors instead of texts"
            )
    return made.encode(texts, label=f"new items' {name}")


def _append(old: Features, new: Features) -> Features:
    offsets = None
    if old.offsets is not None and new.offsets is not None:
        offsets = np.concatenate([old.offsets, old.offsets[-1] + new.offsets[1:]])
    missing = None if old.missing is None else np.concatenate([old.missing, np.zeros(new.num_rows, bool)])
    return replace(old, values=np.concatenate([old.values, new.values]), offsets=offsets, missing=missing)


def _is_vector(content: object) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(x, int | float) for x in content)


def _shown(content: object) -> str:
    text = json.dumps(content, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


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
