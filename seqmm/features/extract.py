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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from seqmm.data.card import write_card
from seqmm.data.feature_store import FeatureWriter, feature_folder
from seqmm.data.store import FEATURE_FILES, CorpusRecord, read_record
from seqmm.features.extractor import Extractor
from seqmm.features.readers.items import SHARD, item_shards
from seqmm.features.shards import (
    Plan,
    Shard,
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
    remove_empty,
    shard_file,
    write_shard,
)
from seqmm.files import replacing, values_digest, write_text
from seqmm.leftovers import tidy_inside
from seqmm.names import Storage

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
    dtype: Storage = "float32",
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
    job = _Job(folder, name, extractor, dtype, read_record(folder))
    report = Report(name, job.items, rank=rank, world=world)
    if rank == 0:
        tidy_inside(folder)
    if not is_there(job.target, job.made):
        refuse_another(job.target, job.plan, job.made, overwrite)
        if rank == 0:
            begin_plan(job.work, job.plan, overwrite)
        else:
            join_plan(job.work, job.plan, overwrite, job.target, job.made)
    elif rank == 0 and read_plan(job.work) == job.plan:  # stopped between the last two steps
        job.conclude()
    elif rank == 0:
        remove_empty(job.work)
    mine = [shard for shard in range(rank, job.shards, world) if not readable(shard_file(job.work, shard))]
    if is_there(job.target, job.made):  # once more: the first process may have found all shards, and cleared them away
        report.skipped = True
        return report
    report.done, report.seconds = job.encode(mine, quiet=rank > 0)
    if rank == 0:
        await_shards(job.work, job.shards, name)
        report.notes, report.examples = job.finish()
        job.conclude()
    return report


class _Job:
    """A feature set to be made: where, of what, and the plan that all processes agree on."""

    def __init__(self, folder: Path, name: str, extractor: Extractor, dtype: Storage, record: CorpusRecord):
        self.folder, self.name, self.extractor, self.dtype = folder, name, extractor, dtype
        self.items, self.ids_digest = record["num_items"], record["items"]
        self.shards = -(-self.items // SHARD)
        self.target, self.work = folder / feature_folder(name), folder / ".extract" / feature_folder(name)
        self.plan: Plan = {
            "items": self.ids_digest,
            "num_items": self.items,
            "table": digest_columns(folder, extractor.columns),
            "shard": SHARD,
            "source": dict(extractor.source),
            "provenance": extractor.provenance,
        }
        last = {} if extractor.transform is None else {"transform": extractor.transform.settings}
        self.made = values_digest({**self.plan, "dtype": dtype} | last)

    def encode(self, shards: Sequence[int], quiet: bool) -> tuple[int, float]:
        """Makes shards and writes them; returns how many items they have and the seconds it took."""
        started, total = time.perf_counter(), sum(min(SHARD, self.items - shard * SHARD) for shard in shards)
        if shards:
            with tqdm(total=total, desc=self.name, unit="item", disable=True if quiet else None) as bar:
                done = 0
                for shard, rows in item_shards(self.folder, self.extractor.columns, set(shards)):
                    found = self.extractor(rows, bar.update)
                    write_shard(shard_file(self.work, shard), shard * SHARD, rows, found, self.extractor)
                    done += len(rows)
                    bar.update(done - bar.n)  # of an extractor that does not say how far it is
        return total, time.perf_counter() - started

    def finish(self) -> tuple[dict[str, int], dict[str, list[str]]]:
        """All shards to the feature set: read once or more, filled, transformed, written whole or not at all.

        Returns:
            What was missing or wrong -> items, and examples.
        """
        seen = _Seen(self.extractor)
        for number in range(seen.passes):
            for shard in self._read("reading"):
                seen.take(number, shard)
            seen.end(number)
        lengths = seen.check(self.target.name)
        dense = self.extractor.kind == "dense"
        offsets = None if dense else np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        with replacing(self.target, FEATURE_FILES) as temporary:
            writer = FeatureWriter(
                temporary, self.extractor.kind, seen.dim, self.ids_digest, self.items, offsets, self.dtype
            )
            for number, shard in enumerate(self._read("writing")):
                values, missing, more = seen.made(shard)
                file = f"{number:05d}-of-{self.shards:05d}.parquet"
                writer.write(file, values, len(shard.lengths), missing, more)
            writer.close(
                seen.provenance,
                source=dict(self.extractor.source),
                plan=self.made,
                notes=dict(sorted(seen.notes.items())),
                examples=seen.examples,
            )
        return dict(seen.notes), seen.examples

    def conclude(self) -> None:
        """What follows when the set is there: files beside it, the card, and the shards go."""
        for file, text in self.extractor.beside(self.name).items():
            write_text(self.folder / file, text)
        write_card(self.folder)
        clear_work(self.work)

    def _read(self, doing: str) -> Iterator[Shard]:
        return read_shards(self.work, self.shards, self.extractor.dim, f"{self.target.name}: {doing}")


class _Seen:
    """What must be known of all shards before the first is written: lengths, mean, notes, the transform's passes."""

    def __init__(self, extractor: Extractor):
        self.dense, self.transform = extractor.kind == "dense", extractor.transform
        self.passes = max(1, 0 if self.transform is None else self.transform.passes)
        self.dim, self.provenance = extractor.dim, dict(extractor.provenance)
        self.notes: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self._lengths: list[np.ndarray] = []
        self._total, self._any_words = np.zeros(extractor.dim), False

    def take(self, number: int, shard: Shard) -> None:
        """A shard of pass ``number``."""
        if self.transform is not None:
            self.transform.update(number, shard.vectors)
        if number:
            return
        self._lengths.append(shard.lengths)
        self._total += shard.vectors.sum(0, dtype=np.float64)
        self._any_words |= any(shard.words)
        for item, note in zip(shard.ids, shard.notes, strict=True):
            if note:
                what = note.split(":")[0]
                self.notes[what] += 1
                some = self.examples.setdefault(what, [])
                if len(some) < SHOWN:
                    some.append(item + note[len(what) :])

    def end(self, number: int) -> None:
        """All shards of a pass were taken."""
        if self.transform is not None:
            self.transform.end_pass(number)

    def check(self, name: str) -> np.ndarray:
        """All passes are over; returns vectors of each item ``[n]``.

        Raises:
            ValueError: not one item has a vector.
        """
        length = np.concatenate(self._lengths)
        if not length.any():
            lost = (f"{what} ({', '.join(self.examples[what][:3])} …)" for what in self.notes)
            what = "; ".join(lost) or "nothing was found"
            raise ValueError(f"feature set {name!r}: not one of {len(length):,} items has a vector: {what}")
        self._mean = (self._total / length.sum()).astype(np.float32)[None]  # [1, d]
        if self.transform is not None:
            self.dim, self.provenance = self.transform.dim, self.provenance | self.transform.provenance
        if self.dense:
            self.provenance["missing"] = "mean vector"
            self._mean = self._mean if self.transform is None else self.transform(self._mean)[0]
        return length

    def made(self, shard: Shard) -> tuple[np.ndarray, np.ndarray | None, dict[str, Sequence[Any]]]:
        """A shard's values as they are stored, which rows of a dense set are missing, and further columns."""
        values, words = (shard.vectors, None) if self.transform is None else self.transform(shard.vectors)
        if words is not None:  # one for each vector
            ends = np.cumsum([0, *shard.lengths])
            shard.words = [words[start:end] for start, end in pairwise(ends)]
        missing = None
        if self.dense:
            missing = shard.lengths == 0
            filled = np.repeat(self._mean, len(shard.lengths), 0)
            filled[~missing] = values
            values = filled
        more: dict[str, Sequence[Any]] = {"note": shard.notes} if self.notes else {}
        if self._any_words or words is not None:
            more["words"] = shard.words
        return values, missing, more
