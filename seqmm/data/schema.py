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
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmm.data.corpus import PROTOCOLS, SPLITS, Corpus, Features, Interactions, check_features, hash_ids

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
KEPT = "<!-- what you write below this line is kept -->"
ROW_GROUP = 1 << 16  # rows; who streams a table from the Hub fetches a group at a time

Columns = Mapping[str, Sequence[Any]]


# -- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a fresh folder beside ``target``; on success it takes its place, on failure it is removed."""
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{os.getpid()}.tmp"
    old = target.parent / f".{target.name}.{os.getpid()}.old"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not target.exists():  # the second rename failed
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_table(path: Path, columns: Mapping[str, Any], row_group: int = ROW_GROUP, compression: str = "zstd") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, compression=compression, row_group_size=row_group)


def save_corpus(
    corpus: Corpus, path: str | Path, item_columns: Columns, user_columns: Columns, overwrite: bool
) -> None:
    """See :meth:`Corpus.save`."""
    folder = Path(path)
    if overwrite or not folder.exists() or not any(folder.iterdir()):
        if folder.exists() and any(folder.iterdir()) and not (folder / "corpus.json").is_file():
            raise ValueError(
                f"{folder} exists and is not a prepared corpus; it is not overwritten, choose another folder"
            )
        with replacing(folder) as temporary:
            _write_ids(corpus, temporary, item_columns, user_columns)
            _write_splits(corpus, temporary / corpus.protocol)
            for name, features in corpus.features.items():
                _write_feature_files(
                    temporary / feature_folder(name), name, features, corpus.num_items, corpus.item_ids
                )
            _write_record(temporary, corpus)
            write_card(temporary)
        return
    record = read_record(folder)
    for what, ids in (("items", corpus.item_ids), ("users", corpus.user_ids)):
        if record[what] != hash_ids(ids):
            raise ValueError(
                f"{folder} holds another corpus: its {what} are not those of {corpus.name!r} ({corpus.protocol}); "
                "protocols share a folder only if they keep the same users and items in the same order. "
                "Save to another folder, or overwrite this one (--overwrite True)"
            )
    # Everything is written before anything is renamed, so a failed write changes nothing. The record comes last: killed
    # before it, a new protocol is a folder that no record lists and the next save replaces; one that was there has rows
    # that its recorded fingerprint does not fit, which loading says. Feature sets carry their own hashes.
    with ExitStack() as stack:
        _write_splits(corpus, stack.enter_context(replacing(folder / corpus.protocol)))
        for name, features in corpus.features.items():
            temporary = stack.enter_context(replacing(folder / feature_folder(name)))
            _write_feature_files(temporary, name, features, corpus.num_items, corpus.item_ids)
    _write_record(folder, corpus)
    write_card(folder)


def _write_ids(corpus: Corpus, folder: Path, item_columns: Columns, user_columns: Columns) -> None:
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
    _write_table(folder / "items" / "items.parquet", items)
    _write_table(folder / "users" / "users.parquet", users)


def _write_splits(corpus: Corpus, folder: Path) -> None:
    import pyarrow as pa

    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        part = corpus.splits[split]
        missing = np.ones(len(part), bool) if part.timestamp is None else part.timestamp == -1
        seconds = np.zeros(len(part), np.int64) if part.timestamp is None else part.timestamp
        timestamp = pa.array(seconds, pa.int64(), mask=missing)
        columns = {"user": part.user, "item": part.item, "timestamp": timestamp, "position": part.position}
        _write_table(folder / f"{split}.parquet", columns)


def _write_record(folder: Path, corpus: Corpus) -> None:
    file = folder / "corpus.json"
    record: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"format": FORMAT, "protocols": {}}
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
    write_text(file, record_text(record))


def record_text(record: Mapping[str, Any]) -> str:
    """A record as corpus.json holds it."""
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


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


def feature_folder(name: str) -> str:
    if name in (*PROTOCOLS, "items", "users") or not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(
            f"a feature set cannot be called {name!r}: use letters, digits, - and _, and no name of a protocol"
        )
    return name


def write_features(folder: str | Path, name: str, features: Features) -> None:
    """Adds or replaces a feature set of a prepared corpus, and its line in the card.

    Raises:
        FileNotFoundError: ``folder`` holds no corpus.
        ValueError: rows unlike the items, NaN, a name that is taken.
    """
    folder = Path(folder)
    record = read_record(folder)
    _, ids = _read_ids(folder, "items", record)
    with replacing(folder / feature_folder(name)) as temporary:
        _write_feature_files(temporary, name, features, record["num_items"], ids)
    write_card(folder)


def _write_feature_files(
    folder: Path, name: str, features: Features, num_items: int, item_ids: tuple[str, ...]
) -> None:
    check_features(name, features, num_items, f"saving {name!r}")
    writer = FeatureWriter(folder, features.kind, features.dim, hash_ids(item_ids), num_items, features.offsets)
    writer.write("features.parquet", features.values, missing=features.missing)
    writer.close(features.provenance, features.vocabulary)


class FeatureWriter:
    """Writes a feature set piece by piece, a parquet file each, so that it need not be in memory as a whole.

    Args:
        folder: where; made if absent.
        kind: dense, ragged or tags.
        dim: width of a vector, or size of the vocabulary.
        items: :func:`hash_ids` of the corpus' item ids.
        num_items: rows.
        offsets: ``[n + 1]`` of a ragged or tag set, None for a dense one.
        dtype: how floats are stored; they are read as float32, and the hash is over what is read.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        dim: int,
        items: str,
        num_items: int,
        offsets: np.ndarray | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ):
        folder.mkdir(exist_ok=True)
        self.folder, self.kind, self.dim, self.items, self.num_items = folder, kind, dim, items, num_items
        self.offsets, self.dtype = offsets, np.dtype(np.int64 if kind == "tags" else dtype)
        total = num_items if offsets is None else int(offsets[-1])
        self._digest = _start_hash((total,) if kind == "tags" else (total, dim), offsets)
        self._missing: list[np.ndarray] = []
        self._rows = 0

    def write(
        self,
        file: str,
        values: np.ndarray,
        rows: int | None = None,
        missing: np.ndarray | None = None,
        extra: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """The next items' values, in item order.

        Args:
            file: name of the parquet file.
            values: ``[n, d]`` of a dense set; ``[N, d]`` or ``[N]``, all values of these n items, of the others.
            rows: n; all that are left if None.
            missing: ``[n]`` bool, for a dense set.
            extra: more columns, one entry an item (words, captions); no model reads them.
        """
        import pyarrow as pa

        with np.errstate(over="ignore"):
            flat = np.ascontiguousarray(values, dtype=self.dtype)
        if self.dtype == np.float16 and not np.isfinite(flat).all():
            least, most = float(np.min(values)), float(np.max(values))
            raise ValueError(
                f"{file}, items from {self._rows:,}: numbers from {least:g} to {most:g}, float16 holds ±65,504; store "
                "them as float32"
            )
        column = pa.array(flat.reshape(-1))
        if self.kind != "tags":
            column = pa.FixedSizeListArray.from_arrays(column, self.dim)
        start, rows = self._rows, self.num_items - self._rows if rows is None else rows
        if self.offsets is not None:
            offsets = self.offsets[start : start + rows + 1] - self.offsets[start]
            column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), column)
        columns: dict[str, Any] = {"item": np.arange(start, start + rows), "values": column}
        if missing is not None:
            columns["missing"] = missing
            self._missing.append(missing)
        # floats hardly compress; a row group of about 8 MB, which is what the first row costs who streams it
        group = max(1, min(ROW_GROUP, (1 << 23) * rows // max(flat.nbytes, 1)))
        _write_table(self.folder / file, columns | dict(extra or {}), group, "none")
        self._digest.update(flat.astype(np.float32, copy=False).data if self.kind != "tags" else flat.data)
        self._rows += rows

    def close(self, provenance: Mapping[str, str], vocabulary: Sequence[str] | None = None, **about: object) -> None:
        """features.json: written last, so that a folder without it is not a feature set.

        Args:
            provenance: how the numbers were made.
            vocabulary: of a tag set.
            about: more to record, for the card.
        """
        if self._rows != self.num_items:
            raise ValueError(f"{self.folder}: {self._rows} rows written of {self.num_items}")
        record: dict[str, Any] = {
            "kind": self.kind,
            "dim": self.dim,
            "rows": self.num_items,
            "provenance": dict(provenance),
            "sha256": _end_hash(self._digest, np.concatenate(self._missing) if self._missing else None),
            "items": self.items,
            **({} if vocabulary is None else {"vocabulary": list(vocabulary)}),
            **about,
        }
        write_text(self.folder / "features.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _start_hash(shape: tuple[int, ...], offsets: np.ndarray | None) -> hashlib._Hash:
    digest = hashlib.sha256(str(shape).encode())
    if offsets is not None:
        digest.update(np.ascontiguousarray(offsets, dtype="<i8").data)
    return digest


def _end_hash(digest: hashlib._Hash, missing: np.ndarray | None) -> str:
    if missing is not None:
        digest.update(np.packbits(missing).data)
    return digest.hexdigest()


def hash_rows(values: np.ndarray, offsets: np.ndarray | None, missing: np.ndarray | None = None) -> str:
    """sha256 (hex) of a feature set's numbers: what is verified when it is loaded."""
    digest = _start_hash(values.shape, offsets)
    digest.update(np.ascontiguousarray(values).data)
    return _end_hash(digest, missing)


def write_card(folder: str | Path) -> None:
    """README.md: front matter from what the folder holds, statistics, and the text under ``KEPT`` as it was."""
    folder = Path(folder)
    record = read_record(folder)
    file = folder / "README.md"
    write_text(file, card_text(folder, record) + kept_text(file))


def kept_text(card: Path) -> str:
    """The line ``KEPT`` and what its owner wrote below it."""
    old = card.read_text(encoding="utf-8") if card.is_file() else ""
    return KEPT + (old.split(KEPT, 1)[1] if KEPT in old else "\n")


def write_license(folder: str | Path, license: Mapping[str, str]) -> None:
    """Records under which licence the corpus is published, in corpus.json and in the card, where later writes keep it.

    Args:
        folder: of the corpus.
        license: front matter of the card: ``license``, and for "other" ``license_name`` and ``license_link``.
    """
    folder = Path(folder)
    write_text(folder / "corpus.json", record_text(read_record(folder) | {"license": dict(license)}))
    write_card(folder)


def card_text(folder: Path, record: dict[str, Any], address: str = "THIS_FOLDER_OR_REPOSITORY") -> str:
    """The card down to ``KEPT``.

    Args:
        folder: of the corpus.
        record: its corpus.json.
        address: what its code examples load.
    """
    import yaml

    configs: list[dict[str, Any]] = [
        {"config_name": "items", "default": True, "data_files": "items/*.parquet"},
        {"config_name": "users", "data_files": "users/*.parquet"},
    ]
    parts, sets = [], []
    for name, protocol in record["protocols"].items():
        rows = protocol["rows"]
        # datasets cannot read a parquet file without rows, so an empty split is not listed
        files = [{"split": split, "path": f"{name}/{split}.parquet"} for split in SPLITS if rows[split]]
        configs.append({"config_name": name, "data_files": files})
        parts.append(
            f"| {name} | "
            + " | ".join(f"{rows[split]:,}" for split in SPLITS)
            + f" | `{protocol['fingerprint'][:16]}` |"
        )
    for name in feature_names(folder):
        about = json.loads((folder / name / "features.json").read_text())
        configs.append({"config_name": name, "data_files": f"{name}/*.parquet"})
        cells = [about["provenance"], about.get("source") or "", about.get("notes") or ""]
        sets.append(f"| {name} | {about['kind']} | {about['dim']} | {' | '.join(map(_cell, cells))} |")
    settings, spread = (_by_protocol(record["protocols"], what) for what in ("info", "statistics"))
    protocol = next(iter(record["protocols"]))
    total = sum(record["protocols"][protocol]["rows"].values())
    front = {
        "pretty_name": record["name"],
        **record.get("license", {}),
        "size_categories": [_size_category(total)],
        "tags": ["recommendation", "seqmm"],  # the Hub has no task category for recommendation
        "configs": configs,
    }
    density = total / max(record["num_users"] * record["num_items"], 1)
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {record['name']}",
        "",
        "A recommendation corpus prepared by seqmm.",
        "",
        f"{record['num_users']:,} users, {record['num_items']:,} items, {total:,} interactions ({protocol}), "
        f"sparsity {1 - density:.2%}.",
        "",
        "```python",
        "from seqmm import Corpus",
        "",
        f'corpus = Corpus.load("{address}", protocol="{protocol}", features={feature_names(folder)})',
        "```",
        "",
        "Only the protocol and the feature sets asked for are downloaded. Or row by row, fetched some 32 MB at a time:",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        *(
            f'{what} = load_dataset("{address}", "{config}", split="train", streaming=True)'
            for what, config in (
                ("items", "items"),
                ("interactions", protocol),
                *(("features", name) for name in feature_names(folder)[:1]),
            )
        ),
        "for row in items:",
        "    ...",
        "```",
        "",
        "| protocol | train | validation | test | fingerprint |",
        "|---|---|---|---|---|",
        *parts,
        "",
        *(
            [
                "| features | kind | width | provenance | read from | items without |",
                "|---|---|---|---|---|---|",
                *sets,
                "",
            ]
            if sets
            else []
        ),
        *(["| protocol | statistic | value |", "|---|---|---|", *spread, ""] if spread else []),
        "How it was prepared:",
        "",
        "| protocol | setting | value |",
        "|---|---|---|",
        *settings,
        "",
        "",
    ]
    return "\n".join(lines)


def _by_protocol(protocols: Mapping[str, Mapping[str, Any]], what: str) -> list[str]:
    """Rows of a table of all settings; protocols that agree in one share its row."""
    keys = dict.fromkeys(key for protocol in protocols.values() for key in protocol.get(what, {}))
    rows = []
    for key in keys:
        agreeing: dict[str, list[str]] = {}
        for name, protocol in protocols.items():
            if key in protocol.get(what, {}):
                agreeing.setdefault(_cell(protocol[what][key]), []).append(name)
        for value, names in agreeing.items():
            who = "all" if len(names) == len(protocols) > 1 else ", ".join(names)
            rows.append(f"| {who} | {key} | {value} |")
    return rows


def _size_category(rows: int) -> str:
    """In the Hub's words: "n<1K", "1K<n<10K", …, "n>1T"."""
    bounds = [f"{digit}{unit}" for unit in ("K", "M", "B", "T") for digit in (1, 10, 100)][:10]  # 1K … 1T
    place = sum(rows >= 10 ** (3 + power) for power in range(len(bounds)))
    if place in (0, len(bounds)):
        return f"n<{bounds[0]}" if place == 0 else f"n>{bounds[-1]}"
    return f"{bounds[place - 1]}<n<{bounds[place]}"


def _cell(value: object) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key}: {what}" for key, what in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


# -- reading ----------------------------------------------------------------------------------------------------------


def read_record(folder: Path) -> dict[str, Any]:
    """corpus.json.

    Raises:
        FileNotFoundError: the folder holds no corpus.
        ValueError: the file is damaged, or of another format.
    """
    file = folder / "corpus.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} is not a prepared corpus: it has no corpus.json; make it with recipes/prepare.py"
        )
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); the corpus is damaged, prepare it again") from error
    if record.get("format") != FORMAT:
        raise ValueError(f"{file}: format {record.get('format')!r}, expected {FORMAT}; prepare the corpus again")
    return record


def feature_names(folder: str | Path) -> list[str]:
    """Names of the feature sets a prepared corpus has."""
    return sorted(file.parent.name for file in Path(folder).glob("[!.]*/features.json"))  # no half-written ones


def read_items(folder: str | Path) -> pa.Table:
    """The items table with all its columns, row i for item i."""
    return _read_table(Path(folder) / "items" / "items.parquet")


def load_corpus(
    folder: Path, protocol: str, features: Sequence[str], origin: Mapping[str, str] = MappingProxyType({})
) -> Corpus:
    """See :meth:`Corpus.load`; ``origin`` says where on the Hub the folder is from."""
    record = read_record(folder)
    if protocol not in record["protocols"]:
        have = ", ".join(record["protocols"])
        raise ValueError(
            f"{folder} has no protocol {protocol!r}; it has: {have}. Prepare it into this folder, or use one of "
            "these (--data.protocol)"
        )
    items, item_ids = _read_ids(folder, "items", record)
    _, user_ids = _read_ids(folder, "users", record)
    about = record["protocols"][protocol]
    corpus = Corpus(
        name=record["name"],
        protocol=protocol,
        num_users=record["num_users"],
        num_items=record["num_items"],
        splits={split: _read_split(folder / protocol / f"{split}.parquet") for split in SPLITS},
        features={name: read_features(folder, name, record["num_items"], record["items"]) for name in features},
        user_ids=user_ids,
        item_ids=item_ids,
        titles=tuple(title or "" for title in items["title"].to_pylist()) if "title" in items.column_names else (),
        info=about["info"],
        origin=dict(origin),
    )
    for split, rows in about["rows"].items():
        if len(corpus.splits[split]) != rows:
            found = len(corpus.splits[split])
            raise ValueError(
                f"{folder / protocol / split}.parquet has {found} rows, corpus.json says {rows}; prepare it again"
            )
    if corpus.fingerprint() != about["fingerprint"]:  # one pass of sha256, which whoever trains needs anyway
        raise ValueError(
            f"{folder / protocol}: the interactions are not those corpus.json was written with (fingerprint "
            f"{corpus.fingerprint()[:16]}, recorded {about['fingerprint'][:16]}); a copy or a write was incomplete: "
            f"copy the folder again, or prepare protocol {protocol!r} into it again"
        )
    return corpus


def _read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
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


def _read_ids(folder: Path, what: str, record: dict[str, Any]) -> tuple[pa.Table, tuple[str, ...]]:
    file = folder / what / f"{what}.parquet"
    table = _read_table(file)
    if table.num_rows != record[f"num_{what}"]:
        raise ValueError(
            f"{file} has {table.num_rows} rows, corpus.json says {record[f'num_{what}']}; prepare the corpus again"
        )
    ids = tuple(table["id"].to_pylist()) if "id" in table.column_names else ()
    if hash_ids(ids) != record[what]:
        raise ValueError(f"{file}: the ids are not those corpus.json was written with; prepare the corpus again")
    return table, ids


def _read_split(file: Path) -> Interactions:
    table = _read_table(file, ["user", "item", "timestamp", "position"])
    for name in ("user", "item", "timestamp", "position"):
        if name not in table.column_names:
            raise ValueError(
                f"{file} has no column {name!r} (it has {', '.join(table.column_names)}); prepare it again"
            )
    user, item, position = (table[name].to_numpy().copy() for name in ("user", "item", "position"))
    known = table["timestamp"].null_count < table.num_rows
    timestamp = table["timestamp"].fill_null(-1).to_numpy().copy() if known else None
    return Interactions(user, item, position, timestamp)


def read_features(folder: str | Path, name: str, num_items: int, items: str) -> Features:
    """A feature set, verified against its recorded hash and the corpus' items.

    Args:
        folder: of the corpus.
        name: of the feature set.
        num_items: of the corpus.
        items: hash of the corpus' item ids.

    Raises:
        ValueError: unknown name; other rows, width or items than recorded; NaN.
    """
    folder = Path(folder)
    if name not in feature_names(folder):
        have = ", ".join(feature_names(folder)) or "none"
        raise ValueError(f"{folder} has no feature set {name!r}; it has: {have}")
    files = sorted((folder / name).glob("*.parquet"))
    about = json.loads((folder / name / "features.json").read_text(encoding="utf-8"))
    if not files:
        raise FileNotFoundError(f"{folder / name} holds no parquet file; extract the features again")
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.concat_tables(_read_table(file, ["item", "values", "missing"]) for file in files)
    where = str(files[0] if len(files) == 1 else folder / name)
    if about["items"] != items:
        raise ValueError(
            f"{where}: feature set {name!r} was made for other items than {folder / 'items'} has; extract it again"
        )
    item = table["item"].to_numpy()
    wrong = np.flatnonzero(item != np.arange(len(item)))
    if len(wrong):
        raise ValueError(f"{where}: row {wrong[0]} is of item {item[wrong[0]]}; rows must be those of items 0, 1, …")
    chunks, offsets = table["values"].chunks, None
    if about["kind"] != "dense":
        offsets = np.concatenate([[0], np.cumsum([pc.list_value_length(table["values"]).to_numpy()], dtype=np.int64)])
        chunks = [chunk.flatten() for chunk in chunks]
    if about["kind"] == "tags":
        values = np.concatenate([chunk.to_numpy() for chunk in chunks])
    else:
        kind = chunks[0].type
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        if width != about["dim"]:
            raise ValueError(
                f"{where}: vectors of width {width}, features.json says {about['dim']}; extract them again"
            )
        # concatenate copies, so the result is writable, which torch wants
        flat = np.concatenate([chunk.flatten().to_numpy() for chunk in chunks])
        values = flat.astype(np.float32, copy=False).reshape(-1, about["dim"])
    vocabulary = tuple(about["vocabulary"]) if "vocabulary" in about else None
    missing = table["missing"].to_numpy() if "missing" in table.column_names else None
    features = Features(about["kind"], values, offsets, vocabulary, about["provenance"], missing)
    check_features(name, features, num_items, where)
    if hash_rows(values, offsets, missing) != about["sha256"]:
        raise ValueError(
            f"{where}: the values are not those features.json was written with; copy them again, or remove the folder "
            "and extract them again"
        )
    return features
