"""Items a model has never seen, known by their content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features, check_features
from seqmm.features.encoders.text import TextEncoder
from seqmm.files import read_text
from seqmm.names import brief
from seqmm.parsing import parse_json

if TYPE_CHECKING:
    from seqmm.models.base import Recommender

LARGEST = float(np.finfo(np.float32).max)


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
    _check_ids(new.ids, corpus, "new items")
    features = {name: _append(made, new.features[name]) for name, made in model.feature_sets(corpus).items()}
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
    if not model.config.reads():
        raise ValueError(
            f"{kind} reads no content: an item without interactions has no score. "
            "Use a content model without item ids (sasrecm or msm4sr with `model.use_ids=False`)"
        )
    if "num_items" in model.sized_by:
        raise ValueError(
            f"this {kind} has an id vector for each of its {model.config.num_items} items, and a new item has none. "
            "Train or finetune it with `model.use_ids=False` to rank items by their content alone"
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
        encoder: name of the text encoder (:class:`~seqmm.features.encoders.text.TextEncoder`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming line, key and value.
    """
    check_reads_content(model)
    place = Path(file)
    if not place.is_file():
        raise FileNotFoundError(f"no file {place} of new items; it holds one JSON object a line")
    sets, rows = model.feature_sets(corpus), []
    text = read_text(place)
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON may hold other line ends in a text
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise ValueError(f"{place}, line {number}: not valid JSON ({error})") from error
        _check_item(row, sets, f"{place}, line {number}")
        rows.append((number, row))
    if not rows:
        raise ValueError(f"{place} holds no item")
    ids = tuple(str(row["id"]) for _, row in rows)
    _check_ids(ids, corpus, str(place))
    features = {}
    for name, like in sets.items():
        contents = [(f"{place}, line {number}, {name!r}", row[name]) for number, row in rows]
        features[name] = _from_content(name, like, contents, encoder)
        check_features(name, features[name], len(rows), str(place))
    return NewItems(ids, tuple(row.get("title") or "" for _, row in rows), features)


def _check_ids(ids: Sequence[str], corpus: Corpus, where: str) -> None:
    """Whether ids are new ones, each of one item."""
    if taken := set(ids) & set(corpus.item_ids):
        raise ValueError(f"{where}: item {min(taken)!r} is in corpus {corpus.name!r} already; give new items new ids")
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"{where}: two new items have one id, {twice!r}; leave one of them out")


def _check_item(row: Any, sets: Iterable[str], where: str) -> None:
    """Whether a line holds an item: its id, perhaps a title, and something for each set; other keys are not read."""
    for key in ("id", *sets):
        if not isinstance(row, dict) or key not in row:
            needed = ", ".join(("id", *sets))
            raise ValueError(f"{where}: {key!r} is missing; the model needs: {needed}")
    name, title = row["id"], row.get("title")
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise ValueError(f"{where}: 'id' is {brief(name, 60)}; expected a text, or a whole number")
    if title is not None and not isinstance(title, str):
        raise ValueError(f"{where}: 'title' is {brief(title, 60)}; expected a text")


def _from_content(name: str, like: Features, contents: list[tuple[str, Any]], encoder: str) -> Features:
    """Rows of one feature set, ``contents`` being (where, content) of each item."""
    lists = []
    for where, content in contents:
        # one vector or one text of a dense set is a list of one
        single = like.kind == "dense" and (isinstance(content, str) or _is_vector(content))
        row = [content] if single else content
        if not isinstance(row, list) or (like.kind == "dense" and len(row) != 1):
            raise ValueError(f"{where}: {brief(content, 60)} is not content of a {like.kind} feature set")
        lists.append((where, row))
    offsets = np.cumsum([0, *(len(row) for _, row in lists)])
    entries = [(where, entry) for where, row in lists for entry in row]
    if like.kind == "tags":
        for where, word in entries:
            if not isinstance(word, str):
                raise ValueError(f"{where}: expected a list of words, got {brief(word, 60)} in it")
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
            raise ValueError(f"{where}: expected a text or a vector of {like.dim} numbers, got {brief(entry, 60)}")
        if (wrong := next((x for x in entry if not abs(x) <= LARGEST), None)) is not None:
            raise ValueError(f"{where}: {brief(wrong, 60)} is no finite number that float32 holds")
        vectors[number] = entry
    if texts:
        vectors[[isinstance(entry, str) for _, entry in entries]] = _encode(name, like, texts, encoder)
    return Features(like.kind, vectors, None if like.kind == "dense" else offsets, provenance=like.provenance)


def _encode(name: str, like: Features, texts: list[str], encoder: str) -> np.ndarray:
    said = like.provenance
    limit = said.get("max_tokens")
    made = TextEncoder(
        encoder,
        pooling=said["pooling"] if said.get("pooling") in ("mean", "cls") else None,  # type: ignore[arg-type]
        max_tokens=int(limit) if limit else None,
        revision=said.get("revision"),
    )
    for key in ("weights", "pooling"):  # what the weights are called does not matter
        if like.provenance.get(key) != made.provenance[key]:
            raise ValueError(
                f"feature set {name!r} was made with {key} {like.provenance.get(key)!r}, but the encoder {encoder} has "
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
    return isinstance(content, list) and bool(content) and all(type(x) in (int, float) for x in content)
