"""Recipes in children that are forked from a process which has imported everything: a run costs its own work alone.

What imports this must have one thread and compute nothing itself (a fork takes no threads along, and whoever waits for
one waits for ever); everything that computes, setting up included, is done in a child. A child is a session of its own,
so that it and whatever it started can be killed together.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
"""Audit events by which a child changes the disk, beside opening a file to write."""
GROWING = {"os.mkdir", "os.link", "os.symlink"}
"""Those that a full disk refuses, beside opening a file to write."""


@dataclass(frozen=True)
class Disturbance:
    """What befalls a run; nothing, unless told.

    Attributes:
        clock: seconds after which it gets ``signal``.
        operation: number of the change to the disk (from 1) before which it kills itself with SIGKILL.
        full: number of the change to the disk from which on nothing new can be made: no space is left.
        file_size: bytes above which a write fails, as on a disk with so much room.
        signal: what it gets.
    """

    clock: float | None = None
    operation: int | None = None
    full: int | None = None
    file_size: int | None = None
    signal: int = signal.SIGKILL

    def __str__(self) -> str:
        if self.operation is not None:
            return f"killed before change {self.operation} of the disk"
        if self.full is not None:
            return f"disk full from change {self.full} on"
        if self.file_size is not None:
            return f"disk full after {self.file_size} bytes of a file"
        return "undisturbed" if self.clock is None else f"{signal.Signals(self.signal).name} after {self.clock:.3f} s"


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    code: int
    """Exit code; below 0 the number of the signal that ended it."""
    out: str
    err: str
    seconds: float
    changes: int = 0
    """Of the disk; 0 if it did not live to say."""
    hung: bool = False
    imported: bool = False
    """Whether it imported anything that was not there."""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL and not self.hung

    @property
    def traced(self) -> bool:
        """Whether it ended in a traceback, or crashed the interpreter."""
        return "Traceback" in self.err or self.code in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)

    @property
    def last_line(self) -> str:
        return (self.err.strip() or self.out.strip() or "(silent)").splitlines()[-1][:300]


def prepare_server() -> None:
    """One thread, and what every recipe imports; what else a child imported is imported here after it (:func:`run`)."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    os.environ.pop("SEQMM_DEBUG", None)
    sys.path[:] = [str(REPOSITORY), *(place for place in sys.path if place != str(REPOSITORY))]
    import torch

    torch.set_num_threads(1)


def recipe(name: str, *arguments: object) -> Callable[[], None]:
    """``python recipes/<name>.py arguments``, or a builder (``tokenized/movielens/build``)."""
    script = REPOSITORY / (f"{name}.py" if "/" in name else f"recipes/{name}.py")

    def call() -> None:
        sys.argv = [str(script), *map(str, arguments)]
        sys.path.insert(0, str(script.parent))
        runpy.run_path(str(script), run_name="__main__")

    return call


def run(
    call: Callable[[], None],
    folder: Path,
    disturbance: Disturbance | None = None,
    *,
    limit: float = 120.0,
    memory: int | None = None,
    environment: dict[str, str] | None = None,
) -> Done:
    """Runs ``call`` in a child whose working directory is ``folder``, and waits for its end.

    Args:
        call: what to do, such as :func:`recipe`.
        folder: working directory, whose changes are counted.
        disturbance: what befalls it.
        limit: seconds after which it counts as hung and is killed.
        memory: bytes of address space it may have above what it starts with; None = any.
        environment: more variables.
    """
    return start(call, folder, disturbance, memory=memory, environment=environment).wait(limit)


def start(
    call: Callable[[], None],
    folder: Path,
    disturbance: Disturbance | None = None,
    *,
    memory: int | None = None,
    environment: dict[str, str] | None = None,
) -> Child:
    """As :func:`run`, without waiting."""
    pipes = [os.pipe() for _ in range(3)]
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        for reading, _ in pipes:
            os.close(reading)
        _child(call, folder, disturbance or Disturbance(), memory, environment or {}, [end for _, end in pipes])
    for _, writing in pipes:
        os.close(writing)
    return Child(pid, [reading for reading, _ in pipes], started, disturbance or Disturbance())


class Child:
    """A run under way."""

    def __init__(self, pid: int, ends: list[int], started: float, disturbance: Disturbance):
        self.pid, self.started, self.disturbance = pid, started, disturbance
        self._ends = ends
        self._said: dict[int, bytearray] = {end: bytearray() for end in ends}

    def send(self, number: int) -> None:
        """A signal to it and all it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def wait(self, limit: float = 120.0) -> Done:
        """Reads what it says to the end, disturbs it when it is time, and says how it ended."""
        pending, hung = self.disturbance.clock, False
        with selectors.DefaultSelector() as selector:
            for end in self._ends:
                selector.register(end, selectors.EVENT_READ)
            while selector.get_map():
                now = time.perf_counter() - self.started
                if pending is not None and now >= pending:
                    self.send(self.disturbance.signal)
                    pending = None
                if now >= limit:
                    hung = True
                    self.send(signal.SIGKILL)
                until = min(limit - now if not hung else 1.0, 60.0 if pending is None else pending - now)
                for key, _ in selector.select(max(until, 0.0)):
                    part = os.read(key.fd, 1 << 16)
                    if part:
                        self._said[key.fd] += part
                    else:
                        selector.unregister(key.fd)
        _, status = os.waitpid(self.pid, 0)
        seconds = time.perf_counter() - self.started
        self.send(signal.SIGKILL)  # whatever it left behind
        for end in self._ends:
            os.close(end)
        out, err, last = (bytes(self._said[end]) for end in self._ends)
        told = json.loads(last) if last else {"changes": 0, "modules": []}
        imported = _import(told["modules"])
        code = os.waitstatus_to_exitcode(status)
        return Done(
            code, out.decode(errors="replace"), err.decode(errors="replace"), seconds, told["changes"], hung, imported
        )


def _import(names: list[str]) -> bool:
    """What a child imported, so that the next ones have it; whether there was anything."""
    before = len(sys.modules)
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return len(sys.modules) > before


# -- in the child ------------------------------------------------------------------------------------------------------


def _child(
    call: Callable[[], None],
    folder: Path,
    disturbance: Disturbance,
    memory: int | None,
    environment: dict[str, str],
    ends: list[int],
) -> None:
    """Never returns."""
    code = 1
    counted = [0]
    _deaf()
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(ends[0], 1)
        os.dup2(ends[1], 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)  # noqa: SIM115
        os.environ.update(environment)
        os.chdir(folder)
        if memory is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
        if disturbance.file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (disturbance.file_size, disturbance.file_size))
        sys.addaudithook(_watch(folder, disturbance, counted))
        code = _finish(call)
    except BaseException:  # noqa: B902 - whatever it was, the parent is told
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        names = _imported()
        os.write(ends[2], json.dumps({"changes": counted[0], "modules": names}).encode())
        os._exit(code)


LIBRARIES = (
    *("seqmm", "torch", "transformers", "accelerate", "datasets", "polars", "pyarrow", "sklearn", "scipy", "PIL"),
    *("huggingface_hub", "safetensors", "tyro", "yaml", "numpy", "open_clip", "tokenizers", "pandas", "typeguard"),
)
"""Of a child's imports, those that the parent repeats."""


def _imported() -> list[str]:
    """Modules that importing by name makes again in the parent."""
    return sorted(name for name in sys.modules if name.split(".")[0] in LIBRARIES)


def _finish(call: Callable[[], None]) -> int:
    """As the interpreter ends a script."""
    code = 0
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            call()
        finally:
            _deaf()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: B902 - the interpreter prints all of them
        traceback.print_exc()
        code = 1
    with contextlib.suppress(AttributeError):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return code


def _deaf() -> None:
    """Signals are for the recipe: one that comes before or after it would hit the harness."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _watch(folder: Path, disturbance: Disturbance, counted: list[int]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that counts changes of the disk below ``folder``, and disturbs them."""
    root, busy = str(folder), [False]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if busy[0] or (event != "open" and event not in CHANGES):
            return
        path = arguments[0]
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (flags & WRITING if isinstance(flags, int) else mode and set(mode) & set("wax+")):
                return
        if isinstance(path, int):
            return
        busy[0] = True
        try:
            name = os.fsdecode(path)
            if os.path.isabs(name) and not name.startswith(root):
                return
            counted[0] += 1
            if counted[0] == disturbance.operation:
                os.killpg(os.getpid(), signal.SIGKILL)
            growing = event == "open" or event in GROWING
            if disturbance.full is not None and counted[0] >= disturbance.full and growing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        finally:
            busy[0] = False

    return hook


@contextlib.contextmanager
def quiet_signals() -> Iterator[None]:
    """Ctrl-C ends the harness, and its children with it (they are of other sessions and do not get it)."""
    try:
        yield
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
