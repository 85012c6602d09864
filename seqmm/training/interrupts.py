"""Ctrl-C, and being asked to end (SIGTERM): after the step under way."""

from __future__ import annotations

import signal
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

from seqmm.signals import note


class Interrupts:
    """A context in which the first Ctrl-C is a request, :attr:`requested`, and only the second one ends at once.

    A request that nobody met until the context ends is raised there: what comes next, such as a benchmark's next run,
    does not start.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        try:
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: the caller's interrupts stay as they are
            self._before = {}
        return self

    def __exit__(self, raised: object, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.requested and raised is None:
            raise KeyboardInterrupt("What was trained is saved")

    def _ask(self, number: int, frame: Any) -> None:
        own = note(number)
        if self.requested and own:
            raise KeyboardInterrupt
        self.requested = True

    def on_any(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked; every process gets the same answer."""
        if accelerator.num_processes == 1:
            return self.requested
        flag = torch.tensor(int(self.requested), device=accelerator.device)
        dist.all_reduce(flag)
        return bool(flag)
