"""A prepared corpus: interactions under one split protocol, ids, and item features.

A corpus on disk is a Hub dataset repository (README front matter ``configs:``, parquet files): ``items``, ``users``,
one config per split protocol, one per feature set. Graphs and sequences are derived at load, so a split has one source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from seqmm.checks import check_choice
from seqmm.data.card import write_card
from seqmm.data.feature_sets import Features, check_features
from seqmm.data.feature_store import feature_folder, read_features, write_feature_files
from seqmm.data.interactions import Interactions, Ragged
from seqmm.data.one_source import check_same_source
from seqmm.data.store import (
    FEATURE_FILES,
    SPLIT_FILES,
    Columns,
    ProtocolRecord,
    files_of,
    hash_ids,
    protocol_record,
    read_ids,
    read_record,
    read_split,
    write_ids,
    write_record,
    write_splits,
)
from seqmm.files import check_free, replacing
from seqmm.leftovers import put_back, tidy_inside
from seqmm.names import PROTOCOLS, SPLITS, Protocol, Split, nearest


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """What a model, a trainer and an evaluator read. Ids are 0-based and dense; no id is reserved for padding.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> print(corpus)
    synthetic (leave_one_out: train 665, validation 60, test 60; 60 users, 40 items)
    >>> corpus.save("corpora/mine")
    >>> seqmm.load_corpus("corpora/mine", features=["text"])
    <Corpus synthetic (leave_one_out: train 665, ...), features: text (ragged, 16)>
    """

    name: str
    protocol: Protocol
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
    places: tuple[str, ...] = ()
    """What opens it again: a folder, or ``org/name@commit``; several of a joined one, none of one made in memory."""

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
        folder: str | Path,
        *,
        protocol: Protocol = "leave_one_out",
        features: Sequence[str] = (),
        origin: Mapping[str, str] = MappingProxyType({}),
    ) -> Corpus:
        """Reads a prepared corpus from a folder; :func:`seqmm.load_corpus` also takes one from the Hub.

        Args:
            folder: of the corpus.
            protocol: which of its split protocols.
            features: names of the feature sets to load; () = none.
            origin: where on the Hub the folder is from: ``repository`` and ``revision``.

        Raises:
            FileNotFoundError: no corpus there, or a file of it is missing.
            ValueError: no such protocol or feature set; damaged or inconsistent files.
        """
        check_choice("protocol", protocol, PROTOCOLS)
        folder = Path(folder)
        record = read_record(folder)
        about = protocol_record(folder, record, protocol)
        items, item_ids = read_ids(folder, "items", record)
        _, user_ids = read_ids(folder, "users", record)
        splits: dict[str, Interactions] = {
            split: read_split(folder / protocol / f"{split}.parquet", about["rows"][split]) for split in SPLITS
        }
        sets = {name: read_features(folder, name, record["num_items"], record["items"]) for name in features}
        titles = items["title"].to_pylist() if "title" in items.column_names else ()
        try:
            corpus = cls(
                name=record["name"],
                protocol=protocol,
                num_users=record["num_users"],
                num_items=record["num_items"],
                splits=splits,
                features=sets,
                user_ids=user_ids,
                item_ids=item_ids,
                titles=tuple(title or "" for title in titles),
                info=about["info"],
                origin=dict(origin),
                places=(f"{origin['repository']}@{origin['revision']}" if origin else str(folder),),
            )
        except ValueError as error:
            raise ValueError(f"{folder / protocol}: {error}") from error
        _check_record(corpus, folder, about)
        return corpus

    def save(
        self,
        path: str | Path,
        *,
        item_columns: Mapping[str, Sequence[Any]] | None = None,
        user_columns: Mapping[str, Sequence[Any]] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes the corpus as a Hub-shaped folder (:mod:`seqmm.data.store`), whole or not at all.

        Into a folder that holds a corpus of the same interactions, users and items, it adds or replaces this protocol
        and these feature sets.

        Args:
            path: the folder.
            item_columns: more columns of the items table (text, brand, image urls), row i for item i; in a folder
                that is there they must be those of its table.
            user_columns: the same for users.
            overwrite: replace a folder that holds another corpus, with all its protocols and feature sets.

        Raises:
            ValueError: the folder holds something else, or a corpus of other interactions.
        """
        folder = Path(path)
        put_back(folder)
        if overwrite or not folder.exists() or not any(folder.iterdir()):
            _save_new(self, folder, item_columns or {}, user_columns or {})
        else:
            _save_beside(self, folder, item_columns or {}, user_columns or {})

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

    def histories(self, split: Split) -> Ragged:
        """What is known of each user BEFORE ``split``, in order: train for validation, train + validation for test.

        ``histories("train")`` is the train split itself: the sequences a model trains on.
        """
        names = {"train": ["train"], "validation": ["train"], "test": ["train", "validation"]}[split]
        return self._cached_rows(tuple(names))

    def targets(self, split: Split) -> Ragged:
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


def _check(corpus: Corpus) -> None:
    """Raises ValueError unless the corpus is consistent; every consumer relies on it."""
    where = f"corpus {corpus.name!r}"
    if corpus.protocol not in PROTOCOLS:
        raise ValueError(f"{where}: unknown protocol {corpus.protocol!r}{nearest(corpus.protocol, PROTOCOLS)}")
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


def _save_new(corpus: Corpus, folder: Path, item_columns: Columns, user_columns: Columns) -> None:
    check_free(folder, "corpus.json", "a prepared corpus", overwrite=True)
    with replacing(folder, files_of(folder)) as temporary:
        write_ids(corpus, temporary, item_columns, user_columns)
        write_splits(corpus, temporary / corpus.protocol)
        for name, features in corpus.features.items():
            write_feature_files(temporary / feature_folder(name), name, features, corpus.num_items, corpus.item_ids)
        write_record(temporary, corpus)
        write_card(temporary)


def _save_beside(corpus: Corpus, folder: Path, item_columns: Columns, user_columns: Columns) -> None:
    record = read_record(folder)
    tidy_inside(folder)
    check_same_source(corpus, folder, record, item_columns, user_columns)
    # Everything is written before anything is renamed, so a failed write changes nothing. The record comes last: killed
    # before it, a new protocol is a folder that no record lists and the next save replaces; one that was there has rows
    # that its recorded fingerprint does not fit, which loading says. Feature sets carry their own hashes.
    with ExitStack() as stack:
        write_splits(corpus, stack.enter_context(replacing(folder / corpus.protocol, SPLIT_FILES)))
        for name, features in corpus.features.items():
            temporary = stack.enter_context(replacing(folder / feature_folder(name), FEATURE_FILES))
            write_feature_files(temporary, name, features, corpus.num_items, corpus.item_ids)
    write_record(folder, corpus)
    write_card(folder)


def _check_record(corpus: Corpus, folder: Path, about: ProtocolRecord) -> None:
    """Raises ValueError unless what was read is what corpus.json says of the protocol."""
    place = folder / corpus.protocol
    if corpus.fingerprint() != about["fingerprint"]:  # one pass of sha256, which whoever trains needs anyway
        raise ValueError(
            f"{place}: the interactions are not those corpus.json was written with (fingerprint "
            f"{corpus.fingerprint()[:16]}, recorded {about['fingerprint'][:16]}); a copy or a write was incomplete: "
            f"copy the folder again, or prepare protocol {corpus.protocol!r} into it again"
        )
