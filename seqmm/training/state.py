"""Where a run is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class TrainState:
    """Where a run is. With counter-based randomness this, the weights and the optimisers are all there is to save."""

    epoch: int = 0
    stage: int = 0
    batch: int = 0
    """Next batch of the stage."""
    step: int = 0
    """Optimiser steps done, all stages."""
    best: float | None = None
    best_epoch: int = 0
    """1-based epoch of the best validation."""
    stale: int = 0
    """Evaluations in a row without improvement."""
    finished: bool = False
    seconds: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    """Metrics of the best epoch."""
    hook_state: dict[str, Tensor] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    """What a resumed run must agree on: model, corpus, features, and every option that changes a result."""

    def state_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return values | {"hook_state": self.hook_state}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)
