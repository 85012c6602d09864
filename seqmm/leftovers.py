"""What killed processes leave beside a file or folder: told from what a living one is writing, put back or removed.

Whoever writes ``target`` works in hidden neighbours that carry its process id, and holds a lock as long as it does:
``.target.<pid>.lock``, ``.target.<pid>.tmp`` (not finished), ``.target.<pid>.old`` (moved aside, and nothing is in its
place yet). A lock ends with its process, however that ends and on whatever machine of a shared disk; so what nobody
holds the lock of was left by a killed one.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.(?P<target>.+)\.(?P<pid>\d{1,10})\.(?P<kind>tmp|old|lock)", re.DOTALL)


class Leftover(NamedTuple):
    """A neighbour that nobody is writing."""

    target: str
    """Name of what was to be written; itself a neighbour's where a folder was made inside one that was being made."""
    kind: str
    """tmp, old or lock."""
    path: Path


def neighbour(target: Path, kind: str) -> Path:
    """This process' hidden neighbour of a file or folder: kind tmp, old or lock."""
    return target.with_name(f".{target.name}.{os.getpid()}.{kind}")


@contextmanager
def held(target: Path) -> Iterator[None]:
    """Says to other processes that this one is writing ``target``; first removes what killed ones left of it."""
    tidy(target)
    lock = neighbour(target, "lock")
    stream = _locked(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(stream)


def tidy(target: Path) -> None:
    """Puts ``target`` back if need be, and removes what killed processes left beside it."""
    put_back(target)
    for left in leftovers(target.parent, target.name):
        remove(left.path)


def tidy_inside(folder: Path) -> None:
    """:func:`tidy` for a folder that is ours and for whatever is in it."""
    put_back_inside(folder)
    for left in leftovers(folder):
        remove(left.path)


def put_back(target: Path) -> None:
    """Puts back a folder that a process had moved aside and was killed before the new one took its place."""
    if target.exists():
        return
    mine = leftovers(target.parent, target.name)
    moved = [left.path for left in mine if left.kind == "old" and left.target == target.name]
    if moved:
        with suppress(OSError):  # another process was faster, or the disk is not ours to write
            max(moved, key=lambda path: path.stat().st_ctime).rename(target)


def put_back_inside(folder: Path) -> None:
    """:func:`put_back` for a folder that is ours and for the folders in it."""
    put_back(folder)
    for left in leftovers(folder):
        if left.kind == "old":
            put_back(folder / left.target)


def leftovers(folder: Path, name: str | None = None) -> list[Leftover]:
    """What killed processes left in a folder: of one target, or of all, which only a folder of ours may be asked."""
    try:
        files = os.listdir(folder)
    except OSError:  # not there, not a folder, not for us to read
        return []
    found = []
    for file in files:
        match = _NAME.fullmatch(file)
        ours = match and name in (None, *_targets(match["target"]))
        if match and ours and not _held(folder, match["target"], match["pid"]):
            found.append(Leftover(match["target"], match["kind"], folder / file))
    return found


def _targets(name: str) -> Iterator[str]:
    """A name, and what that is a neighbour of."""
    yield name
    while match := _NAME.fullmatch(name):
        name = match["target"]
        yield name


def remove(path: Path) -> None:
    """Removes a file or a whole folder, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _locked(file: Path) -> int:
    """An open lock file that is this process' own, or as good as the disk can do."""
    while True:
        stream = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        os.write(stream, platform.node().encode())
        if fcntl is None:
            return stream
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a disk without locks, or another thread of this process writes the same
            return stream
        with suppress(FileNotFoundError):  # who tidied may have removed it before it was locked
            if os.path.samestat(os.fstat(stream), file.stat()):
                return stream
        os.close(stream)


def _held(folder: Path, target: str, pid: str) -> bool:
    """Whether the process that made these neighbours is still at work."""
    try:
        stream = os.open(folder / f".{target}.{pid}.lock", os.O_RDWR)
    except FileNotFoundError:  # it is made first and removed last
        return False
    except OSError:
        return True
    try:
        if fcntl is None:
            return _lives(int(pid), stream)
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks
        return _lives(int(pid), stream)
    finally:
        os.close(stream)
    return False


def _lives(pid: int, stream: int) -> bool:
    """Where nothing can be locked: a process of another machine, or one of this that is there."""
    if os.read(stream, 256) != platform.node().encode():
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
