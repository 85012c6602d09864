"""Disturbs commands at random moments, goes on as a user would, and compares with what an undisturbed run left."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.hub import Hub
from tests.faults.scenarios import Scenario
from tests.faults.server import Disturbance, Done, recipe, run
from tests.faults.snapshots import Difference, Snapshot, compare, snapshot
from tests.faults.world import World

EARLY = ("notes.txt", ".my-notes", "state-of-things/today.txt")
LATE = ("checkpoints/llm/weights.bin",)
"""Files of somebody else's: there before a command, and come while it lay still."""
LINES = 4
"""An error is at most so many lines."""
FAULTS = ("refused", "traceback", "lost", "differing", "log", "leftovers", "foreign")


Disturbed = Callable[[Path], tuple[Disturbance, Done]]
"""Runs the command in a folder and disturbs it."""


@dataclass
class Tally:
    """What happened to a scenario's runs."""

    kills: int = 0
    signals: int = 0
    full: int = 0
    pairs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    """A line for each fault."""

    def blame(self, kind: str, line: str) -> None:
        """Counts a fault."""
        self.faults[kind] += 1
        self.told.append(f"{kind}: {line}")


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run leaves, and how long it takes."""

    files: Snapshot
    published: dict[str, str]
    seconds: float
    changes: int
    largest: int


class Trials:
    """Trials of one scenario.

    Args:
        scenario: which.
        world: of the inputs.
        place: empty folder to work in.
        hub: where it publishes.
        seed: of the moments.
    """

    def __init__(self, scenario: Scenario, world: World, place: Path, hub: Hub, seed: int):
        self.scenario, self.world, self.place, self.hub, self.seed = scenario, world, place, hub, seed
        self.tally = Tally()
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self.reference = self._reference()

    def run(self, kills: int, signals: int, full: int) -> Iterator[None]:
        """So many trials of each kind; yields after each."""
        draws = random.Random(f"{self.seed} {self.scenario.name}")
        for number in range(kills):
            self._trial(self._kill(draws, number), draws, again=draws.random() < 0.3)
            yield
        for number in range(signals):
            chosen = (signal.SIGINT, signal.SIGTERM)[number % 2]
            self._trial(self._signal(draws, chosen), draws)
            yield
        for number in range(full):
            self._trial(self._full(draws, number), draws)
            yield

    # -- one trial ----------------------------------------------------------------------------------------------------

    def _folder(self) -> Path:
        """A fresh one, with what the command needs and what is not ours."""
        folder = self.place / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in self.scenario.inputs:
            self.world.copy(name, folder)
        if self.scenario.publishes:
            self.hub.delete(*self.scenario.publishes)
        for command in self.scenario.before:
            done = run(recipe(*command), folder)
            if done.code != 0:
                raise RuntimeError(f"{self.scenario.name}: {' '.join(command)} fails undisturbed: {done.err[-2000:]}")
        plant(folder, self.scenario.foreign, EARLY)
        return folder

    def _reference(self) -> Reference:
        folder = self._folder()
        done = run(self.scenario.start(), folder)
        if done.imported:  # which takes longer than all else; what is measured is the run
            folder = self._folder()
            done = run(self.scenario.start(), folder)
        if done.code != 0:
            raise RuntimeError(f"{self.scenario.name} fails undisturbed: {done.err[-3000:]}")
        plant(folder, self.scenario.foreign, LATE)
        files = snapshot(folder)
        self._check_foreign(folder, "undisturbed")
        again = run(self.scenario.again(), folder)
        changed = compare(files, snapshot(folder))
        if again.traced or changed:
            self.tally.blame("differing", f"the same command after its end: {again.last_line} {_shown(changed)}")
        largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Reference(files, self._published(), done.seconds, done.changes, largest)

    def _published(self) -> dict[str, str]:
        return self.hub.files(*self.scenario.publishes) if self.scenario.publishes else {}

    def _trial(self, disturb: Disturbed, draws: random.Random, again: bool = False) -> None:
        folder = self._folder()
        disturbance, done = disturb(folder)
        if again and done.killed:
            moment = Disturbance(clock=draws.random() * self.reference.seconds)
            if run(self.scenario.again(), folder, moment).killed:
                self.tally.kills += 1
        plant(folder, self.scenario.foreign, LATE)
        self._judge(folder, str(disturbance), run(self.scenario.again(), folder))

    def _kill(self, draws: random.Random, number: int) -> Disturbed:
        """By turns by the clock and between two changes of the disk; drawn again if it was over before."""

        def disturb(folder: Path) -> tuple[Disturbance, Done]:
            for attempt in range(8):
                if attempt:
                    folder = self._folder()
                if number % 2 and self.reference.changes:
                    moment = Disturbance(operation=draws.randint(1, self.reference.changes))
                else:
                    moment = Disturbance(clock=draws.uniform(0.0, 1.0) * self.reference.seconds)
                done = run(self.scenario.start(), folder, moment)
                if done.killed:
                    break
            self.tally.kills += done.killed
            return moment, done

        return disturb

    def _signal(self, draws: random.Random, number: int) -> Disturbed:
        def disturb(folder: Path) -> tuple[Disturbance, Done]:
            moment = Disturbance(clock=draws.uniform(0.1, 1.0) * self.reference.seconds, signal=number)
            done = run(self.scenario.start(), folder, moment)
            self.tally.signals += 1
            self._check_words(done, str(moment))
            return moment, done

        return disturb

    def _full(self, draws: random.Random, number: int) -> Disturbed:
        def disturb(folder: Path) -> tuple[Disturbance, Done]:
            if number % 2:
                moment = Disturbance(file_size=int(self.reference.largest * draws.uniform(0.02, 0.98)))
            else:
                moment = Disturbance(full=draws.randint(1, max(self.reference.changes, 1)))
            done = run(self.scenario.start(), folder, moment)
            self.tally.full += 1
            self._check_words(done, str(moment))
            return moment, done

        return disturb

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def _check_words(self, done: Done, moment: str) -> None:
        """Whoever lives to say something says it in a few lines."""
        words = [line for line in done.err.splitlines() if line.strip() and "\r" not in line]
        if done.traced or done.hung or (done.code > 0 and not 1 <= len(words) <= LINES):
            self.tally.blame("traceback", f"{moment}: exit code {done.code}, {done.last_line}")

    def _check_foreign(self, folder: Path, moment: str) -> None:
        lost = survived(folder, self.scenario.foreign)
        if lost:
            self.tally.blame("foreign", f"{moment}: {', '.join(lost)}")

    def _judge(self, folder: Path, moment: str, done: Done) -> None:
        found = compare(self.reference.files, snapshot(folder))
        if done.traced or done.hung:
            self.tally.blame("traceback", f"{moment}, then: exit code {done.code}, {done.last_line}")
        elif done.code != 0 and found:  # "it is there already" is right if it is
            self.tally.blame("refused", f"{moment}, then: {done.last_line}")
        if done.code == 0:
            for kind, names in (("lost", found.lost), ("differing", found.differing), ("leftovers", found.leftovers)):
                logs = [name for name in names if name.endswith("log.jsonl")]
                if kind == "differing" and logs:
                    self.tally.blame("log", f"{moment}: {', '.join(logs)}")
                    names = [name for name in names if name not in logs]
                if names:
                    self.tally.blame(kind, f"{moment}: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}")
            if self._published() != self.reference.published:
                self.tally.blame("differing", f"{moment}: what is published")
        self._check_foreign(folder, moment)


def plant(folder: Path, where: str, names: Sequence[str]) -> None:
    """Files of somebody else's, and a link that leads out of the folder."""
    if not where:
        return
    (folder / "outside").mkdir(exist_ok=True)
    (folder / "outside" / "kept.txt").write_text("outside")
    for name in names:
        file = folder / where / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"mine: {name}")
    if not (folder / where / "link").is_symlink() and names is EARLY:
        (folder / where / "link").symlink_to((folder / "outside").resolve())


def survived(folder: Path, where: str) -> Sequence[str]:
    """The names of what was planted and is not there as it was."""
    if not where:
        return ()
    lost = [name for name in (*EARLY, *LATE) if _read(folder / where / name) != f"mine: {name}"]
    if not (folder / where / "link").is_symlink():
        lost.append("link")
    return lost + ["outside/kept.txt"] * (_read(folder / "outside" / "kept.txt") != "outside")


def _read(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None


def _shown(found: Difference) -> str:
    return f"(lost {found.lost[:3]}, differing {found.differing[:3]}, left {found.leftovers[:3]})" if found else ""
