"""What the training recipes do with a run beside fitting it: access before, a push after."""

from __future__ import annotations

import logging

from seqmm.arguments import HubArguments
from seqmm.foreign import word
from seqmm.hub.access import open_repository
from seqmm.publishing.push import publish_model
from seqmm.run.run import Run
from seqmm.training.callbacks import Callback
from seqmm.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Access(Callback):
    """Makes the repository that the model goes to; no access is known before training, not after."""

    def __init__(self, hub: HubArguments):
        self.hub = hub

    def on_train_start(self, trainer: Trainer) -> None:
        if self.hub.push_to and trainer.accelerator.is_main_process:
            open_repository(self.hub.push_to, "model", private=self.hub.private)


def fit_and_publish(run: Run) -> None:
    """Checks the repository, fits the run, and pushes it if ``hub.push_to`` names a repository."""
    hub = run.settings.hub
    access = Access(hub)
    run.fit([access])
    if hub.push_to and access_is_ours():
        try:
            pushed = publish_model(
                run.output, hub.push_to, corpus_repo=hub.corpus_repo, private=hub.private, revision=hub.revision
            )
        except OSError as error:
            later = f"python recipes/publish.py --model {word(run.output)} --repo {word(hub.push_to)}"
            raise OSError(f"{error}; the run is whole in {run.output}, push it later: {later}") from error
        logger.info("pushed to %s, commit %s", pushed.url, pushed.commit)


def access_is_ours() -> bool:
    """Whether this is the process that pushes."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
