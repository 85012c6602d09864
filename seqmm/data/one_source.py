"""One corpus, one source: what a folder holds must be of the same rows and items as what is added to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmm.data.feature_store import read_features
from seqmm.data.interactions import Interactions
from seqmm.data.store import CorpusRecord, hash_ids, read_parquet, read_split
from seqmm.names import SPLITS

if TYPE_CHECKING:
    from seqmm.data.corpus import Corpus

_TREATMENT = ("seed", "index_order", "tie_order", "order", "duplicates", "k_core", "unknown_items", "drop_untrained")
"""Entries of a corpus' info that decide which rows it keeps, in which order and under which numbers."""

_REMEDY = "write to another folder, or replace this one as a whole (`overwrite=True`)"


def check_digest(folder: Path, record: CorpusRecord, digest: object, what: str) -> None:
    """Whether every protocol of a folder was prepared from the rows of one digest.

    Args:
        folder: of the corpus.
        record: its corpus.json.
        digest: of the rows (:func:`~seqmm.data.filtering.digest_of`); None = nobody knows.
        what: they are, for the error.

    Raises:
        ValueError: one was prepared from others.
    """
    for protocol, about in record["protocols"].items():
        known = about["info"].get("source_digest")
        if digest is not None and known is not None and known != digest:
            raise ValueError(
                f"{folder} holds another corpus: its protocol {protocol!r} was prepared from other interactions "
                f"({_read(about['info'])}) than {what}; protocols share a folder only if ids, times and order of the "
                f"rows are the same: {_REMEDY}"
            )


def check_same_source(
    corpus: Corpus,
    folder: Path,
    record: CorpusRecord,
    item_columns: Mapping[str, Sequence[Any]],
    user_columns: Mapping[str, Sequence[Any]],
) -> None:
    """Whether a corpus may be added to a folder.

    Its interactions must be those of the folder's other protocols, all splits together, in the same order; so must
    its users and items, and of their tables every column that it brings.

    Raises:
        ValueError: naming what differs.
    """
    check_digest(folder, record, corpus.info.get("source_digest"), f"{corpus.name!r} ({_read(corpus.info)})")
    settings = _unlike_settings(corpus, record)
    for what, ids, held in (
        ("items", corpus.item_ids, record["items"]),
        ("users", corpus.user_ids, record["users"]),
    ):
        if held != hash_ids(ids):
            raise ValueError(
                f"{folder} holds another corpus: its {what} are not those of {corpus.name!r} ({corpus.protocol})"
                f"{settings}; protocols share a folder only if they keep the same users and items in the same order: "
                f"{_REMEDY}"
            )
    other = next((name for name in record["protocols"] if name != corpus.protocol), None)
    if other is not None:
        rows = record["protocols"][other]["rows"]
        known = [read_split(folder / other / f"{split}.parquet", rows[split]) for split in SPLITS]
        if not _equal(_rows(known), _rows([corpus.splits[split] for split in SPLITS])):
            raise ValueError(
                f"{folder} holds another corpus: the interactions of its protocol {other!r}, or their order, are not "
                f"those of {corpus.name!r} ({corpus.protocol}){settings}; {_REMEDY}"
            )
    titles = {"title": corpus.titles} if corpus.titles else {}
    for what, columns in (("items", {**titles, **item_columns}), ("users", user_columns)):
        _check_columns(folder, what, columns)


def check_same_features(corpus: Corpus, folder: Path, record: CorpusRecord) -> None:
    """Whether the feature sets of a corpus, where the folder has sets of their names, are these sets.

    Raises:
        ValueError: naming one that differs.
    """
    for name, features in corpus.features.items():
        if not (folder / name / "features.json").is_file():
            continue
        known = read_features(folder, name, record["num_items"], record["items"])
        pairs = ((features.values, known.values), (features.offsets, known.offsets))
        if known.vocabulary != features.vocabulary or not all(_same(*pair) for pair in pairs):
            raise ValueError(
                f"{folder} has a feature set {name!r} of other values, which its protocols were prepared with; leave "
                f"it out, give it another name, or {_REMEDY}"
            )


def _read(info: Mapping[str, Any]) -> str:
    rows = info.get("rows_read")
    return f"{rows:,} of {info.get('source')}" if isinstance(rows, int) else str(info.get("source"))


def _unlike_settings(corpus: Corpus, record: CorpusRecord) -> str:
    """Settings in which the folder's protocols and a new one differ, for the error."""
    about: dict[str, Any] = next((known["info"] for known in record["protocols"].values()), {})
    unlike = [
        f"{key} is {corpus.info[key]!r}, was {about[key]!r}"
        for key in _TREATMENT
        if key in about and key in corpus.info and about[key] != corpus.info[key]
    ]
    return f" ({', '.join(unlike)})" if unlike else ""


def _rows(parts: Sequence[Interactions]) -> list[np.ndarray]:
    """User, item, position, time of all splits, by user and position."""
    times = [np.full(len(part), -1) if part.timestamp is None else part.timestamp for part in parts]
    user, item, position = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("user", "item", "position")
    )
    order = np.lexsort((position, user))
    return [column[order] for column in (user, item, position, np.concatenate(times))]


def _equal(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))


def _same(ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return np.array_equal(ours.astype(theirs.dtype), theirs)


def _check_columns(folder: Path, what: str, columns: Mapping[str, Sequence[Any]]) -> None:
    if not columns:
        return
    file = folder / what / f"{what}.parquet"
    table = read_parquet(file)
    for name, values in columns.items():
        if name not in table.column_names:
            raise ValueError(f"{file} has no column {name!r}, which a table of {what} now brings; {_REMEDY}")
        known = table[name].to_pylist()
        row = next((n for n, pair in enumerate(zip(known, values, strict=True)) if not _alike(*pair)), None)
        if row is not None:
            raise ValueError(
                f"{file}: column {name!r} of {what[:-1]} {row} is {known[row]!r:.60}, and {values[row]!r:.60} in the "
                f"table that it is to share a folder with; {_REMEDY}"
            )


def _alike(ours: Any, theirs: Any) -> bool:
    """Equal, as a table on disk tells it: null and "" and [] are nothing."""
    theirs = theirs.tolist() if isinstance(theirs, np.ndarray | np.generic) else theirs
    theirs = list(theirs) if isinstance(theirs, tuple) else theirs
    return bool(ours == theirs) or (not ours and not theirs and ours != 0 and theirs != 0)
