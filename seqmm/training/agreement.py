"""Processes of one run must hold the same weights, corpora and products of hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object

from seqmm.data.corpus import Corpus
from seqmm.models.base import Recommender

T = TypeVar("T")


def on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """What rank 0 gets from an action that it alone takes; all wait for it, and its error is everybody's.

    The result is plain values. An error elsewhere than on rank 0 would leave the others waiting for ever.
    """
    result: list[T | None] = [None]
    error: Exception | None = None
    if accelerator.is_main_process:
        try:
            result = [action()]
        except Exception as raised:
            error = raised
    if accelerator.num_processes > 1:
        said: list[object] = [None if error is None else f"process 0: {error}", result[0]]
        broadcast_object_list(said)
        if error is None and said[0] is not None:
            error = ValueError(str(said[0]))
        result = [said[1]]  # type: ignore[list-item]
    if error is not None:
        raise error
    return result[0]  # type: ignore[return-value]


def check_agreement(accelerator: Accelerator, model: Recommender, corpus: Corpus) -> None:
    """Raises ValueError if processes start from different weights or corpora."""
    if accelerator.num_processes > 1:
        weights = sum(parameter.detach().double().abs().sum() for parameter in model.parameters())
        everyone = gather_object([[float(weights), corpus.fingerprint()]])
        if any(other != everyone[0] for other in everyone):
            raise ValueError(f"processes start from different weights or corpora: {everyone}; seed them alike")


def share_hook_state(accelerator: Accelerator, model: Recommender) -> None:
    """Rank 0's products of a hook everywhere: a GPU's arithmetic may differ between machines."""
    if accelerator.num_processes > 1:
        for name, tensor in list(model.hook_state.items()):
            shared = broadcast(tensor.to(accelerator.device)).to(tensor.device)
            if not torch.equal(shared, tensor):
                model.set_state(name, shared, publish=name in dict(model.named_buffers()))
