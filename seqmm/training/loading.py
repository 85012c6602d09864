"""Batches of an epoch as the steps of one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

    Args:
        collator: of the stage.
        accelerator: whose process takes its share of the rows of every batch.
        num_workers: loader processes; 0 = none.
        accumulated: batches a step.
    """

    def __init__(self, collator: Collator, accelerator: Accelerator, num_workers: int, accumulated: int):
        self.collator, self.accelerator = collator, accelerator
        self.num_workers, self.accumulated = num_workers, accumulated

    def steps(self, epoch: int, batches: list[np.ndarray], start: int) -> Iterator[list[Share]]:
        """The steps of an epoch from batch ``start`` on; the last one may hold fewer batches."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = [batch[len(batch) * rank // world : len(batch) * (rank + 1) // world] for batch in batches]
        loader: Iterable[dict[str, Tensor]] = DataLoader(
            _Batches(self.collator, epoch, rows[start:]),
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws its base seed from the global generator
        )
        step: list[Share] = []
        for number, batch in enumerate(loader, start):
            tensors = send_to_device(batch, self.accelerator.device, non_blocking=True)
            step.append(Share(tensors, self.collator.num_targets(batches[number])))
            if len(step) == self.accumulated or number == len(batches) - 1:
                yield step
                step = []


class _Batches(Dataset):
    def __init__(self, collator: Collator, epoch: int, rows: list[np.ndarray]):
        self.collator, self.epoch, self.rows = collator, epoch, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return self.collator(self.epoch, self.rows[number])
