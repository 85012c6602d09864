"""Rows to batches. A collator is pure in (seed, epoch, rows): no state, so any number of ranks or workers agree.

Every batch holds ``row_seed [B]`` int64, a hash of (seed, epoch, row) from which a model draws per-row noise.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.random import hash_ints


class Collator(Protocol):
    """What a :class:`~seqmm.models.base.Stage` needs."""

    def __init__(self, corpus: Corpus, seed: int, **options: object) -> None: ...

    def batches(self, epoch: int, size: int) -> list[np.ndarray]:
        """The epoch's GLOBAL batches, each an int64 array of row numbers; the same on every rank."""
        ...

    def __call__(self, epoch: int, rows: np.ndarray) -> dict[str, Tensor]:
        """Tensors of ``rows`` (which may be empty: a rank may have no row of a short batch)."""
        ...


def shuffled(num_rows: int, seed: int, epoch: int, size: int) -> list[np.ndarray]:
    """Row numbers in a seeded random order, cut into batches; the last one may be short."""
    order = np.argsort(hash_ints("order", seed, epoch, np.arange(num_rows)), kind="stable")
    return [order[start : start + size] for start in range(0, num_rows, size)]


def row_seeds(seed: int, epoch: int, rows: np.ndarray) -> Tensor:
    """``[B]`` int64."""
    return torch.from_numpy(hash_ints("row", seed, epoch, np.asarray(rows, dtype=np.int64)).view(np.int64))
