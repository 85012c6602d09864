"""Features of a prepared corpus' items: in shards, by any number of processes, restartable.

Items are cut into shards of :data:`SHARD`. A process takes every ``world``-th one, hands its rows to an extractor and
writes what comes back as one parquet file under ``<corpus>/.extract/<name>/``; a shard that is there is skipped. Inside
a shard the extractor's batches are fixed, so that a vector does not depend on how many processes there are, nor on
where a run was stopped. Processes never talk to one another: the first one waits for the files of all, fills what is
missing, and writes the feature set, which appears whole or not at all.

Memory is a shard's and the encoder's, never the catalogue's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from seqmm.data.card import write_card
from seqmm.data.feature_store import FeatureWriter, feature_folder
from seqmm.data.store import read_record
from seqmm.features.readers.items import SHARD, item_shards
from seqmm.features.shards import (
    Extractor,
    await_shards,
    begin_plan,
    clear_work,
    digest_columns,
    is_there,
    join_plan,
    read_plan,
    read_shards,
    readable,
    refuse_another,
    shard_file,
    write_shard,
)
from seqmm.files import replacing, values_digest

SHOWN = 20
"""Items named in features.json for each thing that went wrong; all are in the ``note`` column."""


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
        "table": digest_columns(folder, extractor.columns),
        "shard": SHARD,
        "source": extractor.source,
        "provenance": extractor.provenance,
    }
    last = {} if extractor.transform is None else {"transform": extractor.transform.settings}
    made = values_digest(plan | {"dtype": dtype} | last)
    report = Report(name, record["num_items"], rank=rank, world=world)
    target, work = folder / feature_folder(name), folder / ".extract" / feature_folder(name)
    if not is_there(target, made):
        refuse_another(target, plan, made, overwrite)
        if rank == 0:
            begin_plan(work, plan, overwrite)
        else:
            join_plan(work, plan, overwrite, target, made)
    elif rank == 0 and read_plan(work) == plan:  # stopped between the last two steps
        write_card(folder)
        clear_work(work)

    count = -(-record["num_items"] // SHARD)
    mine = [shard for shard in range(rank, count, world) if not readable(shard_file(work, shard))]
    if is_there(target, made):  # asked once more: the first process may have found all shards, and cleared them away
        report.skipped = True
        return report
    sizes = {shard: min(SHARD, record["num_items"] - shard * SHARD) for shard in mine}
    started = time.perf_counter()
    if mine:
        with tqdm(total=sum(sizes.values()), desc=name, unit="item", disable=True if rank else None) as bar:
            for shard, rows in item_shards(folder, extractor.columns, set(mine)):
                found = extractor(rows, bar.update)
                write_shard(shard_file(work, shard), shard * SHARD, rows, found, extractor)
    report.done, report.seconds = sum(sizes.values()), time.perf_counter() - started
    if rank == 0:
        await_shards(work, count, name)
        report.notes, report.examples = _finish(target, work, count, record, extractor, made, dtype)
        write_card(folder)
        clear_work(work)
    return report


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
        for shard in read_shards(work, count, extractor.dim, f"{name}: reading"):
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
        for number, shard in enumerate(read_shards(work, count, extractor.dim, f"{name}: writing")):
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
