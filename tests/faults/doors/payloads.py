"""Files that run code when whoever reads them trusts them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tests.faults.hostile import canary


def evil_pickle(folder: Path) -> bytes:
    """What writes the canary when it is unpickled."""
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary(folder)), "w"))

    return pickle.dumps([Evil()])


def evil_torch(folder: Path) -> bytes:
    """The same in a file of torch.save."""
    import torch

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary(folder)), "w"))

    stream = io.BytesIO()
    torch.save({"weight": torch.ones(3, 3), "evil": Evil()}, stream)
    return stream.getvalue()
