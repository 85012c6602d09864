"""A corpus on disk: a Hub dataset repository, as ``datasets.load_dataset(folder, "items")`` reads it.

::

    README.md                 front matter ``configs:`` (one per folder below) and the card; text under KEPT stays
    corpus.json               sizes, hashes of the ids, licence, and for each protocol its fingerprint, statistics and
                              how it was prepared
    items/items.parquet       item, id, title, … (text, brand, image urls: whatever the source had)
    users/users.parquet       user, id, …
    <protocol>/<split>.parquet    user, item, timestamp (null = unknown), position
    <features>/features.json      kind, dim, rows, provenance, hashes of the rows and of the item ids, tags' vocabulary
    <features>/*.parquet          item, values: a list of floats, of lists of floats (ragged) or of tag ids

What is written appears whole or not at all: into a hidden sibling first, then renamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np

from seqmm.data.interactions import COUNT, Interactions
from seqmm.data.readers.claims import check_footer
from seqmm.files import read_json, write_json
from seqmm.leftovers import put_back_inside
from seqmm.names import PROTOCOLS, SPLITS, Protocol, brief
from seqmm.schema import Count, Digest, Name, NotEmpty, check_record

if TYPE_CHECKING:
    import pyarrow as pa

    from seqmm.data.corpus import Corpus


def hash_ids(ids: tuple[str, ...]) -> str:
    """sha256 (hex) of external ids in order."""
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()


FORMAT = 1

ROW_GROUP = 1 << 16  # rows; who streams a table from the Hub fetches a group at a time

Columns = Mapping[str, Sequence[Any]]

SPLIT_FILES = tuple(f"{split}.parquet" for split in SPLITS)
"""Of a protocol's folder."""
FEATURE_FILES = ("features.json", "*.parquet")
"""Of a feature set's folder, as patterns."""


def files_of(folder: Path) -> tuple[str, ...]:
    """Patterns of a corpus folder's own files; what lies beside them is its owner's."""
    sets = [file.parent.name for file in folder.glob("*/features.json")]
    return (
        *("corpus.json", "README.md", "items/items.parquet", "users/users.parquet", "*_vocabulary.txt", ".extract/*"),
        *(f"{protocol}/{file}" for protocol in PROTOCOLS for file in SPLIT_FILES),
        *(f"{name}/{pattern}" for name in sets for pattern in FEATURE_FILES),
    )


def write_table(path: Path, columns: Mapping[str, Any], row_group: int = ROW_GROUP, compression: str = "zstd") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, compression=compression, row_group_size=row_group)


def write_ids(corpus: Corpus, folder: Path, item_columns: Columns, user_columns: Columns) -> None:
    items: dict[str, Any] = {"item": np.arange(corpus.num_items)}
    users: dict[str, Any] = {"user": np.arange(corpus.num_users)}
    for table, ids in ((items, corpus.item_ids), (users, corpus.user_ids)):
        if ids:
            table["id"] = list(ids)
    if corpus.titles:
        items["title"] = list(corpus.titles)
    for table, extra, what in ((items, item_columns, "items"), (users, user_columns, "users")):
        taken = set(table) & set(extra)
        if taken:
            raise ValueError(f"{what} columns {sorted(taken)} are written from the corpus itself; rename yours")
        table |= extra
    write_table(folder / "items" / "items.parquet", items)
    write_table(folder / "users" / "users.parquet", users)


def write_splits(corpus: Corpus, folder: Path) -> None:
    import pyarrow as pa

    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        part = corpus.splits[split]
        missing = np.ones(len(part), bool) if part.timestamp is None else part.timestamp == -1
        seconds = np.zeros(len(part), np.int64) if part.timestamp is None else part.timestamp
        timestamp = pa.array(seconds, pa.int64(), mask=missing)
        columns = {"user": part.user, "item": part.item, "timestamp": timestamp, "position": part.position}
        write_table(folder / f"{split}.parquet", columns)


class SplitSizes(TypedDict):
    """Rows of each split."""

    train: Count
    validation: Count
    test: Count


class ProtocolRecord(TypedDict):
    """What corpus.json says of one protocol."""

    fingerprint: Digest
    rows: SplitSizes
    statistics: dict[str, object]
    """For the card: name -> value, or several by name."""
    info: dict[str, object]
    """How it was prepared."""


class CorpusRecord(TypedDict):
    """corpus.json."""

    format: int
    protocols: Annotated[dict[Protocol, ProtocolRecord], NotEmpty()]
    name: Name
    num_users: Count
    num_items: Count
    users: Digest
    """Of the users' ids in order."""
    items: Digest
    license: NotRequired[dict[str, str]]
    """Front matter of the card: license, license_name, license_link."""


def write_record(folder: Path, corpus: Corpus) -> None:
    parts, before = corpus.splits, read_record(folder) if (folder / "corpus.json").is_file() else None
    protocol: ProtocolRecord = {
        "fingerprint": corpus.fingerprint(),
        "rows": {"train": len(parts["train"]), "validation": len(parts["validation"]), "test": len(parts["test"])},
        "statistics": _statistics(corpus),
        "info": corpus.info,
    }
    record: CorpusRecord = {
        "format": FORMAT,
        "protocols": ({} if before is None else before["protocols"]) | {corpus.protocol: protocol},
        "name": corpus.name,
        "num_users": corpus.num_users,
        "num_items": corpus.num_items,
        "users": hash_ids(corpus.user_ids),
        "items": hash_ids(corpus.item_ids),
    }
    if before is not None and "license" in before:
        record["license"] = before["license"]
    write_json(folder / "corpus.json", record)


def _statistics(corpus: Corpus) -> dict[str, Any]:
    """For the card: how interactions (all splits) spread over users, items and time, and what training never sees."""
    parts = corpus.splits.values()
    out: dict[str, Any] = {}
    for what, columns, size in (
        ("user", [part.user for part in parts], corpus.num_users),
        ("item", [part.item for part in parts], corpus.num_items),
    ):
        counts = np.bincount(np.concatenate(columns), minlength=size)
        if counts.any():
            out[f"interactions per {what}"] = {
                "least": int(counts.min()),
                "median": float(np.median(counts)),
                "mean": round(float(counts.mean()), 2),
                "most": int(counts.max()),
            }
    trained = np.bincount(corpus.splits["train"].item, minlength=corpus.num_items) > 0
    out["items without a train interaction"] = int(np.count_nonzero(~trained))
    times = [part.timestamp[part.timestamp != -1] for part in parts if part.timestamp is not None]
    if any(len(time) for time in times):
        first, last = (np.datetime64(int(f(np.concatenate(times))), "s") for f in (np.min, np.max))
        if last >= np.datetime64(COUNT, "s"):  # a count has no days
            out["time"] = {"first": str(first)[:10], "last": str(last)[:10]}
    return out


def read_record(folder: Path) -> CorpusRecord:
    """corpus.json.

    Raises:
        FileNotFoundError: the folder holds no corpus.
        ValueError: the file is damaged, or of another format.
    """
    put_back_inside(folder)  # what a killed process had moved aside
    file, damaged = folder / "corpus.json", "the corpus is damaged, prepare it again"
    missing = "it is not a prepared corpus; make one with recipes/prepare.py"
    record = read_json(file, dict[str, Any], missing, damaged)
    if record.get("format") != FORMAT:  # before its keys, which are another format's
        raise ValueError(f"{file}: format {brief(record.get('format'))}, expected {FORMAT}; prepare the corpus again")
    return check_record(record, CorpusRecord, file, damaged)


def protocol_record(folder: Path, record: CorpusRecord, protocol: Protocol) -> ProtocolRecord:
    """What corpus.json says of one of its protocols.

    Raises:
        ValueError: the corpus has no such protocol.
    """
    if protocol not in record["protocols"]:
        have = ", ".join(record["protocols"])
        raise ValueError(
            f"{folder} has no protocol {protocol!r}; it has: {have}. Prepare it into this folder, or use one of "
            "these (`data.protocol`)"
        )
    return record["protocols"][protocol]


def read_items(folder: str | Path) -> pa.Table:
    """The items table with all its columns, row i for item i."""
    return read_parquet(Path(folder) / "items" / "items.parquet")


def read_parquet(
    file: Path,
    columns: Sequence[str] | None = None,
    *,
    rows: int | None = None,
    record: str = "corpus.json",
    again: str = "prepare it again",
) -> pa.Table:
    """A table of ours.

    Args:
        file: its parquet file.
        columns: to read, of those it has; None = all.
        rows: it must have, which its footer says before anything is read; None = any number.
        record: that says so, for the error.
        again: what to do about a damaged one, for the error.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; the corpus is incomplete, copy or prepare it again")
    try:
        with pq.ParquetFile(file, memory_map=True) as stored:
            if rows is not None and stored.metadata.num_rows != rows:
                raise ValueError(f"{file} has {stored.metadata.num_rows} rows, {record} says {rows}; {again}")
            check_footer(file, stored, columns)
            table = stored.read(None if columns is None else list(columns))
        table.validate(full=True)  # text that is no UTF-8, offsets that point elsewhere
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} cannot be read ({said}); it is truncated or damaged, copy it or {again}") from error
    return table


def stored_rows(file: Path, again: str = "prepare it again") -> int:
    """How many rows a table of ours says it has, by its footer alone.

    Raises:
        ValueError: naming the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} cannot be read ({said}); it is truncated or damaged, copy it or {again}") from error


def check_columns(table: pa.Table, file: Path, kinds: Mapping[str, str], *, nulls: Sequence[str] = ()) -> None:
    """Whether a table has its columns, of their types and without a null.

    Args:
        table: as read.
        file: it was read from.
        kinds: column -> int64, bool or string.
        nulls: columns that may have nulls.

    Raises:
        ValueError: naming the file and the column.
    """
    for name, kind in kinds.items():
        if table.column_names.count(name) != 1:
            have = ", ".join(table.column_names[:20])
            raise ValueError(f"{file} has no column {name!r} (it has {have}); prepare it again")
        column = table[name]
        if str(column.type).removeprefix("large_") != kind:
            raise ValueError(f"{file}: column {name!r} holds {column.type}, expected {kind}; prepare it again")
        if column.null_count and name not in nulls:
            raise ValueError(f"{file}: column {name!r} has {column.null_count} rows without a value; prepare it again")


def check_order(table: pa.Table, file: Path, column: str) -> None:
    """Raises ValueError unless row i is that of item (or user) i."""
    numbers = table[column].to_numpy()
    wrong = np.flatnonzero(numbers != np.arange(len(numbers)))
    if len(wrong):
        row = wrong[0]
        raise ValueError(f"{file}: row {row} is of {column} {numbers[row]}; rows must be those of {column} 0, 1, …")


def read_ids(folder: Path, what: Literal["items", "users"], record: CorpusRecord) -> tuple[pa.Table, tuple[str, ...]]:
    file, one = folder / what / f"{what}.parquet", what.removesuffix("s")
    table = read_parquet(
        file, rows=record["num_items" if what == "items" else "num_users"], again="prepare the corpus again"
    )
    text = {
        name: "string" for name in ("id", "title") if name in table.column_names and (what, name) != ("users", "title")
    }
    check_columns(table, file, {one: "int64", **text}, nulls=["title"])
    check_order(table, file, one)
    ids = tuple(table["id"].to_pylist()) if "id" in table.column_names else ()
    if hash_ids(ids) != record[what]:
        raise ValueError(f"{file}: the ids are not those corpus.json was written with; prepare the corpus again")
    return table, ids


def read_split(file: Path, rows: int) -> Interactions:
    kinds = dict.fromkeys(("user", "item", "timestamp", "position"), "int64")
    table = read_parquet(file, [*kinds], rows=rows)
    check_columns(table, file, kinds, nulls=["timestamp"])
    user, item, position = (table[name].to_numpy().copy() for name in ("user", "item", "position"))
    known = table["timestamp"].null_count < table.num_rows
    timestamp = table["timestamp"].fill_null(-1).to_numpy().copy() if known else None
    return Interactions(user, item, position, timestamp)
