"""A raw log and what is known of its items become a corpus: the one way in, for every reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from seqmm.data import filtering, splits
from seqmm.data.catalogue import catalogue_of, cleaned, match, source_rows_of, tag_sets, vectors_of_file
from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.filtering import Log, chronological, dense, digest_of, order_of, tie_share, without_duplicates
from seqmm.data.interactions import Interactions
from seqmm.data.one_source import check_same_features, check_same_source
from seqmm.data.preparation import Preparation
from seqmm.data.store import read_record
from seqmm.names import SPLITS

if TYPE_CHECKING:
    import polars as pl

SAID = ("times", "taken_by_name", "not_read")
"""What a reader says of the columns that order the rows, or could have."""

Record = dict[str, object]
"""What was done, for the corpus' info; the steps add to it."""


@dataclass(frozen=True)
class Prepared:
    """A corpus and the columns of its items and users tables that no model reads."""

    corpus: Corpus
    item_columns: dict[str, list[Any]] = field(default_factory=dict)
    user_columns: dict[str, list[Any]] = field(default_factory=dict)
    k_core_steps: list[tuple[int, int, int]] = field(default_factory=list)
    """(interactions, users, items) before each pass; the last one is what stayed."""

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """See :meth:`Corpus.save`; a feature set that is there is not replaced by another one of its name.

        Raises:
            ValueError: the folder holds something else, of other interactions, items or features.
        """
        folder, columns = Path(path), (self.item_columns, self.user_columns)
        if not overwrite and (folder / "corpus.json").is_file():
            record = read_record(folder)
            check_same_source(self.corpus, folder, record, *columns)
            check_same_features(self.corpus, folder, record)
        self.corpus.save(folder, item_columns=columns[0], user_columns=columns[1], overwrite=overwrite)


def prepare(
    log: Log,
    how: Preparation | None = None,
    *,
    name: str,
    items: pl.DataFrame | None = None,
    tags: Sequence[str] = (),
    features: Mapping[str, tuple[Path, str]] | None = None,
    id_column: str | None = None,
    info: Mapping[str, object] | None = None,
) -> Prepared:
    """Orders, filters, splits and numbers a log.

    Args:
        log: of a reader.
        how: the settings; the usual ones if None.
        name: of the corpus.
        items: a table with ``id`` and any other columns; ``title`` becomes the corpus' titles. What does not fit
            (second rows of an id, rows without one or of items nobody had, items of the log without a row) is counted
            in the corpus' info.
        tags: columns of ``items`` (a string, or a list of them) that become tag features.
        features: name -> (file, name of the encoder): any file that :func:`~seqmm.data.readers.vectors.read_vectors`
            reads. Of one without ids row r belongs to row r of ``items``; without that table, to the item whose integer
            id is r.
        id_column: of feature files that are tables, beside the usual names.
        info: more for the card (licence, citation).

    Raises:
        ValueError: nothing left after the k-core, an empty split, a user without train rows, no order to go by,
            features unlike the items.
    """
    how, features = how or Preparation(), features or {}
    _check(log, how, features)
    record: Record = _read(log) | {"seed": how.seed}
    with _progress() as step:
        step("order")
        log = _ordered(_matched(log, items, how, record), how, record)
        step("k-core")
        log, passes = _cored(log, how, record)
        step("split")
        log, labels = _labelled(log, how, record)
        step("number")
        rows, labels, user_code, item_code = _numbered(log, labels, how)
        step("items and features")
        columns, sets = _described(log, item_code, items, tags, features, id_column, record)
        titles = tuple(columns.pop("title", ()))
    corpus = Corpus(
        name=name,
        protocol=how.protocol,
        num_users=len(user_code),
        num_items=len(item_code),
        splits=splits.split(rows, labels),
        features=sets,
        user_ids=tuple(log.user_ids[code] for code in user_code),
        item_ids=tuple(log.item_ids[code] for code in item_code),
        titles=titles,
        info=record | dict(info or {}),
    )
    return Prepared(corpus, columns, {"source_index": user_code.tolist()}, passes)


# -- steps, in their order ---------------------------------------------------------------------------------------------


def _read(log: Log) -> Record:
    """What was read."""
    record: Record = {"source": log.source, "source_digest": digest_of(log), "rows_read": len(log)}
    record["rows_incomplete"] = log.incomplete
    return record | ({"reading": "; ".join(log.notes)} if log.notes else {})


def _check(log: Log, how: Preparation, features: Mapping[str, tuple[Path, str]]) -> None:
    for feature, (file, _) in features.items():
        if not file.is_file():
            raise FileNotFoundError(f"no file {file} for feature set {feature!r}")
    if how.protocol == "given" and log.label is None:
        raise ValueError(f"{log.source}: protocol 'given' needs the source's split labels: name their column (split)")
    unread = f"; {log.said['not_read']}" if "not_read" in log.said else ""
    if how.protocol == "leave_one_out" and log.timestamp is None and log.position is None:
        raise ValueError(
            f"{log.source}: protocol 'leave_one_out' needs an order: name a column of times (timestamp) or of places "
            f"(position), or choose another protocol, such as ratio{unread}"
        )
    if how.protocol == "temporal" and (log.timestamp is None or (log.timestamp == -1).any()):
        missing = "no row has one" if log.timestamp is None else f"{int((log.timestamp == -1).sum())} rows have none"
        raise ValueError(f"{log.source}: protocol 'temporal' needs a timestamp on every row; {missing}{unread}")


def _matched(log: Log, items: pl.DataFrame | None, how: Preparation, record: Record) -> Log:
    """Without what the items table makes us drop."""
    if items is not None:
        log, matched = match(log, items, how.duplicate_items, how.unknown_items)
        record |= matched
    return log


def _ordered(log: Log, how: Preparation, record: Record) -> Log:
    """By user, then time, without repeated interactions."""
    whole = len(log)
    record |= {"order": order_of(log, how.tie_order)} | {key: log.said[key] for key in SAID if key in log.said}
    log = log.take(chronological(log, how.tie_order, how.seed))
    log = log.take(without_duplicates(log, how.duplicates))
    record |= {"duplicates": how.duplicates, "duplicates_removed": whole - len(log)}
    return log


def _cored(log: Log, how: Preparation, record: Record) -> tuple[Log, list[tuple[int, int, int]]]:
    """Without rare users and items."""
    keep, passes = filtering.k_core(log.user, log.item, how.k_core)
    record |= {"k_core": how.k_core, "k_core_steps": [count for count, _, _ in passes]}
    if not keep.any():
        raise ValueError(
            f"{log.source}: nothing is left of {len(log)} interactions after the {how.k_core}-core "
            f"(rows by pass: {', '.join(str(count) for count, _, _ in passes)}); use a smaller k_core, or more data"
        )
    log = log.take(keep)
    record |= {"tie_order": how.tie_order, "tie_share": tie_share(log), "index_order": how.index_order}
    if log.timestamp is not None:
        record["rows_without_time"] = int((log.timestamp == -1).sum())
    return log, passes


def _labelled(log: Log, how: Preparation, record: Record) -> tuple[Log, np.ndarray]:
    """Split labels of the rows, without users who have no train row."""
    labels = _labels(log, how)
    trained = splits.has_train(log.user, labels)
    if not trained.all():
        lost = np.unique(log.user[~trained])
        if how.protocol == "given" and not how.drop_untrained:
            raise ValueError(
                f"{log.source}: user {log.user_ids[lost[0]]!r} has validation or test rows but no train row "
                f"({len(lost)} such users); give them train rows, or drop them (drop_untrained)"
            )
        record["users_without_train_dropped"] = len(lost)
        log, labels = log.take(trained), labels[trained]
    for label, split in enumerate(SPLITS):
        if not (labels == label).any():
            raise ValueError(
                f"{log.source}: the {split} split of protocol {how.protocol!r} is empty ({len(log)} interactions of "
                f"{len(np.unique(log.user))} users after the {how.k_core}-core); use more data, a smaller k_core, or "
                "another protocol"
            )
    return log, labels


def _labels(log: Log, how: Preparation) -> np.ndarray:
    """Labels of rows sorted by (user, time)."""
    if how.protocol == "given" and log.label is not None:
        return log.label
    if how.protocol == "temporal" and log.timestamp is not None:
        return splits.temporal(log.timestamp, how.validation, how.test, log.nanoseconds)
    if how.protocol == "cold":
        item, codes = dense(log.item, "source", how.seed, "items")
        return splits.cold(item, len(codes), how.seed, how.validation, how.test)
    user = np.unique(log.user, return_inverse=True)[1]
    if how.protocol == "ratio":
        return splits.ratio(user, how.seed)
    return splits.leave_one_out(user, np.arange(len(log)) - np.searchsorted(user, user))


def _numbered(
    log: Log, labels: np.ndarray, how: Preparation
) -> tuple[Interactions, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and labels by (new user, position), and the source's code of each new user and of each new item."""
    user, user_code = dense(log.user, how.index_order, how.seed, "users")
    item, item_code = dense(log.item, how.index_order, how.seed, "items")
    first = np.searchsorted(log.user, log.user)  # rows are sorted by source user: where each one's begin
    position = np.arange(len(log)) - first
    order = np.lexsort((position, user))
    timestamp = None if log.timestamp is None else log.timestamp[order]
    return Interactions(user[order], item[order], position[order], timestamp), labels[order], user_code, item_code


def _described(
    log: Log,
    item_code: np.ndarray,
    items: pl.DataFrame | None,
    tags: Sequence[str],
    features: Mapping[str, tuple[Path, str]],
    id_column: str | None,
    record: Record,
) -> tuple[dict[str, list[Any]], dict[str, Features]]:
    """Columns of the items table and feature sets, by new item; also where in the source each item was."""
    ids = [log.item_ids[code] for code in item_code]
    columns, row_of = catalogue_of(items, ids)
    columns, changed = cleaned(columns)
    if changed:
        record["cells_cleaned"] = ", ".join(f"{name} {count:,}" for name, count in changed.items())
    row_of, source_rows = source_rows_of(log, ids, row_of, items)
    record["source_rows"] = source_rows
    sets = tag_sets(columns, tags)
    for feature, (file, encoder) in features.items():
        sets[feature], record[f"{feature}_vectors"] = vectors_of_file(
            file, encoder, ids, row_of, source_rows, id_column
        )
    columns["source_index"] = item_code.tolist()
    if row_of is not None:
        columns["source_row"] = row_of.tolist()
    return columns, sets


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    with tqdm(total=5, unit="step", leave=False, disable=None) as bar:

        def step(what: str) -> None:
            bar.set_description(what)
            bar.update()

        yield step


def statistics(prepared: Prepared) -> list[str]:
    """What was done and what came out, a line each."""
    corpus = prepared.corpus
    info = corpus.info
    rows = {split: len(part) for split, part in corpus.splits.items()}
    total = sum(rows.values())
    out = [f"read         {info['rows_read']:,} complete interactions of {info['source']}"]
    out.append(f"incomplete   {info['rows_incomplete']:,} rows without user, item or time left out")
    if "reading" in info:
        out.append(f"reading      {info['reading']}")
    if "items_rows" in info:
        out.append(
            f"items        {info['items_rows']:,} rows; more than one row: {info['items_duplicated']}; without an id: "
            f"{info['items_rows_without_id']:,}; never used: {info['items_never_used']:,}"
        )
        lost = info.get("rows_with_unknown_items_dropped")
        fate = "kept, without text" if lost is None else f"{lost:,} interactions dropped"
        if info["items_unknown"] != "0":
            out.append(f"unknown      items that are not in the items table: {info['items_unknown']}; {fate}")
    if "cells_cleaned" in info:
        out.append(f"cleaned      cells with markup, entities or page code: {info['cells_cleaned']}")
    out.append(f"order        {info['order']}")
    names = {"times": "times", "taken_by_name": "by name", "not_read": "not read"}
    out += [f"{names[key]:<13}{info[key]}" for key in SAID if key in info]
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
