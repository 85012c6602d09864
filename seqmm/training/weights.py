"""The best weights of a run, as ``from_pretrained`` reads them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch.distributed as dist
from accelerate import Accelerator

from seqmm.hub.access import quietly
from seqmm.models.base import Recommender
from seqmm.models.weights import read_weights
from seqmm.training.agreement import on_main
from seqmm.training.disk import explain_full_disk, sync

TEMPORARY = ".weights.tmp"
"""Where they are written, before each file is renamed."""


def save_weights(accelerator: Accelerator, model: Recommender, folder: Path) -> None:
    """Writes the weights and the config for ``from_pretrained``, each file in one rename.

    Raises:
        OSError: a full disk; the weights before are as they were.
    """

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / TEMPORARY
        shutil.rmtree(temporary, ignore_errors=True)
        with explain_full_disk(folder, temporary), quietly():
            accelerator.unwrap_model(model).save_pretrained(temporary)
            files = sorted(temporary.iterdir())
            sync(*files)
            for file in files:
                file.replace(folder / file.name)
            sync(folder)
        temporary.rmdir()

    on_main(accelerator, write)


def load_weights(accelerator: Accelerator, model: Recommender, folder: Path) -> None:
    """The weights that :func:`save_weights` wrote, read by rank 0 and sent to all."""

    def read() -> None:
        model.load_state_dict(read_weights(folder, model))

    on_main(accelerator, read)
    if accelerator.num_processes > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
    published = dict(model.named_buffers())
    for name in model.hook_state.keys() & published.keys():
        model.on_state(name, published[name])  # what depends on it is that of these weights again
