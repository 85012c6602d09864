"""log.jsonl: one JSON object a line, always on; other trackers come from accelerate by name. And the sums it shows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class JsonlTracker:
    """Appends to a file. A resumed run goes on in the same file; a torn last line (kill -9) is cut off first."""

    def __init__(self, path: Path):
        self.path = path
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            if len(whole) < len(text):
                path.write_bytes(whole)

    def log(self, values: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


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
