"""A prepared corpus: interactions under one split protocol, ids, and item features.

A corpus on disk is a Hub dataset repository (README front matter ``configs:``, parquet files): ``items``, ``users``,
one config per split protocol, one per feature set. Graphs and sequences are derived at load, so a split has one source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from seqmm.graph import Graph

SPLITS = ("train", "validation", "test")
PROTOCOLS = ("leave_one_out", "ratio", "temporal", "cold", "given")


@dataclass(frozen=True)
class Ragged:
    """Rows of varying length: row ``r`` is ``values[offsets[r] : offsets[r + 1]]`` (CSR without weights)."""

    offsets: np.ndarray  # [rows + 1] int64
    values: np.ndarray  # [N] or [N, d]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """``[rows]`` int64."""
        return np.diff(self.offsets)

    @classmethod
    def from_pairs(cls, rows: np.ndarray, values: np.ndarray, num_rows: int) -> Ragged:
        """Groups ``values`` by ``rows``; the order inside a row is the order given."""
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=num_rows)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), values[order])


@dataclass(frozen=True)
class Interactions:
    """Columns of equal length, sorted by (user, position).

    ``position`` is the 0-based rank of the row in its user's whole history (all splits together), so histories across
    splits can be put in order. ``timestamp`` is in seconds, -1 where a row has none, None where no row has one.
    """

    user: np.ndarray  # int64
    item: np.ndarray  # int64
    position: np.ndarray  # int64
    timestamp: np.ndarray | None = None  # int64

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Features:
    """One feature set of the items, row ``i`` for item ``i``.

    dense: ``values [n, d]``. ragged: ``offsets [n + 1]``, ``values [N, d]``. tags: ``offsets``, ``values [N]`` int64
    ids into ``vocabulary`` (brands, categories, genres). ``provenance`` says how it was made (encoder, pooling …).
    """

    kind: Literal["dense", "ragged", "tags"]
    values: np.ndarray
    offsets: np.ndarray | None = None
    vocabulary: tuple[str, ...] | None = None
    provenance: dict[str, str] = field(default_factory=dict)
    missing: np.ndarray | None = None
    """``[n]`` bool: items the source had nothing of, whose dense row is a filling (the mean vector)."""

    @property
    def num_rows(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """Width of a vector; for tags the size of the vocabulary."""
        return len(self.vocabulary or ()) if self.kind == "tags" else int(self.values.shape[1])


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """What a model, a trainer and an evaluator read. Ids are 0-based and dense; no id is reserved for padding."""

    name: str
    protocol: str
    num_users: int
    num_items: int
    splits: dict[str, Interactions]
    features: dict[str, Features] = field(default_factory=dict)
    user_ids: tuple[str, ...] = ()
    """External ids: ``user_ids[u]`` is the source's name of user ``u``."""
    item_ids: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    """Item titles ("" where the source has none); for people, never read by a model."""
    info: dict[str, object] = field(default_factory=dict)
    """How it was prepared (source, permutation seed, tie order and share, k-core); for the card, no model reads it."""
    origin: dict[str, str] = field(default_factory=dict)
    """Where on the Hub it was loaded from: ``repository`` and ``revision``, the commit; empty for a folder."""

    def __post_init__(self) -> None:
        _check(self)

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {len(part):,}" for name, part in self.splits.items())
        return f"{self.name} ({self.protocol}: {sizes}; {self.num_users:,} users, {self.num_items:,} items)"

    def __repr__(self) -> str:
        sets = ", ".join(f"{name} ({made.kind}, {made.dim})" for name, made in self.features.items())
        return f"<Corpus {self}, features: {sets or 'none'}>"

    @classmethod
    def load(
        cls,
        path_or_repo: str | Path,
        *,
        protocol: str = "leave_one_out",
        features: Sequence[str] = (),
        revision: str | None = None,
    ) -> Corpus:
        """A prepared corpus from a folder or a Hub dataset repository.

        Args:
            path_or_repo: folder, or ``org/name`` on the Hub. Of a repository only the ids, this protocol and these
                feature sets are downloaded.
            protocol: which of its split protocols.
            features: names of the feature sets to load; () = none.
            revision: of a Hub repository: a branch, tag or commit; None = main.

        Raises:
            FileNotFoundError: no such folder or repository, the Hub out of reach, a file missing.
            ValueError: no such protocol or feature set; damaged or inconsistent files.
        """
        from seqmm.data.schema import load_corpus
        from seqmm.hub import corpus_files, local_folder, origin_of

        path = str(path_or_repo)
        folder = local_folder(path, revision=revision, kind="dataset", files=corpus_files(protocol, features))
        return load_corpus(folder, protocol, features, origin_of(path, folder))

    def save(
        self,
        path: str | Path,
        *,
        item_columns: Mapping[str, Sequence[Any]] | None = None,
        user_columns: Mapping[str, Sequence[Any]] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes the corpus as a Hub-shaped folder (:mod:`seqmm.data.schema`), whole or not at all.

        Into a folder that holds the same users and items, it adds or replaces this protocol and these feature sets.

        Args:
            path: the folder.
            item_columns: more columns of the items table (text, brand, image urls), row i for item i; only for a new
                folder.
            user_columns: the same for users.
            overwrite: replace a folder that holds another corpus.

        Raises:
            ValueError: the folder holds something else.
        """
        from seqmm.data.schema import save_corpus

        save_corpus(self, path, item_columns or {}, user_columns or {}, overwrite)

    @classmethod
    def concat(cls, corpora: Sequence[Corpus]) -> Corpus:
        """One corpus of several domains, for pretraining: users and items stay apart, ids become ``name/id``.

        Raises:
            ValueError: other protocols, the same name twice, or feature sets that differ in name, kind, width or
                provenance.
        """
        return _concat(corpora)

    def fingerprint(self) -> str:
        """sha256 (hex) over protocol, interactions and external ids; features, titles and the name are not in it.

        A split without any known time counts as one without times, which is what it is once saved.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.protocol} {self.num_users} {self.num_items}".encode())
        for name in SPLITS:
            part = self.splits[name]
            timed = part.timestamp is not None and bool((part.timestamp != -1).any())
            for column in (part.user, part.item, part.position, part.timestamp if timed else None):
                if column is None:
                    digest.update(b"none")
                else:
                    digest.update(np.ascontiguousarray(column, dtype="<i8").data)
        digest.update(hash_ids(self.user_ids).encode() + hash_ids(self.item_ids).encode())
        return digest.hexdigest()

    def graph(self) -> Graph:
        """The user-item graph of the TRAIN split: nodes are users ``0..U-1``, then items ``U..U+I-1``."""
        from seqmm.graph import Graph

        train = self.splits["train"]
        return Graph.bipartite(train.user, train.item, self.num_users, self.num_items)

    def interaction_matrix(self) -> Graph:
        """The user x item block ``[U, I]`` of :meth:`graph`, as a graph of its own (unnormalised)."""
        from seqmm.graph import Graph

        train = self.splits["train"]
        return Graph.block(train.user, train.item, self.num_users, self.num_items)

    def histories(self, split: str) -> Ragged:
        """What is known of each user BEFORE ``split``, in order: train for validation, train + validation for test.

        ``histories("train")`` is the train split itself: the sequences a model trains on.
        """
        names = {"train": ["train"], "validation": ["train"], "test": ["train", "validation"]}[split]
        return self._cached_rows(tuple(names))

    def targets(self, split: str) -> Ragged:
        """Items of ``split`` by user, in order."""
        return self._cached_rows((split,))

    def _cached_rows(self, names: tuple[str, ...]) -> Ragged:
        if names not in self._rows:
            parts = [self.splits[name] for name in names]
            user = np.concatenate([part.user for part in parts])
            item = np.concatenate([part.item for part in parts])
            position = np.concatenate([part.position for part in parts])
            order = np.lexsort((position, user))
            self._rows[names] = Ragged.from_pairs(user[order], item[order], self.num_users)
        return self._rows[names]

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], Ragged]:
        return {}


def hash_ids(ids: tuple[str, ...]) -> str:
    """sha256 (hex) of external ids in order."""
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()


def check_features(name: str, features: Features, num_items: int, where: str) -> None:
    """Raises ValueError for rows unlike the items, non-finite values or wrong offsets; ``where`` names the file."""
    offsets, values = features.offsets, features.values
    if features.num_rows != num_items:
        raise ValueError(
            f"{where}: feature set {name!r} has {features.num_rows} rows but the corpus has {num_items} items; "
            "row i must belong to item i of the items table: extract the features again for this corpus"
        )
    if features.missing is not None and (features.kind != "dense" or features.missing.shape != (num_items,)):
        raise ValueError(
            f"{where}: feature set {name!r} is {features.kind} with a mask of shape {features.missing.shape}; a mask "
            f"of missing items belongs to a dense set, one entry an item ({num_items})"
        )
    if features.kind == "tags":
        if features.vocabulary is None or offsets is None or values.ndim != 1:
            raise ValueError(f"{where}: tags {name!r} need offsets, 1-d ids and a vocabulary")
        outside = np.flatnonzero((values < 0) | (values >= len(features.vocabulary)))
        if len(outside):
            raise ValueError(
                f"{where}: tags {name!r} hold id {values[outside[0]]} at entry {outside[0]}, outside the vocabulary of "
                f"{len(features.vocabulary)}; write the tags again"
            )
    elif values.ndim != 2 or (features.kind == "ragged") != (offsets is not None):
        raise ValueError(
            f"{where}: feature set {name!r} is {features.kind} with values of shape {values.shape}; expected 2-d "
            "values, and offsets for ragged sets only"
        )
    if offsets is not None and (offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any()):
        raise ValueError(f"{where}: offsets of feature set {name!r} must rise from 0 to {len(values)} (its values)")
    if features.kind != "tags":
        _check_finite(name, features, where)


def _check_finite(name: str, features: Features, where: str) -> None:
    for start in range(0, len(features.values), 65536):  # in blocks: a mask of the whole would double the memory
        block = features.values[start : start + 65536]
        if np.isfinite(block).all():
            continue
        row, column = (int(x) for x in np.argwhere(~np.isfinite(block))[0])
        value, row = block[row, column], row + start
        item = row if features.offsets is None else int(np.searchsorted(features.offsets, row, side="right")) - 1
        raise ValueError(
            f"{where}: feature set {name!r} has the value {value} in row {row}, column {column} (item {item}); "
            "replace it (a missing item: zeros or the mean, or no row in a ragged set) or extract it again"
        )


def _check(corpus: Corpus) -> None:
    """Raises ValueError unless the corpus is consistent; every consumer relies on it."""
    where = f"corpus {corpus.name!r}"
    if corpus.protocol not in PROTOCOLS:
        raise ValueError(f"{where}: unknown protocol {corpus.protocol!r}; known: {', '.join(PROTOCOLS)}")
    if set(corpus.splits) != set(SPLITS):
        raise ValueError(f"{where}: splits {sorted(corpus.splits)} must be {', '.join(SPLITS)} (may be empty)")
    for what, names, expected in (
        ("user_ids", corpus.user_ids, corpus.num_users),
        ("item_ids", corpus.item_ids, corpus.num_items),
        ("titles", corpus.titles, corpus.num_items),
    ):
        if names and len(names) != expected:
            raise ValueError(f"{where}: {len(names)} {what} for {expected}; give one each, or none at all")
    for split, part in corpus.splits.items():
        for what, column, limit in (("user", part.user, corpus.num_users), ("item", part.item, corpus.num_items)):
            bad = np.flatnonzero((column < 0) | (column >= limit))
            if len(bad):
                raise ValueError(
                    f"{where}: {split} row {bad[0]} has {what} {column[bad[0]]}, outside 0..{limit - 1}; prepare again"
                )
        columns = [part.item, part.position] + ([] if part.timestamp is None else [part.timestamp])
        if any(len(column) != len(part.user) for column in columns):
            raise ValueError(f"{where}: columns of {split} differ in length")
        later = (np.diff(part.user) > 0) | ((np.diff(part.user) == 0) & (np.diff(part.position) > 0))
        if not later.all():
            row = int(np.flatnonzero(~later)[0]) + 1
            raise ValueError(
                f"{where}: {split} row {row} (user {part.user[row]}, position {part.position[row]}) is not after "
                "the row before it; rows must be sorted by (user, position), positions must be unique in a user"
            )
    trained = np.bincount(corpus.splits["train"].user, minlength=corpus.num_users) > 0
    for split in ("validation", "test"):
        user = corpus.splits[split].user
        lost = user[~trained[user]]
        if len(lost):
            shown = corpus.user_ids[lost[0]] if corpus.user_ids else lost[0]
            raise ValueError(
                f"{where}: user {shown!r} (index {lost[0]}) has {split} rows but no train row "
                f"({len(np.unique(lost))} such users); drop these users or give them train rows"
            )
    for name, features in corpus.features.items():
        check_features(name, features, corpus.num_items, where)


def _concat(corpora: Sequence[Corpus]) -> Corpus:
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
    first_user = np.cumsum([0] + [corpus.num_users for corpus in corpora])
    first_item = np.cumsum([0] + [corpus.num_items for corpus in corpora])
    splits = {}
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
        name="+".join(names),
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
    )


def _concat_features(name: str, corpora: Sequence[Corpus]) -> Features:
    sets = [corpus.features[name] for corpus in corpora]
    first = sets[0]
    for other, corpus in zip(sets[1:], corpora[1:], strict=True):
        for what, ours, theirs in (
            ("kind", first.kind, other.kind),
            ("width", first.kind == "tags" or first.dim, other.kind == "tags" or other.dim),
            ("provenance", first.provenance, other.provenance),
        ):
            if ours != theirs:
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
