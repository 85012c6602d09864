"""One corpus of several domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.identity import describe, difference
from seqmm.data.interactions import Interactions
from seqmm.names import SPLITS


def concat_corpora(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus of several domains, for pretraining: users and items stay apart, ids become ``name/id``.

    Raises:
        ValueError: other protocols, the same name twice, or feature sets that differ in name, kind, width or
            provenance.

    >>> import dataclasses
    >>> import seqmm
    >>> films = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> books = dataclasses.replace(seqmm.synthetic_corpus(num_users=30, num_items=20, seed=1), name="books")
    >>> both = seqmm.concat_corpora([films, books])
    >>> both.num_items, both.item_ids[-1]
    (60, 'books/item-19')
    """
    _check_joinable(corpora)
    first = corpora[0]
    first_user = np.cumsum([0] + [corpus.num_users for corpus in corpora])
    first_item = np.cumsum([0] + [corpus.num_items for corpus in corpora])
    splits: dict[str, Interactions] = {}
    for split in SPLITS:
        parts = [corpus.splits[split] for corpus in corpora]
        times = [np.full(len(part), -1) if part.timestamp is None else part.timestamp for part in parts]
        splits[split] = Interactions(
            np.concatenate([part.user + start for part, start in zip(parts, first_user, strict=False)]),
            np.concatenate([part.item + start for part, start in zip(parts, first_item, strict=False)]),
            np.concatenate([part.position for part in parts]),
            None if all(part.timestamp is None for part in parts) else np.concatenate(times),
        )
    return Corpus(
        name="+".join(corpus.name for corpus in corpora),
        protocol=first.protocol,
        num_users=int(first_user[-1]),
        num_items=int(first_item[-1]),
        splits=splits,
        features={name: _concat_features(name, corpora) for name in first.features},
        user_ids=tuple(
            f"{corpus.name}/{user}" for corpus in corpora for user in corpus.user_ids or range(corpus.num_users)
        ),
        item_ids=tuple(
            f"{corpus.name}/{item}" for corpus in corpora for item in corpus.item_ids or range(corpus.num_items)
        ),
        titles=tuple(title for corpus in corpora for title in corpus.titles or ("",) * corpus.num_items),
        info={corpus.name: corpus.info for corpus in corpora},
        places=tuple(place for corpus in corpora for place in corpus.places)
        if all(corpus.places for corpus in corpora)
        else (),
    )


def _check_joinable(corpora: Sequence[Corpus]) -> None:
    first = corpora[0]
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < len(names):
        raise ValueError(f"cannot concatenate corpora of equal name ({', '.join(names)}): their ids would collide")
    for corpus in corpora[1:]:
        if corpus.protocol != first.protocol:
            raise ValueError(
                f"cannot concatenate {first.name!r} ({first.protocol}) and {corpus.name!r} ({corpus.protocol}); "
                "load both with one protocol"
            )
        if set(corpus.features) != set(first.features):
            raise ValueError(
                f"{first.name!r} was loaded with features {sorted(first.features)}, {corpus.name!r} with "
                f"{sorted(corpus.features)}; load both with the same features=(…)"
            )


def _concat_features(name: str, corpora: Sequence[Corpus]) -> Features:
    sets = [corpus.features[name] for corpus in corpora]
    first = sets[0]
    for other, corpus in zip(sets[1:], corpora[1:], strict=True):
        tags = first.kind == other.kind == "tags"  # which get one vocabulary
        if not tags and (unlike := difference(describe(first), describe(other))) is not None:
            what, ours, theirs = unlike
            raise ValueError(
                f"feature set {name!r}: {what} {ours!r} in {corpora[0].name!r}, {theirs!r} in {corpus.name!r}; "
                "extract both with the same encoder"
            )
    values, vocabulary = [part.values for part in sets], None
    if first.kind == "tags":
        vocabulary = tuple(dict.fromkeys(word for part in sets for word in part.vocabulary or ()))
        index = {word: number for number, word in enumerate(vocabulary)}
        values = [np.array([index[word] for word in part.vocabulary or ()], np.int64)[part.values] for part in sets]
    offsets = None
    if first.kind != "dense":
        lengths = [np.diff(part.offsets) for part in sets if part.offsets is not None]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    missing = None
    if any(part.missing is not None for part in sets):
        missing = np.concatenate(
            [np.zeros(part.num_rows, bool) if part.missing is None else part.missing for part in sets]
        )
    return Features(first.kind, np.concatenate(values), offsets, vocabulary, dict(first.provenance), missing)
