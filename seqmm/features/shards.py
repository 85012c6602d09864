"""Shards of a feature set: the plan all processes agree on, and a file for each shard."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import numpy as np
from tqdm import tqdm

from seqmm.data.feature_store import FeatureRecord
from seqmm.features.extractor import Extractor, Found
from seqmm.features.readers.items import item_batches
from seqmm.files import read_json, write_json, writing
from seqmm.leftovers import remove
from seqmm.schema import Count, Digest, Least, ShortDigest

T = TypeVar("T")


class Plan(TypedDict):
    """plan.json: of the shards, which are before the transform and float32."""

    items: Digest
    num_items: Count
    table: ShortDigest
    """Of the texts that are read."""
    shard: Annotated[int, Least(1)]
    source: dict[str, str]
    provenance: dict[str, str]


def _read_if_there(file: Path, kind: type[T]) -> T | None:
    """None if it is not there; asking first would be a race, since other processes move and remove these files."""
    try:
        return read_json(file, kind, "no feature set", "remove its folder and run the same command again")
    except FileNotFoundError:
        return None


def read_plan(work: Path) -> Plan | None:
    return _read_if_there(work / "plan.json", Plan)


def is_there(target: Path, made: str) -> bool:
    """Whether the finished set is there, made as it would be made now."""
    about = _read_if_there(target / "features.json", FeatureRecord)
    return about is not None and about.get("plan") == made


def refuse_another(target: Path, plan: Plan, made: str, overwrite: bool) -> None:
    about = _read_if_there(target / "features.json", FeatureRecord)
    if about is None or about.get("plan") == made or overwrite:
        return
    differing = [
        f"{key}: {there.get(key, 'not said')} there, {value} now"
        for there, now in ((about["provenance"], plan["provenance"]), (about.get("source", {}), plan["source"]))
        for key, value in now.items()
        if there.get(key) != value
    ]
    what = "; ".join(differing) or "of other texts or files, or reduced or stored otherwise"
    raise ValueError(
        f"{target} is there already and was made otherwise ({what}); "
        "set `overwrite=True` to replace it, or give the new one another name"
    )


def begin_plan(work: Path, plan: Plan, overwrite: bool) -> None:
    """The first process writes the plan, which is what the others wait for."""
    old = read_plan(work)
    if old is not None and old != plan:
        if not overwrite:
            raise _another_plan(work, old, plan)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / "plan.json", plan)


def join_plan(work: Path, plan: Plan, overwrite: bool, target: Path, made: str) -> None:
    """The others wait for the plan, or for the finished set. However long: the first process may still be at work on
    the set before this one, and who launched them ends all when one fails."""
    while not is_there(target, made):
        old = read_plan(work)
        if old == plan:
            return
        if old is not None and not overwrite:  # with it, the first process will replace that plan
            raise _another_plan(work, old, plan)
        time.sleep(0.1)


def _another_plan(work: Path, old: Plan, plan: Plan) -> ValueError:
    was: dict[str, object] = {**old}
    changed = {key: value for key, value in plan.items() if was[key] != value}
    what = ", ".join(f"{key} (was {_short(was[key])}, is {_short(value)})" for key, value in changed.items())
    return ValueError(
        f"{work} holds shards of an interrupted run with other settings: {what}; run with those again to finish it, or "
        "set `overwrite=True` to start anew"
    )


def clear_work(work: Path) -> None:
    """The set is whole: its shards go."""
    for file in work.iterdir():
        if file.name != "plan.json":
            remove(file)
    remove(work)  # the plan last: killed before, the next run comes here again
    remove_empty(work)


def remove_empty(work: Path) -> None:
    """The folders of the shards, if nothing is in them."""
    for folder in (work, work.parent):
        with suppress(OSError):
            folder.rmdir()


def _short(value: object) -> str:
    text = ", ".join(f"{key}: {what}" for key, what in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def digest_columns(folder: Path, columns: Sequence[str]) -> str:
    """Of the items' texts: shards made of others must not be mixed with new ones."""
    digest = hashlib.sha256()
    if columns:
        for batch in item_batches(folder, columns):
            for row in batch.to_pylist():
                digest.update(json.dumps(row, default=str, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def shard_file(work: Path, shard: int) -> Path:
    return work / f"{shard:06d}.parquet"


def readable(file: Path) -> bool:
    """Whether a shard is there and whole; one that a crash of the machine left damaged is made again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file):
            return True
    except (OSError, pa.ArrowInvalid):  # not there; a footer that is cut off; one of noise
        return False


def _finite(result: Found) -> Found:
    """Without the vectors an encoder overflowed at, which the note says: one item must not stop a catalogue."""
    fine = np.isfinite(result.vectors).all(1)
    if fine.all():
        return result
    note = f"not finite: {int((~fine).sum())} of {len(fine)} vectors, by the encoder; compute in float32"
    return Found(result.vectors[fine], note, [word for word, kept in zip(result.words, fine, strict=False) if kept])


def write_shard(file: Path, first: int, rows: list[dict[str, Any]], found: list[Found], extractor: Extractor) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(found) != len(rows):
        raise ValueError(f"{type(extractor).__name__} gave {len(found)} results for {len(rows)} items")
    for row, result in zip(rows, found, strict=True):
        vectors = result.vectors
        if vectors.ndim != 2 or vectors.shape[1] != extractor.dim or (extractor.kind == "dense" and len(vectors) > 1):
            raise ValueError(f"item {row['id']!r}: vectors of shape {vectors.shape}; expected [n, {extractor.dim}]")
        if len(result.words) not in (0, len(vectors)):
            raise ValueError(f"item {row['id']!r}: {len(result.words)} words for {len(vectors)} vectors")
    found = [_finite(result) for result in found]
    flat = np.concatenate([result.vectors for result in found]).astype(np.float32)
    offsets = np.cumsum([0, *(len(result.vectors) for result in found)])
    values = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), extractor.dim)
    )
    table = pa.table(
        {
            "item": np.arange(first, first + len(rows)),
            "id": [row["id"] for row in rows],
            "values": values,
            "note": [result.note for result in found],
            "words": pa.array([list(result.words) for result in found], pa.list_(pa.string())),
        }
    )
    with writing(file) as temporary:
        pq.write_table(table, temporary, compression="none")


def await_shards(work: Path, count: int, name: str) -> None:
    """Until all processes' shards are there; a damaged one is being made again by whose it is."""
    missing = [shard for shard in range(count) if not readable(shard_file(work, shard))]
    if not missing:
        return
    with tqdm(total=len(missing), desc=f"{name}: other processes", unit="shard", disable=None) as bar:
        while missing:
            time.sleep(0.5)
            left = [shard for shard in missing if not readable(shard_file(work, shard))]
            bar.update(len(missing) - len(left))
            missing = left


@dataclass
class Shard:
    """What a shard's file holds."""

    ids: list[str]
    vectors: np.ndarray  # [N, d]
    lengths: np.ndarray  # [n]
    notes: list[str]
    words: list[list[str]]


def read_shards(work: Path, count: int, dim: int, desc: str) -> Iterator[Shard]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number in tqdm(range(count), desc=desc, unit="shard", leave=False, disable=None):
        file = shard_file(work, number)
        try:
            table = pq.read_table(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{file} cannot be read ({error}); delete it and run the same command again") from error
        values = table["values"].combine_chunks()
        flat = values.flatten().flatten().to_numpy().reshape(-1, dim)
        lengths = np.diff(values.offsets.to_numpy())
        yield Shard(table["id"].to_pylist(), flat, lengths, table["note"].to_pylist(), table["words"].to_pylist())
