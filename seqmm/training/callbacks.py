"""What may look into a run: four hooks and a clock's place around each part of a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from seqmm.training.trainer import Trainer

Part = Literal["sample", "hooks", "forward", "backward", "optimise", "evaluate"]
"""sample: making batches; hooks: the model's own; optimise: clipping and the update; evaluate: a validation."""


class Callback:
    """Base of what is called while a model trains; override what you need and pass it as ``Trainer(callbacks=[…])``.

    Every process calls it. It may read all of the trainer's public attributes (``model``, ``state``, ``optimizers``,
    ``accelerator`` …). To end a run, set ``trainer.state.finished`` in :meth:`on_epoch_end` or :meth:`on_evaluate`, or
    call ``trainer.interrupt()``, which saves the state after the step under way, as Ctrl-C does. A callback that draws
    random numbers must use a generator of its own; what it keeps is not part of the saved state.

    Example:
        >>> class Losses(Callback):
        ...     def __init__(self):
        ...         self.values = []
        ...
        ...     def on_step_end(self, trainer, losses):
        ...         self.values.append(float(losses["loss"]))
    """

    def on_train_start(self, trainer: Trainer) -> None:
        """Once, when the output folder is taken and a saved state is loaded, before the first step."""

    def on_step_end(self, trainer: Trainer, losses: dict[str, Tensor]) -> None:
        """After each step (all phases, and the model's own hook); ``trainer.state.step`` counts it.

        ``losses`` holds the parts of the step's last batch without gradient, those of a phase other than "main" as
        ``phase/part``.
        """

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After the last step of an epoch; ``trainer.state.epoch`` counts it. A validation comes afterwards."""

    def on_evaluate(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """After a validation; better weights than before are saved already."""

    def timed(self, part: Part) -> AbstractContextManager[object]:
        """A context that each part of the work runs in, to time it (recipes/speed.py) or to name it for a profiler."""
        return nullcontext()


class Callbacks(Callback):
    """Several callbacks as one, called in their order."""

    def __init__(self, callbacks: Iterable[Callback]):
        self.callbacks = list(callbacks)

    def on_train_start(self, trainer: Trainer) -> None:
        for callback in self.callbacks:
            callback.on_train_start(trainer)

    def on_step_end(self, trainer: Trainer, losses: dict[str, Tensor]) -> None:
        for callback in self.callbacks:
            callback.on_step_end(trainer, losses)

    def on_epoch_end(self, trainer: Trainer) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(trainer)

    def on_evaluate(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        for callback in self.callbacks:
            callback.on_evaluate(trainer, metrics)

    @contextmanager
    def timed(self, part: Part) -> Iterator[None]:
        with ExitStack() as stack:
            for callback in self.callbacks:
                stack.enter_context(callback.timed(part))
            yield
