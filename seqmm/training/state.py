"""Where a run is, and how it is put on disk so that no crash loses what was saved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
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
    """What a resumed run must agree on: corpus fingerprint, model, seed, batch size."""

    def state_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return values | {"hook_state": self.hook_state}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling that becomes ``path`` in one rename if the block ends well, and vanishes if not."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    publish_folder(temporary, path)


def publish_folder(temporary: Path, path: Path) -> None:
    """Renames; an older ``path`` is moved aside first and removed after, so that one of the two is always whole."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    temporary.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def write_json(values: Any, path: Path) -> None:
    """Writes atomically."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n")
    os.replace(temporary, path)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete training state below ``folder``, or None."""
    found = sorted(folder.glob("state-*"), key=lambda path: int(path.name.split("-")[1]))
    return found[-1] if found else None
