"""Features of a prepared corpus' items: in shards, by any number of processes, restartable.

Items are cut into shards of :data:`SHARD`. A process takes every ``world``-th one, hands its rows to an extractor and
writes what comes back as one parquet file under ``<corpus>/.extract/<name>/``; a shard that is there is skipped. Inside
a shard the extractor's batches are fixed, so that a vector does not depend on how many processes there are, nor on
where a run was stopped. Processes never talk to one another: the first one waits for the files of all, fills what is
missing, and writes the feature set, which appears whole or not at all.

Memory is a shard's and the encoder's, never the catalogue's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from tqdm import tqdm

from seqmm.data.schema import FeatureWriter, feature_folder, read_record, replacing, write_card, write_text

if TYPE_CHECKING:
    import pyarrow as pa

SHARD = 1024
"""Items of a shard."""

SHOWN = 20
"""Items named in features.json for each thing that went wrong; all are in the ``note`` column."""


@dataclass
class Found:
    """What an extractor made of one item."""

    vectors: np.ndarray
    """``[n, d]`` float32; n = 0: nothing to be had, n = 1 in a dense set."""
    note: str = ""
    """What is missing or wrong, as ``what`` or ``what: detail``; the card counts by ``what``."""
    words: Sequence[str] = ()
    """What a person can read of each vector (keywords, a caption), or none at all."""


class Transform(Protocol):
    """What needs all items at once: PCA, a mean over all images."""

    dim: int
    """Width of the result."""
    passes: int
    """How often it must see all vectors before it can be applied."""
    settings: dict[str, str]
    """What it was made with, beside what the extractor's provenance and source say already."""
    provenance: dict[str, str]
    """Known after the last pass."""

    def update(self, number: int, vectors: np.ndarray) -> None:
        """A block ``[N, d]`` of pass ``number``."""
        ...

    def end_pass(self, number: int) -> None:
        """All blocks of it were seen."""
        ...

    def __call__(self, vectors: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """``[N, d] -> [N, dim]``, and a string of words for each row if it makes some. Affine for a dense set."""
        ...


class Extractor(Protocol):
    """Turns rows of the items table into vectors; what it gives for an item depends on its shard's rows alone."""

    dim: int
    """Width of what it makes, before the transform."""
    columns: tuple[str, ...]
    """Columns of the items table it reads, beside ``id``."""
    provenance: dict[str, str]
    """Encoder, weights, pooling, prompt …: two sets with the same provenance are comparable, whatever they were read
    from. A checkpoint refuses others."""
    source: dict[str, str]
    """What is read (columns and recipe, files, a vocabulary; digested where long): shards of another are refused."""

    @property
    def kind(self) -> Literal["dense", "ragged"]:
        """One vector an item, or any number."""
        ...

    @property
    def transform(self) -> Transform | None:
        """What needs all items at once."""
        ...

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        """One entry a row; ``advance(n)`` says that n more rows are done."""
        ...


@dataclass
class Report:
    """What :func:`extract` did."""

    name: str
    items: int
    """Of the corpus."""
    done: int = 0
    """By this process, now; the others were there already or are other processes'."""
    seconds: float = 0.0
    """Time of these."""
    notes: dict[str, int] = field(default_factory=dict)
    """What was missing or wrong -> items; of the first process."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Of these, ``id`` or ``id: detail``; all of them are in the set's column ``note``."""
    skipped: bool = False
    """The finished set was there."""
    rank: int = 0
    world: int = 1

    def line(self) -> str:
        """What this process did, for the terminal."""
        who = f"{self.name:<16} " + (f"process {self.rank}: " if self.world > 1 else "")
        if self.skipped:
            return f"{who}is there already, of {self.items:,} items"
        speed = f" at {self.done / self.seconds:,.1f} items/s" if self.done else ""
        rest = f" of {self.items:,}; the others were there or are other processes'"
        notes = "".join(
            f"; {what}: {count:,} items ({', '.join(self.examples[what][:3])}{', …' if count > 3 else ''})"
            for what, count in self.notes.items()
        )
        return f"{who}{self.done:,} items{speed}{'' if self.done == self.items else rest}{notes}"


def extract(
    folder: str | Path,
    name: str,
    extractor: Extractor,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    overwrite: bool = False,
    rank: int = 0,
    world: int = 1,
) -> Report:
    """Makes the feature set ``name`` of a prepared corpus, or goes on where it was stopped.

    Args:
        folder: of the corpus.
        name: of the feature set.
        extractor: what makes the vectors.
        dtype: how they are stored; they are read as float32.
        overwrite: replace a set of that name that was made otherwise, finished or half-done.
        rank: of this process.
        world: number of processes, all of which call this.

    Raises:
        FileNotFoundError: no corpus there.
        ValueError: a set of that name was made otherwise; no item has what the extractor reads; a name that is taken.
    """
    folder = Path(folder)
    record = read_record(folder)
    plan = {  # of the shards, which are before the transform and float32
        "items": record["items"],
        "num_items": record["num_items"],
        "table": _digest_columns(folder, extractor.columns),
        "shard": SHARD,
        "source": extractor.source,
        "provenance": extractor.provenance,
    }
    last = {} if extractor.transform is None else {"transform": extractor.transform.settings}
    made = _hash(plan | {"dtype": dtype} | last)
    report = Report(name, record["num_items"], rank=rank, world=world)
    target, work = folder / feature_folder(name), folder / ".extract" / feature_folder(name)
    if not _is_there(target, made):
        _refuse_another(target, plan, made, overwrite)
        if rank == 0:
            _begin(work, plan, overwrite)
        else:
            _join(work, plan, overwrite, target, made)
    elif rank == 0 and _read_plan(work) == plan:  # stopped between the last two steps
        write_card(folder)
        _clear(work)

    count = -(-record["num_items"] // SHARD)
    mine = [shard for shard in range(rank, count, world) if not _readable(_file(work, shard))]
    if _is_there(target, made):  # asked once more: the first process may have found all shards, and cleared them away
        report.skipped = True
        return report
    sizes = {shard: min(SHARD, record["num_items"] - shard * SHARD) for shard in mine}
    started = time.perf_counter()
    if mine:
        with tqdm(total=sum(sizes.values()), desc=name, unit="item", disable=True if rank else None) as bar:
            for shard, rows in item_shards(folder, extractor.columns, set(mine)):
                found = extractor(rows, bar.update)
                _write_shard(_file(work, shard), shard * SHARD, rows, found, extractor)
    report.done, report.seconds = sum(sizes.values()), time.perf_counter() - started
    if rank == 0:
        _await(work, count, name)
        report.notes, report.examples = _finish(target, work, count, record, extractor, made, dtype)
        write_card(folder)
        _clear(work)
    return report


# -- the plan ----------------------------------------------------------------------------------------------------------


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Any] | None:
    """None if it is not there; asking first would be a race, since other processes move and remove these files."""
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is damaged ({error}); remove its folder and run the same command again") from error
    return values


def _read_plan(work: Path) -> dict[str, Any] | None:
    return _read(work / "plan.json")


def _is_there(target: Path, made: str) -> bool:
    """Whether the finished set is there, made as it would be made now."""
    return (_read(target / "features.json") or {}).get("plan") == made


def _refuse_another(target: Path, plan: dict[str, Any], made: str, overwrite: bool) -> None:
    about = _read(target / "features.json")
    if about is None or about.get("plan") == made or overwrite:
        return
    differing = [
        f"{key}: {about.get(part, {}).get(key, 'not said')} there, {value} now"
        for part in ("provenance", "source")
        for key, value in plan[part].items()
        if about.get(part, {}).get(key) != value
    ]
    what = "; ".join(differing) or "of other texts or files, or reduced or stored otherwise"
    raise ValueError(
        f"{target} is there already and was made otherwise ({what}); "
        "add --overwrite True to replace it, or give the new one another name"
    )


def _begin(work: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """The first process writes the plan, which is what the others wait for."""
    old = _read_plan(work)
    if old is not None and old != plan:
        if not overwrite:
            raise _another_plan(work, old, plan)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / "plan.json", json.dumps(plan, indent=1))


def _join(work: Path, plan: dict[str, Any], overwrite: bool, target: Path, made: str) -> None:
    """The others wait for the plan, or for the finished set. However long: the first process may still be at work on
    the set before this one, and who launched them ends all when one fails."""
    while not _is_there(target, made):
        old = _read_plan(work)
        if old == plan:
            return
        if old is not None and not overwrite:  # with it, the first process will replace that plan
            raise _another_plan(work, old, plan)
        time.sleep(0.1)


def _another_plan(work: Path, old: dict[str, Any], plan: dict[str, Any]) -> ValueError:
    changed = [key for key in plan if old.get(key) != plan[key]]
    what = ", ".join(f"{key} (was {_short(old.get(key))}, is {_short(plan[key])})" for key in changed)
    return ValueError(
        f"{work} holds shards of an interrupted run with other settings: {what}; run with those again to finish it, or "
        "add --overwrite True to start anew"
    )


def _clear(work: Path) -> None:
    """The set is whole: its shards go, and what a run that was killed in the last step left beside it."""
    shutil.rmtree(work)
    for left in work.parents[1].glob(f".{work.name}.*.tmp"):
        shutil.rmtree(left)
    if not any(work.parent.iterdir()):
        work.parent.rmdir()


def _short(value: object) -> str:
    text = ", ".join(f"{key}: {what}" for key, what in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _digest_columns(folder: Path, columns: Sequence[str]) -> str:
    """Of the items' texts: shards made of others must not be mixed with new ones."""
    digest = hashlib.sha256()
    if columns:
        for batch in _item_batches(folder, columns):
            for row in batch.to_pylist():
                digest.update(json.dumps(row, default=str, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


# -- shards ------------------------------------------------------------------------------------------------------------


def _item_batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The items table in batches of :data:`SHARD` rows, its last one shorter.

    Raises:
        ValueError: a column is not in it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "items" / "items.parquet"
    with pq.ParquetFile(path) as file:
        have = file.schema_arrow.names
        for column in columns:
            if column not in have:
                raise ValueError(f"{path} has no column {column!r}; it has: {', '.join(have)}")
        held: list[pa.RecordBatch] = []
        for batch in file.iter_batches(SHARD, columns=list(columns)):
            held.append(batch)
            if sum(len(part) for part in held) >= SHARD:  # a row group may end inside a shard
                whole = pa.Table.from_batches(held).combine_chunks()
                for start in range(0, len(whole) - SHARD + 1, SHARD):
                    yield whole.slice(start, SHARD).to_batches()[0]
                rest = whole.slice(len(whole) - len(whole) % SHARD)
                held = rest.to_batches()
        if sum(len(part) for part in held):
            yield pa.Table.from_batches(held).combine_chunks().to_batches()[0]


def item_columns(folder: Path) -> list[str]:
    """Columns of the items table."""
    import pyarrow.parquet as pq

    return list(pq.read_schema(folder / "items" / "items.parquet").names)


def item_shards(
    folder: Path, columns: Sequence[str], wanted: set[int] | None = None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """``(shard, its rows)``, a row being a dict of ``columns`` and ``id`` (the item's number if there are no ids)."""
    named = "id" in item_columns(folder)
    read = [*columns, *(["id"] if named and "id" not in columns else ["item"])]
    for shard, batch in enumerate(_item_batches(folder, read)):
        if wanted is None or shard in wanted:
            rows = batch.to_pylist()
            yield shard, rows if named else [{**row, "id": str(row["item"])} for row in rows]


def _file(work: Path, shard: int) -> Path:
    return work / f"{shard:06d}.parquet"


def _readable(file: Path) -> bool:
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


def _write_shard(file: Path, first: int, rows: list[dict[str, Any]], found: list[Found], extractor: Extractor) -> None:
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
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    pq.write_table(table, temporary, compression="none")
    temporary.replace(file)


def _await(work: Path, count: int, name: str) -> None:
    """Until all processes' shards are there; a damaged one is being made again by whose it is."""
    missing = [shard for shard in range(count) if not _readable(_file(work, shard))]
    if not missing:
        return
    with tqdm(total=len(missing), desc=f"{name}: other processes", unit="shard", disable=None) as bar:
        while missing:
            time.sleep(0.5)
            left = [shard for shard in missing if not _readable(_file(work, shard))]
            bar.update(len(missing) - len(left))
            missing = left


# -- the feature set ---------------------------------------------------------------------------------------------------


@dataclass
class _Shard:
    ids: list[str]
    vectors: np.ndarray  # [N, d]
    lengths: np.ndarray  # [n]
    notes: list[str]
    words: list[list[str]]


def _read_shards(work: Path, count: int, dim: int, desc: str) -> Iterator[_Shard]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number in tqdm(range(count), desc=desc, unit="shard", leave=False, disable=None):
        file = _file(work, number)
        try:
            table = pq.read_table(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{file} cannot be read ({error}); delete it and run the same command again") from error
        values = table["values"].combine_chunks()
        flat = values.flatten().flatten().to_numpy().reshape(-1, dim)
        lengths = np.diff(values.offsets.to_numpy())
        yield _Shard(table["id"].to_pylist(), flat, lengths, table["note"].to_pylist(), table["words"].to_pylist())


def _finish(
    target: Path,
    work: Path,
    count: int,
    record: dict[str, Any],
    extractor: Extractor,
    made: str,
    dtype: Literal["float32", "float16"],
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Fills, transforms and writes the set; returns what was missing or wrong, counted, and examples."""
    dense, transform, name = extractor.kind == "dense", extractor.transform, target.name
    notes: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    lengths, total = [], np.zeros(extractor.dim)
    any_words = False
    for number in range(max(1, 0 if transform is None else transform.passes)):
        for shard in _read_shards(work, count, extractor.dim, f"{name}: reading"):
            if transform is not None:
                transform.update(number, shard.vectors)
            if number:
                continue
            lengths.append(shard.lengths)
            total += shard.vectors.sum(0, dtype=np.float64)
            any_words |= any(shard.words)
            for item, note in zip(shard.ids, shard.notes, strict=True):
                if note:
                    what = note.split(":")[0]
                    notes[what] += 1
                    examples.setdefault(what, [])
                    if len(examples[what]) < SHOWN:
                        examples[what].append(item + note[len(what) :])
        if transform is not None:
            transform.end_pass(number)
    length = np.concatenate(lengths)
    if not length.any():
        what = "; ".join(f"{what} ({', '.join(examples[what][:3])} …)" for what in notes) or "nothing was found"
        raise ValueError(f"feature set {name!r}: not one of {len(length):,} items has a vector: {what}")
    offsets = None if dense else np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    mean = (total / length.sum()).astype(np.float32)[None]
    dim, provenance = extractor.dim, dict(extractor.provenance)
    if transform is not None:
        dim, provenance = transform.dim, provenance | transform.provenance
    if dense:
        provenance["missing"] = "mean vector"
        mean = mean if transform is None else transform(mean)[0]
    with replacing(target) as temporary:
        writer = FeatureWriter(temporary, extractor.kind, dim, record["items"], len(length), offsets, dtype)
        for number, shard in enumerate(_read_shards(work, count, extractor.dim, f"{name}: writing")):
            values, words = (shard.vectors, None) if transform is None else transform(shard.vectors)
            if words is not None:  # one for each vector
                ends = np.cumsum([0, *shard.lengths])
                shard.words = [words[start:end] for start, end in pairwise(ends)]
            missing = None
            if dense:
                missing = shard.lengths == 0
                filled = np.repeat(mean, len(shard.lengths), 0)
                filled[~missing] = values
                values = filled
            extra: dict[str, Sequence[Any]] = {"note": shard.notes} if notes else {}
            if any_words or words is not None:
                extra["words"] = shard.words
            file = f"{number:05d}-of-{count:05d}.parquet"
            writer.write(file, values, len(shard.lengths), missing, extra)
        writer.close(
            provenance,
            source=extractor.source,
            plan=made,
            notes=dict(sorted(notes.items())),
            examples=examples,
        )
    return dict(notes), examples
