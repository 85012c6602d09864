"""Ctrl-C and SIGTERM end a command in one line, and the launcher above it without a traceback.

A command raises KeyboardInterrupt at the first signal; a trainer puts that off to the end of its step
(:class:`seqmm.training.interrupts.Interrupts`). ``accelerate launch`` of one process would show a traceback of its own:
a quarter of a second after Ctrl-C, or when the command ends with another code than 0. It is ended first.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

ONE_REQUEST = 1.0
"""Seconds within which a second signal is the same request: launchers pass on what their processes got already."""


class Received(NamedTuple):
    """A signal."""

    number: int
    moment: float


_received: list[Received] = []
_commands: list[int] = []
"""The launchers (0 = none) of the commands that :func:`ending` surrounds."""


def note(number: int) -> bool:
    """Takes a signal down; returns whether it is a request of its own, and not the last one once more."""
    moment = time.monotonic()
    own = not _received or moment - _received[-1].moment > ONE_REQUEST
    if own:
        _received.append(Received(number, moment))
    if number == signal.SIGINT:
        end_launcher()  # it got Ctrl-C, too
    return own


def exit_code() -> int:
    """Of a command that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_received[-1].number if _received else signal.SIGINT)


@contextmanager
def ending() -> Iterator[None]:
    """Surrounds a command: Ctrl-C and SIGTERM raise KeyboardInterrupt in it."""
    _received.clear()
    try:
        before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: the caller's handlers stay as they are
        before = {}
    _commands.append(_launcher())
    try:
        yield
    finally:
        _commands.pop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    if note(number):
        raise KeyboardInterrupt


def end_launcher() -> None:
    """Ends the ``accelerate launch`` whose only process this command is, if there is one: else it shows a traceback."""
    if _commands and _commands[-1] and os.getppid() == _commands[-1]:
        with suppress(OSError):
            os.kill(_commands[-1], signal.SIGTERM)
        _commands[-1] = 0


def _launcher() -> int:
    """The process that is ``accelerate launch`` of this one process; 0 if there is none."""
    if "ACCELERATE_MIXED_PRECISION" not in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        return 0  # not launched, or by the agent that looks after several
    import psutil

    try:
        words = [Path(word).name for word in psutil.Process(os.getppid()).cmdline()]
    except psutil.Error:
        return 0
    launches = "accelerate" in words and "launch" in words or "accelerate-launch" in words
    return os.getppid() if launches or "accelerate.commands.launch" in words else 0
