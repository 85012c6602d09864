"""Processes of one run must hold the same weights, corpora and products of hooks."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object

from seqmm.data.corpus import Corpus
from seqmm.models.base import Recommender


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
