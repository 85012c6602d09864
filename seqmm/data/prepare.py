"""A raw log and what is known of its items become a corpus: the one way in, for every reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from tqdm import tqdm

from seqmm.data import splits
from seqmm.data.corpus import PROTOCOLS, SPLITS, Corpus, Features, Interactions, check_features
from seqmm.data.filtering import (
    Duplicates,
    IndexOrder,
    Log,
    TieOrder,
    chronological,
    dense,
    k_core,
    tie_share,
    without_duplicates,
)

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Prepared:
    """A corpus and the columns of its items and users tables that no model reads."""

    corpus: Corpus
    item_columns: dict[str, list[Any]] = field(default_factory=dict)
    user_columns: dict[str, list[Any]] = field(default_factory=dict)
    k_core_steps: list[tuple[int, int, int]] = field(default_factory=list)
    """(interactions, users, items) before each pass; the last one is what stayed."""

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """See :meth:`Corpus.save`."""
        self.corpus.save(path, item_columns=self.item_columns, user_columns=self.user_columns, overwrite=overwrite)


def prepare(
    log: Log,
    *,
    name: str,
    protocol: str = "leave_one_out",
    seed: int = 0,
    k: int = 5,
    duplicates: Duplicates = "first",
    tie_order: TieOrder = "seeded",
    index_order: IndexOrder = "permuted",
    drop_untrained: bool = False,
    validation: float = 0.1,
    test: float = 0.1,
    items: pl.DataFrame | None = None,
    tags: Sequence[str] = (),
    features: Mapping[str, tuple[Path, str]] | None = None,
    info: Mapping[str, object] | None = None,
) -> Prepared:
    """Orders, filters, splits and numbers a log.

    Args:
        log: of a reader.
        name: of the corpus.
        protocol: any of :data:`~seqmm.data.corpus.PROTOCOLS`; ``given`` takes ``log.label``.
        seed: of the id permutation, the order of ties, and the random protocols.
        k: of the iterated k-core; 0 or 1 = none.
        duplicates: which of a user's rows with one item stays.
        tie_order: of rows of one user and time.
        index_order: ``permuted``: random ids; ``source``: the source's order, which on public files tells labels.
        drop_untrained: with ``given``, drop users without a train row instead of refusing them; ``temporal`` and
            ``cold`` always drop them.
        validation: share of the rows (``temporal``) or items (``cold``).
        test: the same.
        items: a table with ``id`` and any other columns; ``title`` becomes the corpus' titles.
        tags: columns of ``items`` (a string, or a list of them) that become tag features.
        features: name -> (.npy file, name of the encoder). Row r belongs to row r of ``items``; without that table, to
            the item whose integer id is r.
        info: more for the card (licence, citation).

    Raises:
        ValueError: nothing left after the k-core, an empty split, a user without train rows, no order to go by,
            features unlike the items.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    _check_order(log, protocol)
    record: dict[str, object] = {
        "source": log.source,
        "rows_read": len(log),
        "rows_incomplete": log.incomplete,
        "seed": seed,
    }
    item_ids, whole = log.item_ids, len(log)

    bar = tqdm(total=5, desc="order", unit="step", leave=False, disable=None)
    log = log.take(chronological(log, tie_order, seed))
    log = log.take(without_duplicates(log, duplicates))
    record |= {"duplicates": duplicates, "duplicates_removed": whole - len(log)}
    _step(bar, "k-core")
    keep, steps = k_core(log.user, log.item, k)
    record |= {"k_core": k, "k_core_steps": [step[0] for step in steps]}
    if not keep.any():
        raise ValueError(
            f"{log.source}: nothing is left of {len(log)} interactions after the {k}-core "
            f"(rows by pass: {', '.join(str(step[0]) for step in steps)}); use a smaller k, or more data"
        )
    log = log.take(keep)
    record |= {"tie_order": tie_order, "tie_share": tie_share(log), "index_order": index_order}
    if log.timestamp is not None:
        record["rows_without_time"] = int((log.timestamp == -1).sum())

    _step(bar, "split")
    labels = _labels(log, protocol, seed, validation, test)
    trained = splits.has_train(log.user, labels)
    if not trained.all():
        lost = np.unique(log.user[~trained])
        if protocol == "given" and not drop_untrained:
            raise ValueError(
                f"{log.source}: user {log.user_ids[lost[0]]!r} has validation or test rows but no train row "
                f"({len(lost)} such users); give them train rows, or drop them (--drop-untrained True)"
            )
        record["users_without_train_dropped"] = len(lost)
        log, labels = log.take(trained), labels[trained]
    for label, split in enumerate(SPLITS):
        if not (labels == label).any():
            raise ValueError(
                f"{log.source}: the {split} split of protocol {protocol!r} is empty ({len(log)} interactions of "
                f"{len(np.unique(log.user))} users after the {k}-core); use more data, a smaller k, or another protocol"
            )

    _step(bar, "number")
    user, user_code = dense(log.user, index_order, seed, "users")
    item, item_code = dense(log.item, index_order, seed, "items")
    first = np.searchsorted(log.user, log.user)  # rows are sorted by source user: where each one's begin
    position = np.arange(len(log)) - first
    order = np.lexsort((position, user))
    timestamp = None if log.timestamp is None else log.timestamp[order]
    rows = Interactions(user[order], item[order], position[order], timestamp)
    ids = [item_ids[code] for code in item_code]

    _step(bar, "items and features")
    catalogue, row_of = _catalogue(items, ids)
    sets = _tags(catalogue, tags)
    for feature, (file, encoder) in (features or {}).items():
        sets[feature] = _from_file(
            feature, file, encoder, log.item_ids, ids, row_of, None if items is None else len(items)
        )
    titles = tuple(catalogue.pop("title")) if "title" in catalogue else ()
    bar.close()
    corpus = Corpus(
        name=name,
        protocol=protocol,
        num_users=len(user_code),
        num_items=len(item_code),
        splits=splits.split(rows, labels[order]),
        features=sets,
        user_ids=tuple(log.user_ids[code] for code in user_code),
        item_ids=tuple(ids),
        titles=titles,
        info=record | dict(info or {}),
    )
    catalogue["source_index"] = item_code.tolist()
    return Prepared(corpus, catalogue, {"source_index": user_code.tolist()}, steps)


def _step(bar: tqdm[NoReturn], what: str) -> None:
    bar.update()
    bar.set_description(what)


def _check_order(log: Log, protocol: str) -> None:
    if protocol == "given" and log.label is None:
        raise ValueError(f"{log.source}: protocol 'given' needs the split labels of the file: name their column")
    if protocol == "leave_one_out" and log.timestamp is None and log.position is None:
        raise ValueError(f"{log.source}: protocol 'leave_one_out' needs an order: name a timestamp or position column")
    if protocol == "temporal" and (log.timestamp is None or (log.timestamp == -1).any()):
        missing = "no row has one" if log.timestamp is None else f"{int((log.timestamp == -1).sum())} rows have none"
        raise ValueError(f"{log.source}: protocol 'temporal' needs a timestamp on every row; {missing}")


def _labels(log: Log, protocol: str, seed: int, validation: float, test: float) -> np.ndarray:
    """Labels of rows sorted by (user, time)."""
    if protocol == "given" and log.label is not None:
        return log.label
    if protocol == "temporal" and log.timestamp is not None:
        return splits.temporal(log.timestamp, validation, test)
    if protocol == "cold":
        item, codes = dense(log.item, "source", seed, "items")
        return splits.cold(item, len(codes), seed, validation, test)
    user = np.unique(log.user, return_inverse=True)[1]
    if protocol == "ratio":
        return splits.ratio(user, seed)
    return splits.leave_one_out(user, np.arange(len(log)) - np.searchsorted(user, user))


def _catalogue(items: pl.DataFrame | None, ids: list[str]) -> tuple[dict[str, list[Any]], np.ndarray | None]:
    """Columns of the items table by new item (missing text = ""), and each item's row in the table (-1 = absent)."""
    if items is None:
        return {}, None
    import polars as pl

    numbered = items.with_row_index("_row").unique("id", keep="first", maintain_order=True)
    joined = pl.DataFrame({"id": ids}).join(numbered, on="id", how="left", maintain_order="left")
    filled = joined.with_columns(
        pl.col(pl.String).fill_null(""), *(pl.col(c).fill_null([]) for c, t in joined.schema.items() if t == pl.List)
    )
    row_of = filled["_row"].cast(pl.Int64).fill_null(-1).to_numpy()
    return {column: filled[column].to_list() for column in filled.columns if column not in ("id", "_row")}, row_of


def _tags(catalogue: Mapping[str, list[Any]], columns: Sequence[str]) -> dict[str, Features]:
    """Tag features; a vocabulary is in order of frequency, then of the alphabet."""
    sets = {}
    for column in columns:
        if column not in catalogue:
            have = ", ".join(catalogue) or "none"
            raise ValueError(f"tags {column!r}: the items table has no such column; it has: {have}")
        words = [[cell] if isinstance(cell, str) else cell or [] for cell in catalogue[column]]
        words = [list(dict.fromkeys(word for word in row if word)) for row in words]
        count: dict[str, int] = {}
        for row in words:
            for word in row:
                count[word] = count.get(word, 0) + 1
        vocabulary = tuple(sorted(count, key=lambda word: (-count[word], word)))
        index = {word: number for number, word in enumerate(vocabulary)}
        offsets = np.cumsum([0, *(len(row) for row in words)]).astype(np.int64)
        values = np.array([index[word] for row in words for word in row], np.int64)
        sets[column] = Features("tags", values, offsets, vocabulary, {"column": column})
    return sets


def _from_file(
    name: str,
    file: Path,
    encoder: str,
    source_ids: list[str],
    ids: list[str],
    row_of: np.ndarray | None,
    table_rows: int | None,
) -> Features:
    """Rows of a .npy file brought into the order of the corpus' items."""
    if not file.is_file():
        raise FileNotFoundError(f"no file {file} for feature set {name!r}")
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{file} is not a readable .npy file of numbers ({error}); write it again with numpy.save"
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise ValueError(f"{file}: shape {values.shape} of {values.dtype}; expected numbers of shape [items, width]")
    if row_of is None:
        if not all(number.isdecimal() for number in source_ids):
            raise ValueError(
                f"{file}: which row is which item? Items have names, not numbers: give the items table (--items)"
            )
        table_rows = max(int(number) for number in source_ids) + 1
        row_of = np.array([int(number) for number in ids])
    if len(values) != table_rows:
        raise ValueError(
            f"{file}: feature set {name!r} has {len(values)} rows but the source has {table_rows} items; "
            "row r must belong to row r of the items table (--items), without one to the item with id r"
        )
    check_features(name, Features("dense", values), len(values), str(file))
    absent = np.flatnonzero(row_of < 0)
    if len(absent):
        raise ValueError(f"{file}: item {ids[absent[0]]!r} is not in the items table, so it has no row; add it there")
    return Features("dense", values[row_of].astype(np.float32), provenance={"encoder": encoder})
