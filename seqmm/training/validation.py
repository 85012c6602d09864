"""What chooses weights while a model trains. The evaluator is one; training knows no more of it than this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from accelerate import Accelerator
from torch import nn


class Validation(Protocol):
    """What chooses weights: scores a model (:class:`seqmm.Evaluator` is one)."""

    @property
    def names(self) -> Sequence[str]:
        """Of the metrics it computes: "ndcg@10"."""
        ...

    @property
    def rules(self) -> Mapping[str, str]:
        """How it ranks, such as ``{"mask": "train"}``; a resumed run must have the same."""
        ...

    def __call__(self, accelerator: Accelerator, model: nn.Module) -> dict[str, float]:
        """Values by name, the larger the better, the same on every process."""
        ...
