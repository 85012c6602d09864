"""Writing that says what went wrong, and that has reached the disk when it is done."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

FULL = ("No space left", "Disk quota exceeded", "File too large", "unexpected pos")
"""How libraries that have errors of their own say that a disk, or what they may have of it, is full."""


@contextmanager
def explain_full_disk(folder: Path, temporary: Path | None = None) -> Iterator[None]:
    """Names a full disk, whatever library ran into it; removes what was half written.

    Args:
        folder: what is written belongs to.
        temporary: a folder in which it is written first.

    Raises:
        OSError: the disk is full; any other error is raised as it is.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        said = str(error)
        number = getattr(error, "errno", None)
        if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and not any(words in said for words in FULL):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free / 2**20
        raise OSError(
            errno.ENOSPC,
            f"disk full while writing {folder} ({free:.0f} MiB free); the state saved before is untouched. "
            "Free some space, then go on with train.resume = True",
        ) from error


def sync(*paths: Path) -> None:
    """Waits until files and folders are on the disk, so that a rename which follows never shows half of them."""
    for path in paths:
        if path.is_dir() and os.name == "nt":  # Windows opens no folder
            continue
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
