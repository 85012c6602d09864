"""What a run keeps on disk: training states to go on from, and the best weights."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from accelerate import Accelerator
from safetensors import SafetensorError

from seqmm.hub.access import quietly
from seqmm.models.base import Recommender
from seqmm.models.weights import read_weights

CHECKPOINTS = "checkpoints"
"""Folder of the training states in a run's folder."""


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete training state below ``folder``, or None."""
    found = sorted(folder.glob("state-*-*"), key=lambda path: [int(part) for part in path.name.split("-")[1:]])
    return found[-1] if found else None


def claim_folder(folder: Path, *, resume: bool, overwrite: bool, trained: bool) -> None:
    """Makes a run's folder ready for a run from the start: creates it, or removes the run that is in it.

    Args:
        folder: of the run; there is no training state in it.
        resume: whether the run was to go on from one.
        overwrite: whether a run in the folder may be replaced.
        trained: whether the model is trained at all.

    Raises:
        ValueError: a run is there, and none of its states, or it may not be replaced.
    """
    names = (CHECKPOINTS, "log.jsonl", "model.safetensors", "metrics.json")
    used = [path for path in (folder / name for name in names) if path.exists()]
    if used and trained and resume and (folder / "model.safetensors").exists():
        raise ValueError(
            f"{folder} holds weights but no training state to resume from; replace them with "
            "train.overwrite = True and train.resume = False, or choose another train.output_dir"
        )
    if used and not (overwrite or resume):
        raise ValueError(
            f"{folder} already holds a run ({used[0].name}); go on with train.resume = True, "
            "replace it with train.overwrite = True, or choose another train.output_dir"
        )
    for path in used:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def save_state(accelerator: Accelerator, folder: Path, name: str) -> None:
    """Writes ``folder/state-<name>`` (one rename: whole or not there), then removes older states."""
    target, temporary = folder / f"state-{name}", folder / f".tmp-{name}"
    if accelerator.is_main_process:
        for torn in folder.glob(".tmp-*"):  # what an earlier crash left
            shutil.rmtree(torn)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    with explain_full_disk(temporary):
        accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        older = [path for path in folder.glob("state-*") if path != target]
        if target.exists():  # the same point, saved twice
            shutil.rmtree(temporary)
        else:
            temporary.rename(target)
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def load_state(accelerator: Accelerator, checkpoint: Path) -> None:
    """Loads a training state into what the accelerator has prepared.

    Raises:
        ValueError: it is damaged.
    """
    try:
        accelerator.load_state(str(checkpoint))
    except (SafetensorError, RuntimeError, EOFError, FileNotFoundError) as error:
        raise ValueError(
            f"the training state {checkpoint} cannot be read ({error}); remove it, or start anew "
            "with train.overwrite = True"
        ) from error


def save_weights(accelerator: Accelerator, model: Recommender, folder: Path) -> None:
    """Writes the weights and the config for ``from_pretrained``, each file in one rename."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".weights.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        with explain_full_disk(temporary), quietly():
            accelerator.unwrap_model(model).save_pretrained(temporary)
            for file in temporary.iterdir():
                file.replace(folder / file.name)
        temporary.rmdir()
    accelerator.wait_for_everyone()


def load_weights(accelerator: Accelerator, model: Recommender, folder: Path) -> None:
    """The weights that :func:`save_weights` wrote, read by rank 0 and sent to all."""
    if accelerator.is_main_process:
        model.load_state_dict(read_weights(folder, model))
    if accelerator.num_processes > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
    published = dict(model.named_buffers())
    for name in model.hook_state.keys() & published.keys():
        model.on_state(name, published[name])  # what depends on it is that of these weights again


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Removes a half-written folder after a failure; a full disk is named, whatever library ran into it."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        full = (
            getattr(error, "errno", None) == errno.ENOSPC
            or "No space left" in str(error)
            or "unexpected pos" in str(error)
        )
        if not full:
            raise
        free = shutil.disk_usage(folder.parent).free / 2**20
        raise OSError(
            errno.ENOSPC,
            f"disk full while writing {folder.parent} ({free:.0f} MiB free); the state saved before is untouched. "
            "Free some space, then go on with train.resume = True",
        ) from error
