"""Where a run is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any


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
    """Of the epochs that are done, evaluations left out."""
    epoch_seconds: float = 0.0
    """Of the epoch under way, when the state was saved."""
    validation: dict[str, float] = field(default_factory=dict)
    """Metrics of the best epoch."""
    config: dict[str, Any] = field(default_factory=dict)
    """What a resumed run must agree on: model, corpus, features, and every option that changes a result."""

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Takes all values over, or none.

        Raises:
            ValueError: a key is missing or unknown, or a value is of another kind.
        """
        empty = asdict(TrainState())
        if wrong := sorted(values.keys() ^ empty.keys()):
            raise ValueError(f"state.{wrong[0]} is {'missing' if wrong[0] in empty else 'unknown'}")
        for name, value in values.items():
            kind: Any = float if name == "best" else type(empty[name])
            right = type(value) is kind or (kind is float and type(value) is int) or (name == "best" and value is None)
            if not right or (kind in (int, float) and value is not None and name != "best" and value < 0):
                raise ValueError(f"state.{name} is {value!r}")
        for each in fields(self):
            setattr(self, each.name, values[each.name])
