"""Hostile inputs: what a case is, how it is fed to a recipe, and the verdict."""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.server import Done, recipe, run
from tests.faults.snapshots import Snapshot, snapshot
from tests.faults.world import World

LINES = 3
"""A refusal is at most so many lines."""
SECONDS = 60.0
"""Of an input that takes longer the program has hung."""
MEMORY = 4 << 30
"""Bytes of address space a case may take above what importing takes."""
VERDICTS = ("traceback", "silent wrong", "execution", "escape", "unhelpful")
"""A traceback (or a crash, or hanging); another value than the right one; code of the input ran; something was written
elsewhere; a refusal of more lines, or one that does not name the file, or one of what is sound."""

SOUND, REFUSED, EITHER = "sound", "refused", "either"

Check = Callable[[Path], str | None]
"""``folder -> what is wrong``, in the child, after a recipe that ended well."""
Shown = Callable[[str], str | None]
"""``what was printed -> what is wrong``."""
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Characters that tell a terminal to do something; no input may bring them there."""


@dataclass(frozen=True)
class Door:
    """A way in: what a recipe reads.

    Attributes:
        name: of it.
        inputs: what of the world it needs.
        lay: writes what else it reads.
        command: recipe and arguments.
        check: whether what came of it is right; without one, what is printed must be the same.
        shown: whether what was printed is right.
    """

    name: str
    inputs: tuple[str, ...]
    lay: Callable[[Path], object]
    command: tuple[str, ...]
    check: Check | None = None
    shown: Shown | None = None


@dataclass(frozen=True)
class Case:
    """An input and what is right.

    Attributes:
        door: where it is fed in.
        name: of it.
        spoil: makes the sound inputs hostile.
        right: ``sound`` = read, with the right values; ``refused`` = refused; ``either`` of them.
        names: what a refusal must name.
        more: further arguments.
        check: in place of the door's.
        shown: in place of the door's.
    """

    door: Door
    name: str
    spoil: Callable[[Path], object]
    right: str = REFUSED
    names: str = ""
    more: tuple[str, ...] = ()
    check: Check | None = None
    shown: Shown | None = None

    @property
    def title(self) -> str:
        return f"{self.door.name}: {self.name}"


def canary(folder: Path) -> Path:
    """What an input's code would write, if it ran."""
    return folder.resolve().parent / "EXECUTED"


@dataclass
class HostileTally:
    """What came of the cases of a door."""

    cases: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def blame(self, verdict: str, case: Case, line: str) -> None:
        """Counts a fault."""
        self.faults[verdict] += 1
        self.told.append(f"{verdict}: {case.title}: {line}")


class Feeder:
    """Feeds cases to recipes.

    Args:
        world: of sound inputs.
        place: folder to work in.
    """

    def __init__(self, world: World, place: Path):
        self.world, self.place = world, place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self._sound: dict[str, str] = {}

    def feed(self, case: Case, tally: HostileTally) -> None:
        """Runs it and judges."""
        tally.cases += 1
        if case.door.name not in self._sound:
            done, wrong, _ = self._run(case.door, None, (), case.door.check)
            if done.code != 0 or wrong:
                raise RuntimeError(f"{case.door.name}: the sound input fails: {wrong or done.err[-2000:]}")
            self._sound[case.door.name] = done.out
        done, wrong, around = self._run(case.door, case.spoil, case.more, case.check or case.door.check)
        if "the case cannot be laid" in done.err:
            raise RuntimeError(f"{case.title}: {done.err[-2000:]}")
        if canary(self._folder).exists():
            tally.blame("execution", case, "code of the input ran")
            canary(self._folder).unlink()
        if around != (now := self._around()):
            changed = sorted(name for name in around.keys() | now.keys() if around.get(name) != now.get(name))
            tally.blame("escape", case, ", ".join(changed[:4]))
        if found := CONTROL.search(done.out + done.err):
            tally.blame("escape", case, f"{found[0]!r} reaches the terminal")
        if done.traced or done.hung or done.code < 0:
            what = "hung" if done.hung else f"exit code {done.code}"
            tally.blame("traceback", case, f"{what}: {done.last_line}")
        elif done.code == 0:
            shown = case.shown or case.door.shown
            if shown is not None:
                wrong = wrong or shown(done.out)
            elif case.door.check is None and case.check is None and done.out != self._sound[case.door.name]:
                wrong = "another answer than to the sound input"
            if case.right == REFUSED and (wrong or case.check is None):
                tally.blame("silent wrong", case, f"accepted; {wrong or 'it was to be refused'}")
            elif wrong:
                tally.blame("silent wrong", case, wrong)
        else:
            said = done.err[done.err.find("error: ") :].strip()
            lines = [line for line in said.splitlines() if line.strip()]
            if case.right == SOUND:
                tally.blame("unhelpful", case, f"refused what is sound: {said[:300]}")
            elif len(lines) > LINES or case.names not in said or not said.startswith("error: "):
                tally.blame("unhelpful", case, f"{len(lines)} lines, must name {case.names!r}: {said[:300]}")

    @property
    def _folder(self) -> Path:
        return self.place / "deep" / "inner"

    def _around(self) -> Snapshot:
        """Everything beside the folder that a case may write to."""
        home = ("home/.cache", "deep/EXECUTED")
        found = snapshot(self.place, skip=self._folder).items()
        return {name: value for name, value in found if not name.startswith(home) and name not in ("deep/", "home/")}

    def _run(
        self, door: Door, spoil: Callable[[Path], object] | None, more: Sequence[str], check: Check | None
    ) -> tuple[Done, str | None, Snapshot]:
        folder, verdict = self._folder, self.place.parent / "verdict.txt"
        shutil.rmtree(self.place, ignore_errors=True)
        folder.mkdir(parents=True)
        (self.place / "home").mkdir()
        (self.place / "sentinel.txt").write_text("whole")
        (self.place / "deep" / "sentinel.txt").write_text("whole")
        (self.place / "deep" / "secret.txt").write_text("what no link may take along")
        verdict.unlink(missing_ok=True)
        for name in door.inputs:
            self.world.copy(name, folder)
        around = self._around()

        def call() -> None:
            try:
                door.lay(folder)
                if spoil is not None:
                    spoil(folder)
            except Exception as error:
                raise RuntimeError("the case cannot be laid") from error
            code = 0
            try:
                recipe(door.command[0], *door.command[1:], *more)()
            except SystemExit as stop:
                code = int(stop.code or 0) if isinstance(stop.code, int | None) else 1
            if code == 0 and check is not None:
                sys.stdout.flush()
                verdict.write_text(check(folder) or "", encoding="utf-8", errors="replace")
            sys.exit(code)

        home = str(self.place / "home")
        environment = {"HOME": home, "SEQMM_CACHE": f"{home}/.cache/seqmm", "FAULTS_PLACE": str(self.place)}
        done = run(call, folder, limit=SECONDS, memory=MEMORY, environment=environment)
        wrong = verdict.read_text() if verdict.is_file() else None
        return done, wrong or None, around


def chosen(cases: Sequence[Case], count: int | None, seed: int) -> list[Case]:
    """So many of the cases, of every door in turn; all of them if None."""
    if count is None or count >= len(cases):
        return list(cases)
    draws = random.Random(seed)
    doors: dict[str, list[Case]] = {}
    for case in cases:
        doors.setdefault(case.door.name, []).append(case)
    for row in doors.values():
        draws.shuffle(row)
    dealt = [row[turn] for turn in range(max(map(len, doors.values()))) for row in doors.values() if turn < len(row)]
    return sorted(dealt[:count], key=lambda case: case.door.name)


def feed_all(cases: Sequence[Case], world: World, place: Path) -> Iterator[tuple[Case, HostileTally]]:
    """Feeds them; yields each with the tally of its door so far."""
    feeder = Feeder(world, place)
    tallies: dict[str, HostileTally] = {}
    for case in cases:
        tally = tallies.setdefault(case.door.name, HostileTally())
        feeder.feed(case, tally)
        yield case, tally
