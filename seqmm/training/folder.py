"""The folder of a run: one run at a time has it, and nothing is deleted or replaced in it but what a run wrote."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seqmm.files import write_json
from seqmm.leftovers import tidy
from seqmm.training.checkpoints import CHECKPOINTS, discard, is_leftover, states
from seqmm.training.weights import TEMPORARY

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger(__name__)

FILES = ("config.json", "log.jsonl", "model.safetensors")
"""What the trainer writes beside its states; the run adds its own."""
RESULTS = ("log.jsonl", "model.safetensors", "config.json", "metrics.json")
"""What goes when a run is replaced. run.yaml and the card are written anew, and the card keeps what was added to it."""
_MARK, _LOCK = ".seqmm-run.json", ".seqmm-run.lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[int] = set()
"""Descriptors of the locks of this process."""


class RunFolder:
    """A folder while a run has it: :meth:`hold`, then :meth:`claim`, and at the end :meth:`release`.

    A hidden file in it lists the files that runs have written there, so that a file of the same name which was there
    before is known to be somebody else's. Another hidden file is locked for as long as the run lasts; the system
    unlocks it when the process ends, however it ends.

    Args:
        path: of the folder; it is made when it is held.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock: int | None = None

    def hold(self) -> None:
        """Locks the folder for this run.

        Raises:
            ValueError: another run has it, or it is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; choose another train.output_dir")
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / _LOCK
        while self._lock is None:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(descriptor)
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise ValueError(
                    f"{self.path} is in use by another run ({holder}); wait until it ends, stop it, or choose another "
                    "train.output_dir"
                ) from None
            if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
                self._lock = descriptor
            else:  # the run that had it has ended in between, and removed the file
                os.close(descriptor)
        _held.add(self._lock)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the name
            os.ftruncate(self._lock, 0)
            os.write(self._lock, json.dumps({"process": os.getpid(), "machine": socket.gethostname()}).encode())

    def release(self) -> None:
        """Unlocks the folder."""
        if self._lock in _held:
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink()
            _held.discard(self._lock)
            os.close(self._lock)
        self._lock = None

    def claim(self, more: Iterable[str], *, going_on: bool, resume: bool, overwrite: bool, trained: bool) -> None:
        """Makes the folder ready for a run: refuses what is not ours, removes the run that is replaced.

        Args:
            more: files that are written beside those of the trainer.
            going_on: whether the run goes on from a state in it; then nothing of it is removed.
            resume: whether it was to go on from one.
            overwrite: whether a run in the folder may be replaced.
            trained: whether the model is trained at all.

        Raises:
            ValueError: a file there that no run wrote would be replaced; a run is there and may not be replaced, or
                its states were taken away.
        """
        names, mark = (*FILES, *more), self._mark()
        without_mark = names if states(self.path / CHECKPOINTS) else ()  # copied, and hidden files left behind
        known = set(mark.get("files", without_mark))
        there = [name for name in names if os.path.lexists(self.path / name)]
        if foreign := [name for name in there if name not in known or (self.path / name).is_dir()]:
            raise ValueError(
                f"{self.path} holds {', '.join(foreign)}, which no run wrote there and this one would replace; choose "
                "another train.output_dir, or move it away"
            )
        if not going_on:
            self._make_free(known, resume=resume, overwrite=overwrite, trained=trained)
        if not set(names) <= set(mark.get("files", ())):
            self._write_mark({"files": sorted({*names, *mark.get("files", ())}), "saved": going_on})
        self._remove_leftovers()

    def remember_state(self) -> None:
        """Notes that a state was saved here: a run without one is then no longer one that was stopped early."""
        mark = self._mark()
        if not mark.get("saved"):
            self._write_mark(mark | {"saved": True})

    def _make_free(self, known: set[str], *, resume: bool, overwrite: bool, trained: bool) -> None:
        """Removes the run that is in the folder, if it may be replaced.

        One that was to be gone on with may be, if it has not come to its first state yet; not what is finished.
        """
        saved = states(self.path / CHECKPOINTS)
        used = [self.path / name for name in RESULTS if name in known and (self.path / name).exists()]
        names = {path.name for path in used}
        finished = self._mark().get("saved") or "metrics.json" in names
        if resume and not overwrite and trained and not saved and finished and "model.safetensors" in names:
            raise ValueError(
                f"{self.path} holds weights but no training state to resume from; start anew with "
                "train.overwrite = True and train.resume = False, or choose another train.output_dir"
            )
        if (used or saved) and not (overwrite or (resume and not saved)):
            first = used[0].name if used else CHECKPOINTS
            raise ValueError(
                f"{self.path} already holds a run ({first}); go on with train.resume = True, "
                "replace it with train.overwrite = True, or choose another train.output_dir"
            )
        if (mark := self._mark()).get("saved"):
            self._write_mark(mark | {"saved": False})
        for state in saved:
            discard(state)
        for path in used:
            path.unlink()

    def _mark(self) -> dict[str, Any]:
        """What the hidden file says; nothing, if it is not there or damaged."""
        try:
            mark = json.loads((self.path / _MARK).read_text(encoding="utf-8"))
            return mark if all(isinstance(name, str) for name in mark["files"]) else {}
        except (OSError, ValueError, TypeError, KeyError):
            return {}

    def _write_mark(self, mark: dict[str, Any]) -> None:
        write_json(self.path / _MARK, mark)

    def _remove_leftovers(self) -> None:
        """What runs that were killed while writing have left."""
        for name in (*self._mark().get("files", ()), _MARK):
            tidy(self.path / name)
        shutil.rmtree(self.path / TEMPORARY, ignore_errors=True)
        if (self.path / CHECKPOINTS).is_dir():
            for path in (self.path / CHECKPOINTS).iterdir():
                if is_leftover(path):
                    shutil.rmtree(path)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError if another has it; where a file system has no locks, a warning says so."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLK):  # what Windows says
            raise BlockingIOError from error
        if error.errno not in _UNSUPPORTED:
            raise
        logger.warning("this file system has no locks (%s): start no second run on the same folder", error)


def _holder(descriptor: int) -> str:
    """Who has a lock, in words."""
    try:
        said = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {int(said['process'])} on {said['machine']}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "process unknown"


def _let_go() -> None:
    """A loader process that outlives a killed run must not keep the folder locked."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
