"""A model is lent to a trainer: what training changes beside weights and hook state is undone at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from seqmm.distributed import placed


@contextmanager
def borrowed(model: nn.Module, device: object) -> Iterator[None]:
    """Moves a model to a device for a while; then device, mode, ``requires_grad`` and ``forward`` are as before.

    Also after an exception, so that a second trainer finds the model as the first one did.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    training = model.training
    try:
        with placed(model, device):
            yield
    finally:
        for name in ("forward", "_original_forward"):  # accelerate's mixed precision wraps the object's own
            vars(model).pop(name, None)
        for parameter, gradient in wanted:
            parameter.requires_grad_(gradient)
            parameter.grad = None
        model.train(training)
