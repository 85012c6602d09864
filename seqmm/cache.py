"""Where files that were downloaded or unpacked are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """SEQMM_CACHE, else ~/.cache/seqmm."""
    return Path(os.environ.get("SEQMM_CACHE") or Path.home() / ".cache" / "seqmm")
