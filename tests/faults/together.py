"""Two of one command at once on one folder: exactly one does it, the other is refused in a line or waits."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.kills import LINES, Tally
from tests.faults.server import recipe, run, start
from tests.faults.snapshots import compare, snapshot
from tests.faults.world import World


@dataclass(frozen=True)
class Pair:
    """A command that is given twice.

    Attributes:
        name: of it.
        command: recipe and arguments.
        inputs: what of the world it needs.
        one: whether exactly one may end well; else both may, if what they leave is right.
        before: a command that was run before.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[str, ...]
    one: bool = True
    before: tuple[str, ...] = ()


_TRAIN = ("train", "--config", "bpr.yaml", "--train.output-dir", "out/run")
_TRAINED = ("corpus", "bpr.yaml")
_PREPARE = ("prepare", "table", "--interactions", "clicks.csv", "--items", "items.csv", "--output", "out/mine")
_MORE = ("--train.epochs", "5")

PAIRS = (
    Pair("two trainings", _TRAIN, _TRAINED),
    Pair("two resumed", (*_TRAIN, *_MORE, "--train.resume", "True"), _TRAINED, before=_TRAIN),
    Pair("two overwriting", (*_TRAIN, "--train.overwrite", "True"), _TRAINED, before=_TRAIN),
    Pair("two benchmarks", ("benchmark", "--runs", "bpr.yaml", "--output", "out/table", "--probes", "False"), _TRAINED),
    Pair("two prepares", _PREPARE, ("clicks.csv", "items.csv"), one=False),
    Pair("two extractions", ("extract", "--corpus", "corpus", "--vectors", "mine=vectors.csv"),
         ("corpus", "vectors.csv"), one=False),
)  # fmt: skip


def try_pairs(pairs: Sequence[Pair], world: World, place: Path, times: int, seed: int) -> Iterator[tuple[str, Tally]]:
    """Each pair so many times, the second a random while after the first; yields its tally."""
    for pair in pairs:
        draws, tally = random.Random(f"{seed} {pair.name}"), Tally()
        folder = _fresh(pair, world, place)
        done = run(recipe(*pair.command), folder)
        if done.imported:
            folder = _fresh(pair, world, place)
            done = run(recipe(*pair.command), folder)
        if done.code != 0:
            raise RuntimeError(f"{pair.name} fails alone: {done.err[-2000:]}")
        right = snapshot(folder)
        for _ in range(times):
            folder, wait = _fresh(pair, world, place), draws.random() * 0.6 * done.seconds
            first = start(recipe(*pair.command), folder)
            time.sleep(wait)
            second = start(recipe(*pair.command), folder)
            ends = [first.wait(), second.wait()]
            tally.pairs += 1
            moment = f"{wait:.2f} s after the first"
            for end in ends:
                words = [line for line in end.err.splitlines() if line.strip() and "\r" not in line]
                if end.traced or end.hung or (end.code != 0 and len(words) > LINES):
                    tally.blame("traceback", f"{moment}: {end.last_line}")
            codes = [end.code for end in ends]
            if codes.count(0) != 1 and (pair.one or 0 not in codes):
                said = "; ".join(end.last_line for end in ends if end.code != 0)
                tally.blame("differing", f"{moment}: {codes.count(0)} of the two ended well {said}")
            if found := compare(right, snapshot(folder)):
                names = [*found.lost, *found.differing, *found.leftovers]
                tally.blame("differing", f"{moment}: {', '.join(names[:4])} are not as one run leaves them")
        yield pair.name, tally


def _fresh(pair: Pair, world: World, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in pair.inputs:
        world.copy(name, place)
    if pair.before:
        done = run(recipe(*pair.before), place)
        if done.code != 0:
            raise RuntimeError(f"{pair.name}: {done.err[-2000:]}")
    return place
