"""Numbers of public implementations, read from ``<name>_<n>.npz`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from seqmm.data.corpus import Corpus, Interactions
from seqmm.models.base import Recommender
from tests.conftest import GOLDENS


def golden_files(name: str) -> list[Path]:
    files = sorted(GOLDENS.glob(f"{name}_[0-9]*.npz"))
    assert files, f"no {name}_<n>.npz in {GOLDENS}"
    return files


def train_only_corpus(user: np.ndarray, item: np.ndarray, num_users: int, num_items: int) -> Corpus:
    order = np.lexsort((item, user))
    nothing = np.zeros(0, np.int64)
    empty = Interactions(nothing, nothing, nothing)
    train = Interactions(user[order], item[order], np.arange(len(user)))
    return Corpus("golden", "given", num_users, num_items, {"train": train, "validation": empty, "test": empty})


def load(model: Recommender, golden: dict[str, np.ndarray], names: dict[str, str]) -> Recommender:
    """Copies ``param.<theirs>`` into our parameters, in float64, so that what differs is not rounding."""
    model.load_state_dict({ours: torch.from_numpy(golden[f"param.{theirs}"]) for ours, theirs in names.items()})
    return model.double()


def assert_near(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    """Within ``tolerance`` of the expected array's largest magnitude."""
    error = np.abs(found.detach().numpy() - expected).max()
    assert error <= tolerance * np.abs(expected).max(), f"error {error:.2e}"
