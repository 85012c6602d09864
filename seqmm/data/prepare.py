"""A raw log and what is known of its items become a corpus: the one way in, for every reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from tqdm import tqdm

from seqmm.data import splits
from seqmm.data.catalogue import catalogue_of, match, source_rows_of, tag_sets, vectors_of_file
from seqmm.data.corpus import Corpus
from seqmm.data.filtering import Log, chronological, dense, k_core, tie_share, without_duplicates
from seqmm.data.interactions import Interactions
from seqmm.names import PROTOCOLS, SPLITS, DuplicateItems, Duplicates, IndexOrder, Protocol, TieOrder, UnknownItems

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
    protocol: Protocol = "leave_one_out",
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
    id_column: str | None = None,
    duplicate_items: DuplicateItems = "first",
    unknown_items: UnknownItems = "keep",
    info: Mapping[str, object] | None = None,
) -> Prepared:
    """Orders, filters, splits and numbers a log.

    Args:
        log: of a reader.
        name: of the corpus.
        protocol: any of :data:`~seqmm.names.PROTOCOLS`; ``given`` takes ``log.label``.
        seed: of the id permutation, the order of ties, and the random protocols.
        k: of the iterated k-core; 0 or 1 = none.
        duplicates: which of a user's rows with one item stays.
        tie_order: of rows of one user and time.
        index_order: ``permuted``: random ids; ``source``: the source's order, which on public files tells labels.
        drop_untrained: with ``given``, drop users without a train row instead of refusing them; ``temporal`` and
            ``cold`` always drop them.
        validation: share of the rows (``temporal``) or items (``cold``).
        test: the same.
        items: a table with ``id`` and any other columns; ``title`` becomes the corpus' titles. What does not fit
            (second rows of an id, rows without one or of items nobody had, items of the log without a row) is counted
            in the corpus' info.
        tags: columns of ``items`` (a string, or a list of them) that become tag features.
        features: name -> (file, name of the encoder): any file that :func:`~seqmm.data.readers.vectors.read_vectors`
            reads. Of one without ids row r belongs to row r of ``items``; without that table, to the item whose integer
            id is r.
        id_column: of feature files that are tables, beside the usual names.
        duplicate_items: an id with several rows in ``items`` gets the first of them, or is an error.
        unknown_items: interactions with items that are not in ``items`` stay (the items have no text), go (UniSRec), or
            are an error.
        info: more for the card (licence, citation).

    Raises:
        ValueError: nothing left after the k-core, an empty split, a user without train rows, no order to go by,
            features unlike the items.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    _check_order(log, protocol)
    if k < 0:
        raise ValueError(f"--k-core {k}: choose 0 (no core) or more")
    if min(validation, test) <= 0 or validation + test >= 1:
        raise ValueError(
            f"--validation {validation} and --test {test} are shares of the whole: choose both above 0 and their sum "
            "below 1"
        )
    for feature, (file, _) in (features or {}).items():
        if not file.is_file():
            raise FileNotFoundError(f"no file {file} for feature set {feature!r}")
    record: dict[str, object] = {
        "source": log.source,
        "rows_read": len(log),
        "rows_incomplete": log.incomplete,
        "seed": seed,
    }
    if items is not None:
        log, matched = match(log, items, duplicate_items, unknown_items)
        record |= matched
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
    catalogue, row_of = catalogue_of(items, ids)
    row_of, source_rows = source_rows_of(log, ids, row_of, items)
    record["source_rows"] = source_rows
    sets = tag_sets(catalogue, tags)
    for feature, (file, encoder) in (features or {}).items():
        sets[feature], record[f"{feature}_vectors"] = vectors_of_file(
            file, encoder, ids, row_of, source_rows, id_column
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
    if row_of is not None:
        catalogue["source_row"] = row_of.tolist()
    return Prepared(corpus, catalogue, {"source_index": user_code.tolist()}, steps)


def _step(bar: tqdm[NoReturn], what: str) -> None:
    bar.update()
    bar.set_description(what)


def _check_order(log: Log, protocol: str) -> None:
    if protocol == "given" and log.label is None:
        raise ValueError(f"{log.source}: protocol 'given' needs the split labels of the file: name their column")
    if protocol == "leave_one_out" and log.timestamp is None and log.position is None:
        raise ValueError(
            f"{log.source}: protocol 'leave_one_out' needs an order: name a column with --timestamp or --position, or "
            "choose another --protocol, such as ratio"
        )
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


def statistics(prepared: Prepared) -> list[str]:
    """What was done and what came out, a line each."""
    corpus = prepared.corpus
    info = corpus.info
    rows = {split: len(part) for split, part in corpus.splits.items()}
    total = sum(rows.values())
    out = [f"read         {info['rows_read']:,} complete interactions of {info['source']}"]
    out.append(f"incomplete   {info['rows_incomplete']:,} rows without user, item or time left out")
    if "items_rows" in info:
        out.append(
            f"items        {info['items_rows']:,} rows; more than one row: {info['items_duplicated']}; without an id: "
            f"{info['items_rows_without_id']:,}; never used: {info['items_never_used']:,}"
        )
        lost = info.get("rows_with_unknown_items_dropped")
        fate = "kept, without text" if lost is None else f"{lost:,} interactions dropped"
        if info["items_unknown"] != "0":
            out.append(f"unknown      items that are not in the items table: {info['items_unknown']}; {fate}")
    out.append(f"duplicates   {info['duplicates_removed']:,} removed ({info['duplicates']})")
    for number, (count, users, items) in enumerate(prepared.k_core_steps):
        pass_name = f"{info['k_core']}-core, {number}"
        out.append(f"{pass_name:<13}{count:,} interactions, {users:,} users, {items:,} items")
    share = info["tie_share"]
    ties = "no timestamps" if share is None else f"{share:.1%} of neighbouring interactions share a time"
    out.append(f"ties         {ties} (order: {info['tie_order']}); ids: {info['index_order']}, seed {info['seed']}")
    if "users_without_train_dropped" in info:
        out.append(f"dropped      {info['users_without_train_dropped']:,} users without a train interaction")
    sparsity = f"{1 - total / (corpus.num_users * corpus.num_items):.2%}"
    sizes = f"{corpus.num_users:,} users, {corpus.num_items:,} items, {total:,} interactions"
    out.append(f"corpus       {sizes}, sparsity {sparsity}")
    out.append(f"split        {corpus.protocol}: " + ", ".join(f"{name} {count:,}" for name, count in rows.items()))
    for name, features in corpus.features.items():
        about = f"; {info[f'{name}_vectors']}" if f"{name}_vectors" in info else ""
        out.append(f"feature      {name}: {features.kind}, width {features.dim}{about}")
    return [*out, f"fingerprint  {corpus.fingerprint()}"]
