"""log.jsonl: one JSON object a line, always on; other trackers come from accelerate by name. And the sums it shows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqmm.training.disk import explain_full_disk, sync


class JsonlTracker:
    """Appends to a file. A resumed run goes on in the same file; a torn last line (kill -9) is cut off first.

    Args:
        path: of the file.
        length: its bytes when the state was saved that the run goes on from; later lines are cut off, as they will be
            written again. None = it keeps all its whole lines.
    """

    def __init__(self, path: Path, length: int | None = None):
        self.path = path
        if path.exists():
            with path.open("rb+") as file:
                text = file.read()
                whole = text.rfind(b"\n", 0, length) + 1
                if whole < len(text):
                    file.truncate(whole)

    def log(self, values: dict[str, Any]) -> None:
        """Appends a line."""
        with explain_full_disk(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def length(self) -> int:
        """Bytes of the file, which are on the disk then."""
        if not self.path.exists():
            return 0
        sync(self.path)
        return self.path.stat().st_size


class LossSums:
    """Sums loss parts over the steps of an epoch, without waiting for a GPU."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, phase: str, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Counts a batch's parts in; returns them as they are logged: without gradient, under ``phase/part``."""
        prefix = "" if phase == "main" else f"{phase}/"
        named = {prefix + name: value.detach().float() for name, value in losses.items()}
        for name, value in named.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
            self._counts[name] += 1  # a phase has its own steps
        return named

    def check_finite(self, step: int) -> None:
        """Raises FloatingPointError, naming the part, if a sum is not finite."""
        for name, total in self._sums.items():
            if not torch.isfinite(total):
                raise FloatingPointError(
                    f"loss part {name!r} is {float(total)} at step {step}; lower train.learning_rate, set "
                    "train.max_grad_norm, or train without mixed precision"
                )

    def means(self) -> dict[str, float]:
        """Mean of each part; the sums start anew."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, Counter()
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, and of how many steps."""
        return {"sums": dict(self._sums), "counts": Counter(self._counts)}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Goes on from sums that were saved.

        Raises:
            ValueError: they are no sums.
        """
        sums, counts = values["sums"], values["counts"]
        if sums.keys() != counts.keys() or not all(isinstance(x, Tensor) and x.ndim == 0 for x in sums.values()):
            raise ValueError("losses are no sums of losses")
        self._sums, self._counts = dict(sums), Counter(counts)
