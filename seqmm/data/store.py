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
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmm.data.interactions import Interactions
from seqmm.files import read_json, write_json
from seqmm.leftovers import put_back_inside
from seqmm.names import PROTOCOLS, SPLITS

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


def write_record(folder: Path, corpus: Corpus) -> None:
    file = folder / "corpus.json"
    record: dict[str, Any] = read_record(folder) if file.is_file() else {"format": FORMAT, "protocols": {}}
    record |= {
        "name": corpus.name,
        "num_users": corpus.num_users,
        "num_items": corpus.num_items,
        "users": hash_ids(corpus.user_ids),
        "items": hash_ids(corpus.item_ids),
    }
    rows = {split: len(part) for split, part in corpus.splits.items()}
    record["protocols"][corpus.protocol] = {
        "fingerprint": corpus.fingerprint(),
        "rows": rows,
        "statistics": _statistics(corpus),
        "info": corpus.info,
    }
    write_json(file, record)


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
        out["time"] = {"first": str(first)[:10], "last": str(last)[:10]}
    return out


def read_record(folder: Path) -> dict[str, Any]:
    """corpus.json.

    Raises:
        FileNotFoundError: the folder holds no corpus.
        ValueError: the file is damaged, or of another format.
    """
    put_back_inside(folder)  # what a killed process had moved aside
    file = folder / "corpus.json"
    record = read_json(
        file,
        "it is not a prepared corpus; make one with recipes/prepare.py",
        "the corpus is damaged, prepare it again",
    )
    if record.get("format") != FORMAT:
        raise ValueError(f"{file}: format {record.get('format')!r}, expected {FORMAT}; prepare the corpus again")
    return record


def protocol_record(folder: Path, record: Mapping[str, Any], protocol: str) -> dict[str, Any]:
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
    about: dict[str, Any] = record["protocols"][protocol]
    return about


def read_items(folder: str | Path) -> pa.Table:
    """The items table with all its columns, row i for item i."""
    return read_parquet(Path(folder) / "items" / "items.parquet")


def read_parquet(file: Path, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; the corpus is incomplete, copy or prepare it again")
    try:
        return pq.ParquetFile(file, memory_map=True).read(columns)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{file} cannot be read ({error}); it is truncated or damaged, copy or prepare it again"
        ) from error


def read_ids(folder: Path, what: str, record: dict[str, Any]) -> tuple[pa.Table, tuple[str, ...]]:
    file = folder / what / f"{what}.parquet"
    table = read_parquet(file)
    if table.num_rows != record[f"num_{what}"]:
        raise ValueError(
            f"{file} has {table.num_rows} rows, corpus.json says {record[f'num_{what}']}; prepare the corpus again"
        )
    ids = tuple(table["id"].to_pylist()) if "id" in table.column_names else ()
    if hash_ids(ids) != record[what]:
        raise ValueError(f"{file}: the ids are not those corpus.json was written with; prepare the corpus again")
    return table, ids


def read_split(file: Path) -> Interactions:
    table = read_parquet(file, ["user", "item", "timestamp", "position"])
    for name in ("user", "item", "timestamp", "position"):
        if name not in table.column_names:
            raise ValueError(
                f"{file} has no column {name!r} (it has {', '.join(table.column_names)}); prepare it again"
            )
    user, item, position = (table[name].to_numpy().copy() for name in ("user", "item", "position"))
    known = table["timestamp"].null_count < table.num_rows
    timestamp = table["timestamp"].fill_null(-1).to_numpy().copy() if known else None
    return Interactions(user, item, position, timestamp)
