"""Batches of an epoch as the steps of one process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seqmm.data.collators import Collator


class Share(NamedTuple):
    """A process' part of a global batch."""

    tensors: dict[str, Tensor]
    targets: int
    """Targets of the whole batch, its weight among those of one step."""


class Loader:
    """Gives the steps of a stage: lists of :class:`Share`, more than one where gradients are accumulated.

    Its worker processes are started once and live as long as it does: what they need of an epoch comes with each batch.

    Args:
        collator: of the stage.
        accelerator: whose process takes its share of the rows of every batch.
        num_workers: loader processes; 0 = none.
        accumulated: batches a step.
    """

    def __init__(self, collator: Collator, accelerator: Accelerator, num_workers: int, accumulated: int):
        self.collator, self.accelerator, self.accumulated = collator, accelerator, accumulated
        self._order: list[Place] = []
        """Of the epoch under way; the same list always, since it is the loader's sampler."""
        self._loader: DataLoader = DataLoader(
            _Batches(collator),
            batch_size=None,
            sampler=self._order,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=_leave_signals_to_the_trainer if num_workers else None,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws its base seed from the global generator
        )

    def steps(self, epoch: int, batches: list[np.ndarray], start: int) -> Iterator[list[Share]]:
        """The steps of an epoch from batch ``start`` on; the last one may hold fewer batches."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = (batch[len(batch) * rank // world : len(batch) * (rank + 1) // world] for batch in batches[start:])
        self._order[:] = [Place(epoch, mine) for mine in rows]
        step: list[Share] = []
        for number, batch in enumerate(self._loader, start):
            tensors = send_to_device(batch, self.accelerator.device, non_blocking=True)
            step.append(Share(tensors, self.collator.num_targets(batches[number])))
            if len(step) == self.accumulated or number == len(batches) - 1:
                yield step
                step = []


class Place(NamedTuple):
    """Where a process' part of a batch lies: rows ``[b]`` of the collator in an epoch."""

    epoch: int
    rows: np.ndarray


class _Batches(Dataset):
    def __init__(self, collator: Collator):
        self.collator = collator

    def __getitem__(self, place: Place) -> dict[str, Tensor]:
        return self.collator(place.epoch, place.rows)


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group; the step under way still needs its batches."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
