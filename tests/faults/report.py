"""The long run: every scenario, every door, and a table of what came of it."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from tests.faults.doors import CASES
from tests.faults.hostile import VERDICTS, HostileTally, chosen, feed_all
from tests.faults.hub import Hub
from tests.faults.kills import FAULTS, Tally, Trials
from tests.faults.scenarios import SCENARIOS
from tests.faults.together import PAIRS, try_pairs
from tests.faults.world import World


def report(arguments: argparse.Namespace, folder: Path, hub: Hub) -> int:
    """Runs what is asked for, prints it, and gives the exit code."""
    started = time.perf_counter()
    world = World(folder / "world")
    print(f"the world is made: {time.perf_counter() - started:.0f} s", flush=True)
    scenarios = [scenario for scenario in SCENARIOS if wanted(scenario.name, arguments)]
    if arguments.short:
        scenarios = [scenario for scenario in scenarios if scenario.short]
        arguments.kills, arguments.signals, arguments.full, arguments.hostile = 2, 0, 1, 40
    tallies: dict[str, Tally] = {}
    each = arguments.kills + arguments.signals + arguments.full
    with tqdm(total=each * len(scenarios), unit="run", disable=None) as bar:
        for scenario in scenarios if each else ():
            bar.set_description(scenario.name)
            place = folder / scenario.name.replace(" ", "-")
            trials = Trials(scenario, world, place, hub, arguments.seed)
            tallies[scenario.name] = trials.tally
            for _ in trials.run(arguments.kills, arguments.signals, arguments.full):
                bar.update()
            tqdm.write(row(scenario.name, trials.tally) + f"   {trials.reference.seconds:.2f} s a run")
            for line in trials.tally.told:
                tqdm.write(f"    {line}")
            shutil.rmtree(place)
    pairs = 1 if arguments.short else arguments.pairs
    both = [pair for pair in PAIRS if wanted(pair.name, arguments)][: 1 if arguments.short else None]
    for name, tally in try_pairs(both, world, folder / "pairs", pairs, arguments.seed) if pairs else ():
        tallies[name] = tally
        tqdm.write("\n".join([row(name, tally), *(f"    {line}" for line in tally.told)]))
    hostile = feed(arguments, world, folder / "hostile")
    print("\n" + "\n".join(table(tallies)) if tallies else "")
    print("\n" + "\n".join(hostile_table(hostile)) if hostile else "")
    print(f"\n{time.perf_counter() - started:.0f} s; seed {arguments.seed}")
    return int(any(tally.faults for tally in (*tallies.values(), *hostile.values())))


def wanted(title: str, arguments: argparse.Namespace) -> bool:
    """Whether a title is asked for."""
    return any(word in title for word in arguments.only)


def feed(arguments: argparse.Namespace, world: World, place: Path) -> dict[str, HostileTally]:
    """The hostile inputs that are asked for, by door."""
    fitting = [case for case in CASES if wanted(case.title, arguments)]
    cases = [] if not fitting else chosen(fitting, arguments.hostile, arguments.seed)
    tallies: dict[str, HostileTally] = {}
    told: dict[str, int] = {}
    with tqdm(total=len(cases), unit="input", disable=None) as bar:
        for case, tally in feed_all(cases, world, place):
            for line in tally.told[told.get(case.door.name, 0) :]:
                tqdm.write(f"    {line}")
            tallies[case.door.name], told[case.door.name] = tally, len(tally.told)
            bar.update()
    return tallies


DONE = ("kills", "signals", "full", "pairs")
COLUMNS = (*DONE, *FAULTS)


def table(tallies: dict[str, Tally]) -> Sequence[str]:
    """A row for each, and their sums."""
    whole = Tally()
    for tally in tallies.values():
        for name in DONE:
            setattr(whole, name, getattr(whole, name) + getattr(tally, name))
        whole.faults += tally.faults
    head = f"{'':<20}" + "".join(f"{name:>11}" for name in COLUMNS)
    return [head, *(row(name, tally) for name, tally in tallies.items()), row("all", whole)]


def row(name: str, tally: Tally) -> str:
    """A line of the table."""
    values = [*(getattr(tally, name) for name in DONE), *(tally.faults[kind] for kind in FAULTS)]
    return f"{name:<20}" + "".join(f"{value:>11}" for value in values)


def hostile_table(tallies: dict[str, HostileTally]) -> Sequence[str]:
    """A row for each door, and their sums."""
    head = f"{'':<20}{'inputs':>11}" + "".join(f"{name:>14}" for name in VERDICTS)
    whole = HostileTally(sum(tally.cases for tally in tallies.values()))
    for tally in tallies.values():
        whole.faults += tally.faults
    rows = [
        f"{name:<20}{tally.cases:>11}" + "".join(f"{tally.faults[kind]:>14}" for kind in VERDICTS)
        for name, tally in [*tallies.items(), ("all", whole)]
    ]
    return [head, *rows]
