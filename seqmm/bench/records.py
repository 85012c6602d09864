"""What a finished cell leaves: its results in cells/<cell>.json, its users' values in per_user/<cell>.npz."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TypedDict

import numpy as np

from seqmm.files import read_json
from seqmm.schema import Count, Name


class CellRecord(TypedDict):
    """cells/<cell>.json."""

    label: Name
    seed: int
    source: str
    model_type: Name
    validation_users: str | None
    """Which ones chose the weights, if not all."""
    parameters: Count
    validation: dict[str, float]
    test: dict[str, float]
    breakdown: dict[str, dict[str, float]]
    """Kind of target -> users, targets, and each metric."""


def read_cell(file: Path) -> CellRecord:
    """A finished cell's results.

    Raises:
        FileNotFoundError, ValueError: naming the file and the key.
    """
    return read_json(file, CellRecord, "no finished cell", _again(file))


def read_identity(file: Path) -> dict[str, object]:
    """cells/<cell>.started.json: what the cell is made from.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    return read_json(file, dict[str, object], "no cell was started", _again(file))


def read_values(file: Path) -> dict[str, np.ndarray]:
    """The users of a cell's test split, and their value of each metric.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, KeyError, AttributeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} cannot be read ({str(error)[:100]}); {_again(file)}") from error
    shapes = {array.shape for array in values.values()}
    kinds = {array.dtype.kind for name, array in values.items() if name != "users"}
    if "users" not in values or values["users"].dtype.kind not in "iu" or len(shapes) != 1 or not kinds <= {"f"}:
        raise ValueError(f"{file} holds no number for each user and metric; {_again(file)}")
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{file}: {name} is not finite for every user; {_again(file)}")
    return values


def _again(file: Path) -> str:
    name = file.name.removesuffix(".json").removesuffix(".npz").removesuffix(".started")
    return f"delete cells/{name}.json and run the same command again"
